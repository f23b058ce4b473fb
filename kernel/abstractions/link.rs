// SPDX-License-Identifier: GPL-2.0-only

//! A second way to a device in sysfs: a symbolic link to it in the folder of another.
//!
//! C header: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use super::{
    bindings,
    device::raw, //
};
use kernel::{
    device::Device,
    error::to_result,
    prelude::*,
    str::CString,
    sync::aref::ARef, //
};

/// A link in the folder of a device; dropping this removes it.
///
/// To be dropped before either device goes: sysfs warns of a folder that is not there, and leaves a link
/// whose aim is gone.
pub struct Link {
    folder: ARef<Device>,
    name: CString,
}

impl Link {
    /// Puts a link to `aim`, under its name, into the folder of `folder`.
    ///
    /// # Errors
    ///
    /// `EEXIST`: there is something of that name. `ENOENT`: `aim` was not added to the system.
    pub fn new(folder: &Device, aim: &Device) -> Result<Self> {
        let name = CString::try_from(aim.name())?;
        // SAFETY: Both devices are valid, and sysfs refuses one that has no folder; it copies the name.
        to_result(unsafe {
            bindings::sysfs_create_link(
                &raw mut (*raw(folder)).kobj,
                &raw mut (*raw(aim)).kobj,
                name.as_char_ptr(),
            )
        })?;
        Ok(Self {
            folder: folder.into(),
            name,
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: The device is valid: `self` holds a reference. sysfs looks the name up.
        unsafe {
            bindings::sysfs_remove_link(&raw mut (*raw(&self.folder)).kobj, self.name.as_char_ptr())
        };
    }
}
