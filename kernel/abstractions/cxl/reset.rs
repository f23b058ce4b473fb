// SPDX-License-Identifier: GPL-2.0-only

//! Keeping memory devices from being reset.
//!
//! A reset of the bus that a device is on clears its decoders, whatever is in the memory below them (CXL 3.1,
//! section 8.1.5.2: for this reason a port masks it by default), and the kernel does it for whoever writes
//! `reset` or `reset_subordinate` of a PCI device. It looks at a flag of each function before; the CXL core
//! looks at the decoders afterwards, and complains.
//!
//! A reset of the function alone does not touch the decoders, and is not meant here.

use crate::{
    abstractions::{
        bindings,
        device,
        global::Lifetime, //
    },
    global_mutex,
};
use kernel::{
    device::Device,
    prelude::*,
    sync::aref::ARef, //
};

/// A device that is not reset.
struct Spared {
    device: ARef<Device>,
    /// How many want that.
    count: usize,
    /// Whether it would be reset but for us.
    ours: bool,
}

global_mutex! {
    static SPARED(spared_lock): KVec<Spared> = KVec::new();
}

/// From the module's init to its exit.
pub(super) fn lifetime() -> Lifetime {
    SPARED.begin()
}

/// Keeps some devices from being reset, with the bus that they are on, as long as it lives.
///
/// A reset that has begun by now is not stopped.
pub struct ResetBan {
    devices: KVec<ARef<Device>>,
}

impl ResetBan {
    /// Begins with no device.
    pub(super) const fn new() -> Self {
        Self {
            devices: KVec::new(),
        }
    }

    /// Keeps this device from being reset, too.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn add(&mut self, function: &Device) -> Result {
        self.devices.reserve(1, GFP_KERNEL)?;
        let mut spared = SPARED.lock()?;
        if let Some(known) = spared.iter_mut().find(|known| known.is(function)) {
            known.count = known.count.saturating_add(1);
        } else {
            spared.reserve(1, GFP_KERNEL)?;
            let known = Spared {
                device: function.into(),
                count: 1,
                // SAFETY: The device is valid. Others write to its flags only before it has a driver.
                ours: unsafe { bindings::device_forbid_bus_reset(device::raw(function)) },
            };
            spared.push(known, GFP_KERNEL)?;
        }
        drop(spared);
        self.devices.push(function.into(), GFP_KERNEL)?;
        Ok(())
    }
}

impl Drop for ResetBan {
    fn drop(&mut self) {
        let Ok(mut spared) = SPARED.lock() else {
            return;
        };
        for function in &self.devices {
            if let Some(known) = spared.iter_mut().find(|known| known.is(function)) {
                known.count = known.count.saturating_sub(1);
            }
        }
        spared.retain(|known| {
            if known.count == 0 && known.ours {
                // SAFETY: The reference keeps the device; as in `add()`.
                unsafe { bindings::device_allow_bus_reset(device::raw(&known.device)) };
            }
            known.count > 0
        });
    }
}

impl Spared {
    fn is(&self, device: &Device) -> bool {
        core::ptr::eq(&*self.device, device)
    }
}
