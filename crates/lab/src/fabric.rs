// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fabric's side of dynamic capacity: a device offers memory to the guest and asks for it back, by QEMU's monitor
//! ([`DcRegion`]) or by a fabric manager's commands, through a switch ([`manager`]). Tags come with the latter only.

pub mod manager;

use serde_json::Value;
use serde_json::json;

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
    fn wire(&self) -> Value {
        json!({ "offset": self.offset, "len": self.length })
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

    /// Offers the extents to the guest as one group.
    ///
    /// # Errors
    /// When QEMU refuses: they are not whole blocks of the device, or it offers or gave some of them already.
    pub fn add(&self, extents: &[Extent]) -> Result<()> {
        self.ask("cxl-add-dynamic-capacity", "selection-policy", extents)
    }

    /// Asks the guest to give the extents back.
    ///
    /// # Errors
    /// When QEMU refuses: the guest does not have all of them.
    pub fn release(&self, extents: &[Extent]) -> Result<()> {
        self.ask("cxl-release-dynamic-capacity", "removal-policy", extents)
    }

    fn ask(&self, command: &'static str, policy: &'static str, extents: &[Extent]) -> Result<()> {
        let extents: Vec<Value> = extents.iter().map(Extent::wire).collect();
        let arguments = json!({
            "path": format!("/machine/peripheral/memory-{:x}", self.serial),
            "host-id": 0,
            "region": self.number,
            "extents": extents,
            policy: "prescriptive",
        });
        self.guest.qmp(command, &arguments).map(drop)
    }
}
