// SPDX-License-Identifier: GPL-2.0-only

//! What every bus here needs of `struct device` beyond the `kernel` crate.
//!
//! C header: [`include/linux/device.h`](srctree/include/linux/device.h)

use super::bindings;
use kernel::{
    device::Device,
    prelude::*, //
};

/// The C structure behind `device`.
pub fn raw(device: &Device) -> *mut bindings::device {
    // CAST: `Device` is a transparent wrapper of the C structure, which is always shared.
    core::ptr::from_ref(device).cast_mut().cast()
}

/// Wakes everybody who polls the attribute `name` of `device`.
///
/// Nothing happens when the device has no such file, or no files any more.
pub fn notify_attribute(device: &Device, name: &CStr) {
    // SAFETY: `device` is valid, and its object stays so; the name is a C string.
    unsafe {
        bindings::sysfs_notify(
            &raw mut (*raw(device)).kobj,
            core::ptr::null(),
            name.as_char_ptr(),
        )
    };
}

/// Tells everybody who listens to the kernel's events that `device` has changed.
pub fn announce_change(device: &Device) {
    // SAFETY: `device` is valid, and its object stays so. That nobody is told is no reason to fail.
    unsafe {
        bindings::kobject_uevent(
            &raw mut (*raw(device)).kobj,
            bindings::kobject_action_KOBJ_CHANGE,
        )
    };
}
