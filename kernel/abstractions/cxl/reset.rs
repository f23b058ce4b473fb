// SPDX-License-Identifier: GPL-2.0-only

//! Keeping memory devices from being reset.
//!
//! A reset of the bus that a device is on clears its decoders, whatever is in the memory below them (for this
//! reason a CXL port masks it by default), and the kernel does it for whoever writes `reset` or
//! `reset_subordinate` of a PCI device. It looks at a flag of each function before; the CXL core looks at the
//! decoders afterwards, and complains.
//!
//! A reset of the function alone does not touch the decoders, and is not meant here.

use crate::{
    abstractions::{
        bindings,
        device,
        global::Lifetime,
        marks::Marks, //
    },
    global_mutex,
};
use kernel::{
    device::Device,
    prelude::*,
    sync::aref::ARef, //
};

global_mutex! {
    /// The devices that are not reset.
    static SPARED(spared_lock): Marks<Device> = Marks::new();
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
        SPARED.lock()?.add(function, |function| {
            // SAFETY: The device is valid. Others write to its flags only before it has a driver.
            unsafe { bindings::device_forbid_bus_reset(device::raw(function)) }
        })?;
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
            spared.remove(function, |function| {
                // SAFETY: The reference keeps the device; as in `add()`.
                unsafe { bindings::device_allow_bus_reset(device::raw(function)) };
            });
        }
    }
}
