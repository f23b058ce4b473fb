// SPDX-License-Identifier: GPL-2.0-only

//! DAX regions: a range of memory from which DAX devices are cut.
//!
//! C header: `drivers/dax/bus.h`

use super::{
    bindings,
    dax_device::DaxDevice,
    device::raw, //
};
use core::ops::Range;
use kernel::{
    device::Device,
    error::from_err_ptr,
    prelude::*,
    sync::aref::ARef, //
};

/// `IORESOURCE_DAX_KMEM`, which bindgen does not see through: devices are for `kmem` by default.
const IORESOURCE_DAX_KMEM: usize = 1 << 1;

/// The size of a huge page, to which devices are cut.
const PMD_SIZE: u32 = 1 << 21;

/// Whether any part of `range` is System RAM, or reserved for it.
pub fn is_system_ram(range: &Range<u64>) -> bool {
    let size = range.end.saturating_sub(range.start);
    let Ok(size) = usize::try_from(size) else {
        return true;
    };
    // SAFETY: The function looks up any range.
    let intersection = unsafe {
        bindings::region_intersects(
            range.start,
            size,
            bindings::IORESOURCE_SYSTEM_RAM as usize,
            bindings::IORES_DESC_NONE as usize,
        )
    };
    intersection != bindings::REGION_DISJOINT as c_int
}

/// What the devices of a DAX region are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// System RAM; the memory map may be placed in the memory itself.
    SystemRam,
    /// Applications that map them.
    Mapping,
}

/// Makes `owner` a DAX region numbered `id` over `range`, with one device over all of it, which is
/// given to the driver called `driver`, and to no other meanwhile.
///
/// To be called in the owner's probe: the region and its devices go away when the owner is unbound.
/// The region takes the owner's driver data for itself.
///
/// # Errors
///
/// The driver's own. `ENODEV`: there is no such driver. `EBUSY`: somebody has opened the device already.
pub fn add(
    owner: &Device,
    id: c_int,
    range: &Range<u64>,
    purpose: Purpose,
    driver: &str,
) -> Result {
    let is_ram = purpose == Purpose::SystemRam;
    let flags = if is_ram { IORESOURCE_DAX_KMEM } else { 0 };
    let device = create_device(allocate(owner, id, range, flags)?, is_ram)?;
    let driver = device.load_driver(driver)?;
    // No driver takes a device without memory. Between this and the next line it could be any: each
    // that was told the device's name.
    device.set_size(range.end.saturating_sub(range.start))?;
    device.close().ok_or(EBUSY)?.give_to(&driver)
}

/// Makes the DAX region.
fn allocate(
    owner: &Device,
    id: c_int,
    range: &Range<u64>,
    flags: usize,
) -> Result<*mut bindings::dax_region> {
    let mut range = bindings::range {
        start: range.start,
        end: range.end.checked_sub(1).ok_or(EINVAL)?,
    };
    // SAFETY: The functions look up any address.
    let node = unsafe {
        match bindings::phys_to_target_node(range.start) {
            bindings::NUMA_NO_NODE => bindings::memory_add_physaddr_to_nid(range.start),
            node => node,
        }
    };
    // SAFETY: The owner is being probed, so that what is tied to it is undone at its unbind. The
    // range is copied.
    let region = unsafe {
        bindings::alloc_dax_region(raw(owner), id, &raw mut range, node, PMD_SIZE, flags)
    };
    if region.is_null() {
        return Err(ENOMEM);
    }
    Ok(region)
}

/// Makes a device without memory in a region that was just made.
fn create_device(
    region: *mut bindings::dax_region,
    memmap_on_memory: bool,
) -> Result<ARef<DaxDevice>> {
    let mut data = bindings::dev_dax_data {
        dax_region: region,
        pgmap: core::ptr::null_mut(),
        size: 0,
        id: -1,
        memmap_on_memory,
    };
    // SAFETY: The region was just made, and `data` is only read.
    let device = from_err_ptr(unsafe { bindings::devm_create_dev_dax(&raw mut data) })?;
    // SAFETY: The device was just made, and lives as long as its owner is bound.
    Ok(unsafe { DaxDevice::from_raw(device) }.into())
}
