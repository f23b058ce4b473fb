// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes one chosen memory block refuse to go online or offline, or wait before it does: see `kernel/testing/memory_fault.c`.

use lab::Guest;
use lab::Result;

use crate::support;

const PARAMETERS: &str = "/sys/module/memory_fault/parameters";

/// The faults of a guest; none at first.
pub struct Fault<'g> {
    guest: &'g Guest,
    block_size: u64,
}

impl<'g> Fault<'g> {
    /// Loads the module that refuses, under which nothing is refused yet.
    pub fn load(guest: &'g Guest) -> Result<Self> {
        guest.sh_ok("modprobe memory_fault")?;
        Ok(Self {
            guest,
            block_size: support::block_size(guest)?,
        })
    }

    /// This block refuses to go online.
    pub fn refuse_online(&self, block: u64) -> Result<()> {
        self.set("refuse_online", block * self.block_size)
    }

    /// This block refuses to go offline.
    pub fn refuse_offline(&self, block: u64) -> Result<()> {
        self.set("refuse_offline", block * self.block_size)
    }

    /// This block waits before it goes online, until [`Self::proceed`].
    pub fn pause_online(&self, block: u64) -> Result<()> {
        self.set("pause_online", block * self.block_size)
    }

    /// Waits until the block is waiting.
    pub fn wait_until_paused(&self) -> Result<()> {
        // There is no event of it. It cannot fail to come about, so this looks until it has.
        self.guest
            .sh_ok(&format!(
                "until grep -q Y {PARAMETERS}/paused; do sleep 0.01; done"
            ))
            .map(drop)
    }

    /// No block waits any more.
    pub fn proceed(&self) -> Result<()> {
        self.set("pause_online", 0)
    }

    /// Nothing is refused any more.
    pub fn mend(&self) -> Result<()> {
        self.set("refuse_online", 0)?;
        self.set("refuse_offline", 0)
    }

    /// Takes the module out.
    pub fn unload(self) -> Result<()> {
        self.guest.sh_ok("rmmod memory_fault").map(drop)
    }

    fn set(&self, parameter: &str, address: u64) -> Result<()> {
        self.guest
            .write(&format!("{PARAMETERS}/{parameter}"), &address.to_string())
    }
}
