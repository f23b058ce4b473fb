// SPDX-License-Identifier: GPL-2.0-only

//! The file `uuid` of a DAX device: the tag of its extents.

use crate::{
    abstractions::{
        attribute::{
            Attribute,
            Files,
            Page, //
        },
        dax_device::DaxDevice,
        global::Lifetime, //
    },
    extra_attributes,
    global_mutex, //
};
use core::fmt::Write;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};
use region_policy::extent::{
    OrZeros,
    Tag, //
};

global_mutex! {
    /// The tags of the devices that have the file.
    static TAGS(tags_lock): KVec<(ARef<DaxDevice>, Option<Tag>)> = KVec::new();
}

/// From the module's init to its exit. The devices go before the end.
pub fn lifetime() -> Lifetime {
    TAGS.begin()
}

/// The file, until this is dropped.
pub struct Tagged {
    device: ARef<DaxDevice>,
    files: Option<Files>,
}

impl Tagged {
    /// Makes the file of `device`, which has extents of this tag.
    pub fn new(device: &DaxDevice, tag: Option<Tag>) -> Result<Self> {
        TAGS.lock()?.push((device.into(), tag), GFP_KERNEL)?;
        let mut tagged = Self {
            device: device.into(),
            files: None,
        };
        tagged.files = Some(Files::add(device, &FILES)?);
        Ok(tagged)
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        // Whoever is inside the file is waited for, and may want the tags.
        self.files = None;
        if let Ok(mut tags) = TAGS.lock() {
            tags.retain(|(device, _)| !core::ptr::eq(&**device, &*self.device));
        }
    }
}

extra_attributes! {
    /// The file.
    static FILES: DaxDevice, None => [Uuid];
}

struct Uuid;

impl Attribute<DaxDevice> for Uuid {
    const NAME: &'static CStr = c"uuid";

    const MODE: u16 = 0o444;

    fn show(device: &DaxDevice, page: &mut Page<'_>) -> Result {
        let tag = TAGS
            .lock()?
            .iter()
            .find(|(other, _)| core::ptr::eq(&**other, device))
            .map(|(_, tag)| *tag)
            .ok_or(ENODEV)?;
        writeln!(page, "{}", OrZeros(tag))?;
        Ok(())
    }
}
