// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a committed region to memory under a driver and a policy.
//!
//! For system RAM there are three ways, and the tool says which one it took:
//!
//! - **Region drivers** (`cxl_sysram_region`, `cxl_dax_kmem_region`): the policy is set on the region before its memory
//!   exists. The kernel keeps it.
//! - **The stock drivers with a policy**: the dax bus is kept from giving the new device to kmem by itself, then kmem takes
//!   it while the system's default online type is the wanted one. kmem adds and onlines in one go under the kernel's hotplug
//!   lock, so that no block is ever there offline for udev to take. Two system-wide settings change for a moment and are
//!   always put back; other memory that is hot-plugged in that moment is treated in the same way.
//! - **The stock drivers as they are**: the system's default decides.
//!
//! Over dynamic capacity there are region drivers only, and the region starts empty: nothing is waited for, and nothing counted.
//!
//! For memory that applications map there are two: the region drivers (`cxl_devdax_region`, `cxl_dax_device_region`), which
//! set the mode before there is a dax device, and keep it from ever becoming system RAM; and the stock driver, with the dax bus
//! kept from giving the new device to kmem until the mode's driver has taken it.

use cxl_sysfs::Goal;
use cxl_sysfs::Snapshot;
use cxl_sysfs::device::DAX_AUTOPROBE;
use cxl_sysfs::memory::AUTO_ONLINE;
use cxl_sysfs::region::Region;
use region_policy::dax_mode::DaxMode;
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
/// The driver that takes the `dax_regionN` of a region that applications map.
pub const DAX_DEVICE: &str = "cxl_dax_device_region";

/// What the user wants done with the region once it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// System RAM under this policy, through region drivers if there are any.
    Sysram(OnlineType),
    /// System RAM that the fabric wants back some day, in a kernel zone, from which it may never come back.
    SysramForGood(OnlineType),
    /// Dax devices for applications, in this mode, through region drivers if there are any.
    Devdax(DaxMode),
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
    /// Region drivers, over dynamic capacity.
    Dynamic(OnlineType),
    /// The same, with the policy's kernel zone allowed.
    DynamicForGood(OnlineType),
    /// The stock drivers, with system-wide settings held.
    Held(OnlineType),
    /// Region drivers, for applications.
    DevdaxDrivers(DaxMode),
    /// The stock driver, for applications, with a system-wide setting held.
    HeldDevdax(DaxMode),
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
        match wanted {
            Wanted::Sysram(online_type) | Wanted::SysramForGood(online_type) => {
                served(RegionDriver::Sysram, mode)?;
                needs_kmem(snapshot)?;
                let ours = has(snapshot, RegionDriver::Sysram.name()) && has(snapshot, DAX_KMEM);
                let for_good = matches!(wanted, Wanted::SysramForGood(_));
                if mode == PartitionMode::DynamicCapacity {
                    return if ours {
                        Self::dynamic(online_type, for_good)
                    } else {
                        Err(no_region_drivers(RegionDriver::Sysram))
                    };
                }
                if for_good {
                    return Err(Refusal::new(
                        format!("nothing keeps a {mode} region out of kernel zones"),
                        "only the memory of a region over dynamic capacity is wanted back by others",
                        "leave out --allow-kernel-zones",
                    ));
                }
                Ok(if ours {
                    Self::RegionDrivers(online_type)
                } else {
                    Self::Held(online_type)
                })
            }
            Wanted::Devdax(dax_mode) => {
                served(RegionDriver::Devdax, mode)?;
                let ours = has(snapshot, RegionDriver::Devdax.name()) && has(snapshot, DAX_DEVICE);
                if ours {
                    return Ok(Self::DevdaxDrivers(dax_mode));
                }
                if mode == PartitionMode::DynamicCapacity {
                    return Err(no_region_drivers(RegionDriver::Devdax));
                }
                let driver = dax_mode.driver();
                if snapshot.dax_drivers.iter().all(|name| name != driver) {
                    return Err(Refusal::new(
                        format!("{driver} is not loaded"),
                        format!("dax devices in the mode {dax_mode} are its"),
                        format!("load it: modprobe {driver}"),
                    )
                    .at(super::dax_driver(driver).display().to_string()));
                }
                Ok(Self::HeldDevdax(dax_mode))
            }
            Wanted::Stock(online_type) => {
                if mode != PartitionMode::Ram {
                    return Err(Refusal::new(
                        format!("a {mode} region has no online type"),
                        "only volatile memory becomes system RAM by itself",
                        "leave out --online-type",
                    ));
                }
                needs_kmem(snapshot)?;
                Ok(Self::Held(online_type))
            }
            Wanted::StockDefault => {
                served(RegionDriver::Stock, mode)?;
                Ok(Self::Plain)
            }
            Wanted::Nothing => Ok(Self::Unbound),
        }
    }

    /// System RAM over dynamic capacity, in a zone that suits it.
    fn dynamic(online_type: OnlineType, for_good: bool) -> Result<Self, Refusal> {
        match online_type.admits_kernel_zones() {
            false => Ok(Self::Dynamic(online_type)),
            true if for_good => Ok(Self::DynamicForGood(online_type)),
            true => Err(Refusal::new(
                format!("{online_type} may put the region's memory into a kernel zone"),
                "the fabric wants dynamic capacity back some day, and memory in a kernel zone may never come back",
                "choose --online-type online_movable, or insist with --allow-kernel-zones",
            )),
        }
    }

    /// How the way is told to the user.
    #[must_use]
    pub fn detected(self) -> String {
        match self {
            Self::RegionDrivers(policy) => format!(
                "cxl_sysram_region and cxl_dax_kmem_region: the policy {policy} is set before the memory exists, and kept"
            ),
            Self::Dynamic(policy) => format!(
                "cxl_sysram_region and cxl_dax_kmem_region: what the fabric gives comes {policy}, extent by extent, and goes \
                 back when it asks"
            ),
            Self::DynamicForGood(policy) => format!(
                "cxl_sysram_region and cxl_dax_kmem_region: what the fabric gives comes {policy}, extent by extent, and may \
                 never go back"
            ),
            Self::Held(policy) => format!(
                "no region drivers in use: the stock cxl_region, and kmem while the system default is held at {policy}; \
                 nothing keeps other agents from changing blocks later"
            ),
            Self::DevdaxDrivers(mode) => format!(
                "cxl_devdax_region and cxl_dax_device_region: the mode {mode} is set before the device exists, and kmem is \
                 refused"
            ),
            Self::HeldDevdax(mode) => format!(
                "no region drivers in use: the stock cxl_region, and {} while kmem is held back; nothing keeps the memory \
                 from becoming system RAM later",
                mode.driver()
            ),
            Self::Plain => "the stock cxl_region: the system default decides".to_owned(),
            Self::Unbound => "no driver: the region is committed, and its memory unused".to_owned(),
        }
    }

    /// The driver that the region is bound to.
    #[must_use]
    pub fn driver(self) -> Option<&'static str> {
        match self {
            Self::RegionDrivers(_) | Self::Dynamic(_) | Self::DynamicForGood(_) => {
                Some(RegionDriver::Sysram.name())
            }
            Self::DevdaxDrivers(_) => Some(RegionDriver::Devdax.name()),
            Self::Held(_) | Self::HeldDevdax(_) | Self::Plain => Some(RegionDriver::Stock.name()),
            Self::Unbound => None,
        }
    }

    /// The steps; `left_behind` where an earlier driver had to leave memory of the region behind.
    #[must_use]
    pub fn steps(
        self,
        snapshot: &Snapshot,
        region: &str,
        mode: PartitionMode,
        left_behind: bool,
    ) -> Vec<Step> {
        match self {
            Self::RegionDrivers(policy) => region_drivers(region, policy, left_behind),
            Self::Dynamic(policy) => dynamic(region, policy, None),
            Self::DynamicForGood(policy) => {
                dynamic(region, policy, Some(allow_kernel_zones(region)))
            }
            Self::Held(policy) => held(region, policy),
            Self::DevdaxDrivers(dax_mode) => devdax_drivers(region, dax_mode),
            Self::HeldDevdax(dax_mode) => held_devdax(region, dax_mode),
            Self::Plain => vec![plain(snapshot, region, mode)],
            Self::Unbound => Vec::new(),
        }
    }
}

fn has(snapshot: &Snapshot, driver: &str) -> bool {
    snapshot.cxl_drivers.iter().any(|name| name == driver)
}

fn served(driver: RegionDriver, mode: PartitionMode) -> Result<(), Refusal> {
    driver.admits(mode).map_err(|unserved| {
        Refusal::new(
            unserved.to_string(),
            "each driver serves its own types of region",
            "choose another --driver or --type",
        )
    })
}

fn needs_kmem(snapshot: &Snapshot) -> Result<(), Refusal> {
    if snapshot.dax_drivers.iter().any(|name| name == "kmem") {
        return Ok(());
    }
    Err(Refusal::new(
        "kmem is not loaded",
        "kmem makes dax devices system RAM",
        "load it: modprobe kmem",
    )
    .at(super::dax_driver("kmem").display().to_string()))
}

fn no_region_drivers(driver: RegionDriver) -> Refusal {
    Refusal::new(
        format!("{driver} is not loaded"),
        "only region drivers know of dynamic capacity: others would use memory that is not there",
        "load it: modprobe cxl_regions",
    )
    .at(super::cxl_driver(driver.name()).display().to_string())
}

fn region_drivers(region: &str, policy: OnlineType, left_behind: bool) -> Vec<Step> {
    let sysram = sysram_region(region);
    let mut undo = vec![unbind(DAX_KMEM, &sysram)];
    let mut complete = None;
    if left_behind {
        // It is taken up as it is, and some of it may have gone meanwhile.
        let reach = Action::Reach {
            devices: Devices::OfRegion(region.to_owned()),
            goal: Goal::Plugged(policy),
        };
        complete = Some(Step::new(
            format!("bring all memory of {region} {policy}"),
            reach,
        ));
    } else {
        // What could not go before cannot go now.
        undo.insert(0, unplug(region));
    }
    let mut steps = vec![
        give(region, RegionDriver::Sysram.name()),
        set_policy(region, policy),
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
        .undone_by(undo)
        .even_if_it_fails(),
    ];
    steps.extend(complete);
    steps.push(verify(region, policy));
    steps
}

/// The policy, which memory that was left behind may contradict.
fn set_policy(region: &str, policy: OnlineType) -> Step {
    Step::new(
        format!("set the policy {policy} of {region}"),
        Action::SetPolicy {
            region: region.to_owned(),
            policy,
        },
    )
}

/// The region starts empty: its memory comes when the fabric gives it.
fn dynamic(region: &str, policy: OnlineType, before: Option<Action>) -> Vec<Step> {
    let sysram = sysram_region(region);
    let mut steps = vec![give(region, RegionDriver::Sysram.name())];
    steps.extend(before.map(|action| {
        Step::new(
            format!("allow the memory of {region} into kernel zones"),
            action,
        )
    }));
    steps.push(set_policy(region, policy));
    steps.push(
        Step::new(
            format!("give {sysram} to {DAX_KMEM}"),
            bind(DAX_KMEM, &sysram, None),
        )
        .undone_by(vec![unplug(region), unbind(DAX_KMEM, &sysram)]),
    );
    steps
}

/// Lets a policy over dynamic capacity be for kernel zones.
#[must_use]
pub fn allow_kernel_zones(region: &str) -> Action {
    write(&sysram_region(region), "allow_kernel_zones", "1")
}

fn held(region: &str, policy: OnlineType) -> Vec<Step> {
    vec![
        stock_without_dax_driver(region),
        Step::new(
            format!("give the memory of {region} to kmem as {policy}"),
            bind_kmem(region, policy),
        )
        .undone_by(vec![unplug(region)])
        .even_if_it_fails(),
        verify(region, policy),
    ]
}

fn devdax_drivers(region: &str, mode: DaxMode) -> Vec<Step> {
    let dax_region = dax_region(region);
    vec![
        give(region, RegionDriver::Devdax.name()),
        Step::new(
            format!("set the mode {mode} of {region}"),
            write(&dax_region, "dax_mode", mode.as_str()),
        ),
        give(&dax_region, DAX_DEVICE),
    ]
}

/// A device on the CXL bus goes to a driver below which no memory appears yet.
fn give(device: &str, driver: &str) -> Step {
    Step::new(
        format!("give {device} to {driver}"),
        bind(driver, device, None),
    )
    .undone_by(vec![unbind(driver, device)])
}

/// From one mode to another, for all dax devices of a region, where its drivers stay the same; also for devices that were
/// made since. The kernel does it whole or not at all, and not where somebody uses a device.
#[must_use]
pub fn switch_mode(region: &Region, way: Way) -> Option<Step> {
    let devdax = region.devdax.as_ref().filter(|it| it.driver.is_some())?;
    let (Way::DevdaxDrivers(mode), Some(before)) = (way, devdax.dax_mode) else {
        return None;
    };
    let write = |mode: DaxMode| write(&devdax.name, "dax_mode", mode.as_str());
    let what = format!(
        "give the dax devices of {} to {}",
        region.name,
        mode.driver()
    );
    Some(Step::new(what, write(mode)).undone_by(vec![write(before)]))
}

fn held_devdax(region: &str, mode: DaxMode) -> Vec<Step> {
    vec![
        stock_without_dax_driver(region),
        // It goes with the region's driver.
        Step::new(
            format!("give the dax device of {region} to {}", mode.driver()),
            bind_mode(region, mode),
        ),
    ]
}

/// The stock driver makes a dax device that nobody takes yet.
fn stock_without_dax_driver(region: &str) -> Step {
    let driver = RegionDriver::Stock.name();
    Step::new(
        format!("give {region} to {driver}"),
        bind_without_dax_driver(region),
    )
    .undone_by(vec![take_from_stock(region)])
    .even_if_it_fails()
}

/// Takes a region from the stock driver, nothing where that does not hold it.
///
/// The region's dax device comes some time after the driver, and kmem would take it in that moment: the unbind waits for it,
/// and strands its memory. So meanwhile the bus gives no device to a driver, and what kmem has got before is unplugged.
#[must_use]
pub fn take_from_stock(region: &str) -> Action {
    Action::Hold {
        path: DAX_AUTOPROBE.into(),
        value: "0".to_owned(),
        during: vec![
            Action::Settle(region.to_owned()),
            unplug(region),
            unbind(RegionDriver::Stock.name(), region),
        ],
    }
}

fn bind_without_dax_driver(region: &str) -> Action {
    let appears = Appears {
        region: region.to_owned(),
        with_kmem: false,
    };
    Action::Hold {
        path: DAX_AUTOPROBE.into(),
        value: "0".to_owned(),
        during: vec![bind(RegionDriver::Stock.name(), region, Some(appears))],
    }
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
    .undone_by(vec![take_from_stock(region)])
    .even_if_it_fails()
}

/// What became of a region's dax devices, for putting it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// kmem had them, and their memory was this.
    Memory(Goal),
    /// They were for applications.
    Mappable(DaxMode),
}

/// The steps that put a region back under the stock driver as it was, for undoing.
#[must_use]
pub fn stock_again(region: &str, before: Option<Before>) -> Vec<Action> {
    let back = bind_without_dax_driver(region);
    match before {
        None => vec![bind(RegionDriver::Stock.name(), region, None)],
        Some(Before::Mappable(mode)) => vec![back, bind_mode(region, mode)],
        Some(Before::Memory(Goal::Plugged(policy))) => vec![back, bind_kmem(region, policy)],
        // kmem always plugs what it takes, so it takes it in the way that is easiest to take back.
        Some(Before::Memory(Goal::Unplugged)) => vec![
            back,
            bind_kmem(region, OnlineType::OnlineMovable),
            unplug(region),
        ],
    }
}

/// The steps that give a region's memory back to `cxl_dax_kmem_region` as it was, for undoing.
#[must_use]
pub fn kmem_region_again(region: &str, before: Option<Before>) -> Vec<Action> {
    // Without memory before there is nothing to wait for: what the fabric gave went back to it.
    let appears = before.map(|_| Appears {
        region: region.to_owned(),
        with_kmem: true,
    });
    let mut actions = vec![bind(DAX_KMEM, &sysram_region(region), appears)];
    // Its memory comes back as the policy says, and leaves again where it had been unplugged.
    actions.extend((before == Some(Before::Memory(Goal::Unplugged))).then(|| unplug(region)));
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

/// The driver of a mode takes the region's dax devices.
fn bind_mode(region: &str, mode: DaxMode) -> Action {
    Action::BindMode(Devices::OfRegion(region.to_owned()), mode)
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

/// The device below a region that applications map, on which its mode is set: `dax_region3` of `region3`.
#[must_use]
pub fn dax_region(region: &str) -> String {
    format!("dax_{region}")
}
