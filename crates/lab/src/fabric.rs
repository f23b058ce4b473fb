// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fabric's side of dynamic capacity: a device offers memory to the guest and asks for it back, by QEMU's monitor
//! ([`DcRegion`]) or by a fabric manager's commands, through a switch ([`manager`]). Tags come with the latter only.

pub mod manager;

use qapi::qmp;

use crate::error::Result;
use crate::guest::Guest;

/// A range of one dynamic capacity region, in bytes from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

impl Extent {
    fn wire(&self) -> qmp::CxlDynamicCapacityExtent {
        qmp::CxlDynamicCapacityExtent {
            offset: self.offset,
            len: self.length,
        }
    }
}

/// One dynamic capacity region of a guest's device.
#[derive(Clone, Copy)]
pub struct DcRegion<'g> {
    guest: &'g Guest,
    serial: u64,
    number: u8,
}

impl<'g> DcRegion<'g> {
    /// Region `number` of the device with this serial number.
    #[must_use]
    pub fn new(guest: &'g Guest, serial: u64, number: u8) -> Self {
        Self {
            guest,
            serial,
            number,
        }
    }

    fn path(&self) -> String {
        format!("/machine/peripheral/memory-{:x}", self.serial)
    }

    /// Offers the extents to the guest as one group.
    ///
    /// # Errors
    /// When QEMU refuses: they are not whole blocks of the device, or it offers or gave some of them already.
    pub fn add(&self, extents: &[Extent]) -> Result<()> {
        let command = qmp::cxl_add_dynamic_capacity {
            tag: None,
            extents: extents.iter().map(Extent::wire).collect(),
            host_id: 0,
            path: self.path(),
            region: self.number,
            selection_policy: qmp::CxlExtentSelectionPolicy::prescriptive,
        };
        self.guest.qmp(&command).map(drop)
    }

    /// Asks the guest to give the extents back.
    ///
    /// # Errors
    /// When QEMU refuses: the guest does not have all of them.
    pub fn release(&self, extents: &[Extent]) -> Result<()> {
        let command = qmp::cxl_release_dynamic_capacity {
            tag: None,
            forced_removal: None,
            sanitize_on_release: None,
            extents: extents.iter().map(Extent::wire).collect(),
            host_id: 0,
            path: self.path(),
            region: self.number,
            removal_policy: qmp::CxlExtentRemovalPolicy::prescriptive,
        };
        self.guest.qmp(&command).map(drop)
    }
}
