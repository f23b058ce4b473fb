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

/// Makes `owner` a DAX region numbered `id` over `range`, with one device over all of it that is
/// for `kmem`.
///
/// To be called in the owner's probe: the region and its devices go away when the owner is unbound.
/// The region takes the owner's driver data for itself. The device's driver binds to it meanwhile;
/// whether that worked is not told.
pub fn add_system_ram(owner: &Device, id: c_int, range: &Range<u64>) -> Result {
    let region = allocate(owner, id, range, IORESOURCE_DAX_KMEM)?;
    let size = range.end.saturating_sub(range.start);
    create_device(region, size, true)?;
    Ok(())
}

/// Makes `owner` a DAX region numbered `id` over `range`, whose devices are for applications, with
/// one device that has no memory yet: no driver takes it before it has some.
///
/// To be called in the owner's probe, as above.
pub fn add_mappable(owner: &Device, id: c_int, range: &Range<u64>) -> Result<ARef<DaxDevice>> {
    let device = create_device(allocate(owner, id, range, 0)?, 0, false)?;
    // SAFETY: The device was just made, and lives as long as its owner is bound.
    Ok(unsafe { DaxDevice::from_raw(device) }.into())
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

/// Makes a device of `size` bytes in a region that was just made.
fn create_device(
    region: *mut bindings::dax_region,
    size: u64,
    memmap_on_memory: bool,
) -> Result<*mut bindings::dev_dax> {
    let mut data = bindings::dev_dax_data {
        dax_region: region,
        pgmap: core::ptr::null_mut(),
        size,
        id: -1,
        memmap_on_memory,
    };
    // SAFETY: The region was just made, and `data` is only read.
    from_err_ptr(unsafe { bindings::devm_create_dev_dax(&raw mut data) })
}
