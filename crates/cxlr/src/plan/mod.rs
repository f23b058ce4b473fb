// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plans: what would be written, worked out from a snapshot without touching anything.
//!
//! A plan is a list of [`Step`]s, each with what undoes it. [`create`], [`bind`], [`hotplug`] and [`destroy`] make plans or
//! refuse with a reason; [`crate::transaction`] carries them out.
//!
//! - [`memdevs`] finds the memdevs that the user named.
//! - [`interleave`] puts them into an order that the topology accepts.
//! - [`space`] finds the range of addresses, the capacity and the decoders.
//! - [`attach`] brings a committed region under its driver and policy.
//! - `left_behind` knows the memory that no driver of a region has any more.

pub mod attach;
pub mod bind;
pub mod create;
pub mod destroy;
pub mod hotplug;
pub mod interleave;
mod left_behind;
pub mod memdevs;
pub mod space;

use std::path::PathBuf;

use cxl_sysfs::Goal;
use cxl_sysfs::dax::DaxDevice;
use cxl_sysfs::device::CXL_DEVICES;
use cxl_sysfs::device::CXL_DRIVERS;
use cxl_sysfs::device::DAX_DRIVERS;
use region_policy::dax_mode::DaxMode;
use region_policy::online_type::OnlineType;

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does, as a phrase that follows "could not": `commit region0`.
    pub what: String,
    /// The step itself.
    pub action: Action,
    /// What undoes it, in this order.
    pub undo: Vec<Action>,
    /// Whether it may leave something behind even when it fails, so that it is undone then as well. All its undoing
    /// actions must then do no harm where there is nothing to undo.
    pub partial: bool,
}

/// Something that is done to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Writes an attribute.
    Write {
        /// The attribute.
        path: PathBuf,
        /// The value.
        value: String,
    },
    /// Has a system-wide attribute at `value` while `during` runs, and always puts it back.
    Hold {
        /// The attribute.
        path: PathBuf,
        /// Its value meanwhile.
        value: String,
        /// What runs meanwhile.
        during: Vec<Action>,
    },
    /// Gives a CXL device to a driver.
    Bind {
        /// The driver.
        driver: String,
        /// The device.
        device: String,
        /// What the driver's taking it brings about later; waited for.
        appears: Option<Appears>,
    },
    /// Takes a CXL device from a driver; nothing where that driver does not hold it.
    Unbind {
        /// The driver.
        driver: String,
        /// The device.
        device: String,
    },
    /// Sets the policy of a region that `cxl_sysram_region` has.
    SetPolicy {
        /// The region.
        region: String,
        /// The policy.
        policy: OnlineType,
    },
    /// Gives dax devices that have no driver to kmem, whose memory comes online as `online_type` says while it is held.
    BindKmem(Devices),
    /// Gives dax devices that have no driver to the driver of a mode, which does not look for devices of a RAM region by
    /// itself.
    BindMode(Devices, DaxMode),
    /// Brings dax devices to a goal, through the best that kmem offers; nothing where they are there already.
    Reach {
        /// The devices.
        devices: Devices,
        /// What they shall be.
        goal: Goal,
    },
    /// Counts the blocks of dax devices.
    Verify {
        /// The devices.
        devices: Devices,
        /// What they shall be.
        goal: Goal,
    },
    /// Waits until no dax device of a region is half created: a driver may take one that is visible until all of it is there.
    Settle(String),
    /// Counts the memory blocks at a region's addresses, whoever has them: none may be there. Resetting decoders under memory
    /// kills the machine, and with the stock drivers no lock stops it.
    Absent(String),
}

/// The dax devices of a region once a driver has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appears {
    /// The region.
    pub region: String,
    /// Whether kmem must have them, or their being there is enough.
    pub with_kmem: bool,
}

/// Some dax devices, looked up when they are needed: their names are not known while planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// Those of a region.
    OfRegion(String),
    /// This one.
    Named(String),
}

impl Devices {
    /// Where they are, or where the region above them is.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        match self {
            Self::OfRegion(region) => PathBuf::from(CXL_DEVICES).join(region),
            Self::Named(name) => DaxDevice::folder(name),
        }
    }
}

impl Step {
    /// A step that undoes itself by being forgotten: what it changes goes away with something else.
    fn new(what: impl Into<String>, action: Action) -> Self {
        Self {
            what: what.into(),
            action,
            undo: Vec::new(),
            partial: false,
        }
    }

    /// The same, with what undoes it.
    fn undone_by(mut self, undo: Vec<Action>) -> Self {
        self.undo = undo;
        self
    }

    /// The same, undone even if it fails itself.
    fn even_if_it_fails(mut self) -> Self {
        self.partial = true;
        self
    }
}

/// Writes an attribute of a device of the CXL bus.
fn write(device: &str, attribute: &str, value: impl Into<String>) -> Action {
    Action::Write {
        path: cxl_attribute(device, attribute),
        value: value.into(),
    }
}

/// Looks that no memory is at a region's addresses.
fn find_no_memory(region: &str) -> Step {
    Step::new(
        format!("find no memory of {region} left behind"),
        Action::Absent(region.to_owned()),
    )
}

/// An attribute of a device of the CXL bus.
pub(crate) fn cxl_attribute(device: &str, attribute: &str) -> PathBuf {
    PathBuf::from(format!("{CXL_DEVICES}/{device}/{attribute}"))
}

/// The folder of a driver of the CXL bus.
#[must_use]
pub fn cxl_driver(driver: &str) -> PathBuf {
    PathBuf::from(format!("{CXL_DRIVERS}/{driver}"))
}

/// The folder of a driver of the dax bus.
#[must_use]
pub fn dax_driver(driver: &str) -> PathBuf {
    PathBuf::from(format!("{DAX_DRIVERS}/{driver}"))
}
