// SPDX-License-Identifier: GPL-2.0-only

//! The files `bind` and `unbind` of our drivers, in place of the driver core's.
//!
//! They do what those do, but for two things.
//!
//! **Only who is named is bound.** The driver core offers devices to drivers at many moments: when a
//! driver is registered, when a device is added, when the CXL bus is rescanned. Nobody asked for any
//! of that here: a region is given to one of our drivers by name, and left alone otherwise. So a
//! probe asks whether it was [`named`].
//!
//! **libcxl does not mean us.** To enable a region, it offers the region to *every* driver on the
//! bus, in the order of the folder, until one takes it: `cxl create-region` and `cxl enable-region`
//! would hand each region to whichever of us comes first, and the stock driver would be left without.
//! libcxl writes the name with the zero byte that ends it; whoever means us writes the name, with a
//! newline or without. So a name that ends in a zero byte is not bound, and libcxl goes on to the stock
//! driver. To disable a region, it asks the region's own driver alone: `unbind` takes either spelling.

use crate::{
    abstractions::{
        attribute::{
            Group,
            Groups,
            List, //
        },
        bindings,
        global::Lifetime,
    },
    global_mutex,
};
use core::ptr;
use kernel::{
    current,
    error::to_result,
    prelude::*, //
};

/// A device that the current task gives to a driver.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Naming {
    device: usize,
    task: usize,
}

impl Naming {
    fn by_current(dev: *mut bindings::device) -> Self {
        Self {
            device: dev as usize,
            task: current!().as_ptr() as usize,
        }
    }
}

global_mutex! {
    /// Who is naming what at this moment.
    static NAMINGS(namings_lock): KVec<Naming> = KVec::new();
}

/// From the module's init to its exit.
pub(super) fn lifetime() -> Lifetime {
    NAMINGS.begin()
}

/// Whether `dev` is being given to a driver of ours by name. To be asked in its probe.
pub(super) fn named(dev: *mut bindings::device) -> bool {
    // A probe runs in the task that names the device.
    let naming = Naming::by_current(dev);
    NAMINGS
        .lock()
        .is_ok_and(|namings| namings.contains(&naming))
}

/// A file of a driver.
#[repr(transparent)]
struct File(bindings::driver_attribute);

// SAFETY: The structure is only read once it is initialised.
unsafe impl Sync for File {}

type Store = unsafe extern "C" fn(*mut bindings::device_driver, *const c_char, usize) -> isize;

impl File {
    const fn new(name: &'static CStr, store: Store) -> Self {
        let mut file: bindings::driver_attribute = pin_init::zeroed();
        file.attr.name = name.to_bytes_with_nul().as_ptr().cast();
        file.attr.mode = 0o200;
        // As the driver core's files: unbinding one device from within the file of a driver may
        // remove the same file of another driver.
        #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
        {
            // The setters are not for constants; `ignore_lockdep` is the only bit.
            file.attr._bitfield_1 = bindings::__BindgenBitfieldUnit::new([1]);
        }
        file.store = Some(store);
        Self(file)
    }
}

static BIND: File = File::new(c"bind", bind);
static UNBIND: File = File::new(c"unbind", unbind);
static FILES: List<3> = List::new([
    (&raw const BIND.0.attr).cast_mut(),
    (&raw const UNBIND.0.attr).cast_mut(),
    ptr::null_mut(),
]);
static GROUP: Group = Group::new(&FILES);
static GROUPS: Groups = Groups::new(&GROUP);

/// Gives `driver` these files instead of the driver core's.
pub(super) fn install(driver: &mut bindings::device_driver) {
    driver.suppress_bind_attrs = true;
    driver.groups = GROUPS.as_ptr().cast_mut();
}

/// Finds the device on the CXL bus that was named in a file, and holds a reference to it.
///
/// # Safety
///
/// `name` must be a string that a zero byte ends.
unsafe fn find(name: *const c_char) -> Result<Found> {
    // SAFETY: The matching function compares names as sysfs does, and ends at the zero byte.
    let dev = unsafe {
        bindings::bus_find_device(
            &raw const bindings::cxl_bus_type,
            ptr::null_mut(),
            name.cast(),
            Some(bindings::device_match_name),
        )
    };
    if dev.is_null() {
        Err(ENODEV)
    } else {
        Ok(Found(dev))
    }
}

/// A reference to a device.
struct Found(*mut bindings::device);

impl Drop for Found {
    fn drop(&mut self) {
        // SAFETY: The reference was taken by `find()`.
        unsafe { bindings::put_device(self.0) };
    }
}

fn written(count: usize, result: Result) -> isize {
    match result {
        // At most a page was written.
        Ok(()) => isize::try_from(count).unwrap_or(0),
        // CAST: An errno is a small number.
        Err(error) => error.to_errno() as isize,
    }
}

/// # Safety
///
/// Called by sysfs only, for a driver on the CXL bus.
unsafe extern "C" fn bind(
    driver: *mut bindings::device_driver,
    name: *const c_char,
    count: usize,
) -> isize {
    let attach = || {
        // SAFETY: sysfs wrote so many bytes, and a zero byte after them.
        if unsafe { core::slice::from_raw_parts(name, count) }.ends_with(b"\0") {
            return Err(ENODEV);
        }
        // SAFETY: As above.
        let found = unsafe { find(name)? };
        // SAFETY: The bus is the CXL bus, whose match function only looks.
        let matches = unsafe {
            match bindings::cxl_bus_type.match_ {
                Some(matches) => matches(found.0, driver) != 0,
                None => false,
            }
        };
        if !matches {
            return Err(ENODEV);
        }
        let naming = Naming::by_current(found.0);
        NAMINGS.lock()?.push(naming, GFP_KERNEL)?;
        // SAFETY: Both are valid; the driver stays registered while its files are in use.
        let result = to_result(unsafe { bindings::device_driver_attach(driver, found.0) });
        NAMINGS.lock()?.retain(|other| *other != naming);
        result
    };
    written(count, attach())
}

/// # Safety
///
/// Called by sysfs only, for a driver on the CXL bus.
unsafe extern "C" fn unbind(
    driver: *mut bindings::device_driver,
    name: *const c_char,
    count: usize,
) -> isize {
    let release = || {
        // SAFETY: sysfs ends what was written with a zero byte.
        let found = unsafe { find(name)? };
        // SAFETY: The device is valid.
        if !ptr::eq(unsafe { (*found.0).driver }, driver) {
            return Err(ENODEV);
        }
        // SAFETY: As above.
        unsafe { bindings::device_release_driver(found.0) };
        Ok(())
    };
    written(count, release())
}
