// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a committed region to memory under a driver and a policy.
//!
//! There are three ways, and the tool says which one it took:
//!
//! - **Region drivers** (`cxl_sysram_region`, `cxl_dax_kmem_region`): the policy is set on the region before its memory
//!   exists. The kernel keeps it.
//! - **The stock drivers with a policy**: the dax bus is kept from giving the new device to kmem by itself, then kmem takes
//!   it while the system's default online type is the wanted one. kmem adds and onlines in one go under the kernel's hotplug
//!   lock, so that no block is ever there offline for udev to take. Two system-wide settings change for a moment and are
//!   always put back; other memory that is hot-plugged in that moment is treated in the same way.
//! - **The stock drivers as they are**: the system's default decides.

use cxl_sysfs::Goal;
use cxl_sysfs::Snapshot;
use cxl_sysfs::device::DAX_AUTOPROBE;
use cxl_sysfs::memory::AUTO_ONLINE;
use region_policy::matrix::PartitionMode;
use region_policy::matrix::RegionDriver;
use region_policy::online_type::OnlineType;

use super::Action;
use super::Appears;
use super::Devices;
use super::Step;
use super::write;
use crate::problem::Refusal;

/// The driver that takes `sysram_regionN`.
pub const DAX_KMEM: &str = "cxl_dax_kmem_region";

/// What the user wants done with the region once it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// System RAM under this policy, through region drivers if there are any.
    Sysram(OnlineType),
    /// The stock driver, under this policy.
    Stock(OnlineType),
    /// The stock driver, and what the system does by default.
    StockDefault,
    /// No driver.
    Nothing,
}

/// How it is done on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Region drivers.
    RegionDrivers(OnlineType),
    /// The stock drivers, with system-wide settings held.
    Held(OnlineType),
    /// The stock drivers as they are.
    Plain,
    /// No driver.
    Unbound,
}

impl Way {
    /// What this machine offers for what is wanted.
    ///
    /// # Errors
    /// When a driver that is needed is missing, or does not serve this type of region.
    pub fn choose(
        snapshot: &Snapshot,
        wanted: Wanted,
        mode: PartitionMode,
    ) -> Result<Self, Refusal> {
        let has = |driver: &str| snapshot.cxl_drivers.iter().any(|name| name == driver);
        let needs_kmem = || {
            if snapshot.dax_drivers.iter().any(|name| name == "kmem") {
                return Ok(());
            }
            Err(Refusal::new(
                "kmem is not loaded",
                "kmem makes dax devices system RAM",
                "load it: modprobe kmem",
            )
            .at(super::dax_driver("kmem").display().to_string()))
        };
        let served = |driver: RegionDriver| {
            driver.admits(mode).map_err(|unserved| {
                Refusal::new(
                    unserved.to_string(),
                    "each driver serves its own types of region",
                    "choose another --driver or --type",
                )
            })
        };
        match wanted {
            Wanted::Sysram(online_type) => {
                served(RegionDriver::Sysram)?;
                needs_kmem()?;
                if has(RegionDriver::Sysram.name()) && has(DAX_KMEM) {
                    Ok(Self::RegionDrivers(online_type))
                } else {
                    Ok(Self::Held(online_type))
                }
            }
            Wanted::Stock(online_type) => {
                if mode != PartitionMode::Ram {
                    return Err(Refusal::new(
                        format!("a {mode} region has no online type"),
                        "only volatile memory becomes system RAM by itself",
                        "leave out --online-type",
                    ));
                }
                needs_kmem()?;
                Ok(Self::Held(online_type))
            }
            Wanted::StockDefault => {
                served(RegionDriver::Stock)?;
                Ok(Self::Plain)
            }
            Wanted::Nothing => Ok(Self::Unbound),
        }
    }

    /// How the way is told to the user.
    #[must_use]
    pub fn detected(self) -> String {
        match self {
            Self::RegionDrivers(policy) => format!(
                "cxl_sysram_region and cxl_dax_kmem_region: the policy {policy} is set before the memory exists, and kept"
            ),
            Self::Held(policy) => format!(
                "no region drivers in use: the stock cxl_region, and kmem while the system default is held at {policy}; \
                 nothing keeps other agents from changing blocks later"
            ),
            Self::Plain => "the stock cxl_region: the system default decides".to_owned(),
            Self::Unbound => "no driver: the region is committed, and its memory unused".to_owned(),
        }
    }

    /// The driver that the region is bound to.
    #[must_use]
    pub fn driver(self) -> Option<&'static str> {
        match self {
            Self::RegionDrivers(_) => Some(RegionDriver::Sysram.name()),
            Self::Held(_) | Self::Plain => Some(RegionDriver::Stock.name()),
            Self::Unbound => None,
        }
    }

    /// The steps.
    #[must_use]
    pub fn steps(self, snapshot: &Snapshot, region: &str, mode: PartitionMode) -> Vec<Step> {
        match self {
            Self::RegionDrivers(policy) => region_drivers(region, policy),
            Self::Held(policy) => held(region, policy),
            Self::Plain => vec![plain(snapshot, region, mode)],
            Self::Unbound => Vec::new(),
        }
    }
}

fn region_drivers(region: &str, policy: OnlineType) -> Vec<Step> {
    let sysram = sysram_region(region);
    let driver = RegionDriver::Sysram.name();
    vec![
        Step::new(
            format!("give {region} to {driver}"),
            bind(driver, region, None),
        )
        .undone_by(vec![unbind(driver, region)]),
        Step::new(
            format!("set the policy {policy} of {region}"),
            write(&sysram, "online_type", policy.as_str()),
        ),
        Step::new(
            format!("give {sysram} to {DAX_KMEM}"),
            bind(
                DAX_KMEM,
                &sysram,
                Some(Appears {
                    region: region.to_owned(),
                    with_kmem: true,
                }),
            ),
        )
        .undone_by(vec![unplug(region), unbind(DAX_KMEM, &sysram)])
        .even_if_it_fails(),
        verify(region, policy),
    ]
}

fn held(region: &str, policy: OnlineType) -> Vec<Step> {
    let driver = RegionDriver::Stock.name();
    let appears = Appears {
        region: region.to_owned(),
        with_kmem: false,
    };
    vec![
        Step::new(
            format!("give {region} to {driver}"),
            Action::Hold {
                path: DAX_AUTOPROBE.into(),
                value: "0".to_owned(),
                during: vec![bind(driver, region, Some(appears))],
            },
        )
        .undone_by(vec![unbind(driver, region)])
        .even_if_it_fails(),
        Step::new(
            format!("give the memory of {region} to kmem as {policy}"),
            bind_kmem(region, policy),
        )
        .undone_by(vec![unplug(region)])
        .even_if_it_fails(),
        verify(region, policy),
    ]
}

fn plain(snapshot: &Snapshot, region: &str, mode: PartitionMode) -> Step {
    let driver = RegionDriver::Stock.name();
    // A persistent region's dax devices come from a namespace, which is another tool's work.
    let with_kmem = snapshot.dax_drivers.iter().any(|name| name == "kmem");
    let appears = (mode == PartitionMode::Ram).then(|| Appears {
        region: region.to_owned(),
        with_kmem,
    });
    Step::new(
        format!("give {region} to {driver}"),
        bind(driver, region, appears),
    )
    .undone_by(vec![unplug(region), unbind(driver, region)])
    .even_if_it_fails()
}

/// The steps that put a region back under the stock driver as it was, for undoing.
#[must_use]
pub fn stock_again(region: &str, goal: Option<Goal>) -> Vec<Action> {
    let driver = RegionDriver::Stock.name();
    let Some(goal) = goal else {
        return vec![bind(driver, region, None)];
    };
    let appears = Appears {
        region: region.to_owned(),
        with_kmem: false,
    };
    let back = Action::Hold {
        path: DAX_AUTOPROBE.into(),
        value: "0".to_owned(),
        during: vec![bind(driver, region, Some(appears))],
    };
    match goal {
        Goal::Plugged(policy) => vec![back, bind_kmem(region, policy)],
        // kmem always plugs what it takes, so it takes it in the way that is easiest to take back.
        Goal::Unplugged => vec![
            back,
            bind_kmem(region, OnlineType::OnlineMovable),
            unplug(region),
        ],
    }
}

/// The steps that give a region's memory back to `cxl_dax_kmem_region` as it was, for undoing.
#[must_use]
pub fn kmem_region_again(region: &str, before: Option<Goal>) -> Vec<Action> {
    let appears = Appears {
        region: region.to_owned(),
        with_kmem: true,
    };
    let mut actions = vec![bind(DAX_KMEM, &sysram_region(region), Some(appears))];
    // Its memory comes back as the policy says, and leaves again where it had been unplugged.
    actions.extend((before == Some(Goal::Unplugged)).then(|| unplug(region)));
    actions
}

/// kmem takes the region's dax devices while the system default is `policy`.
fn bind_kmem(region: &str, policy: OnlineType) -> Action {
    Action::Hold {
        path: AUTO_ONLINE.into(),
        value: policy.as_str().to_owned(),
        during: vec![Action::BindKmem(Devices::OfRegion(region.to_owned()))],
    }
}

fn verify(region: &str, policy: OnlineType) -> Step {
    let devices = Devices::OfRegion(region.to_owned());
    Step::new(
        format!("find all memory of {region} {policy}"),
        Action::Verify {
            devices,
            goal: Goal::Plugged(policy),
        },
    )
}

fn unplug(region: &str) -> Action {
    Action::Reach {
        devices: Devices::OfRegion(region.to_owned()),
        goal: Goal::Unplugged,
    }
}

/// Gives a CXL device to a driver.
#[must_use]
pub fn bind(driver: &str, device: &str, appears: Option<Appears>) -> Action {
    Action::Bind {
        driver: driver.to_owned(),
        device: device.to_owned(),
        appears,
    }
}

/// Takes a CXL device from a driver.
#[must_use]
pub fn unbind(driver: &str, device: &str) -> Action {
    Action::Unbind {
        driver: driver.to_owned(),
        device: device.to_owned(),
    }
}

/// The device below a region on which its policy is set: `sysram_region3` of `region3`.
#[must_use]
pub fn sysram_region(region: &str) -> String {
    format!("sysram_{region}")
}
