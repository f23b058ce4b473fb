// SPDX-License-Identifier: GPL-2.0-only

//! Soft-reserved memory, which `dax_hmem` serves where no CXL region does.
//!
//! C headers: [`include/linux/dax.h`](srctree/include/linux/dax.h), `drivers/dax/hmem/hmem.c`

use super::bindings;
use core::{
    ops::Range,
    ptr, //
};
use kernel::{
    container_of,
    device::Device,
    prelude::*, //
};
use region_policy::soft_reserved;

/// Checks that `dax_hmem` leaves the memory in `range` to the region `region`, a device for the log.
///
/// A soft-reserved range that reaches beyond the region is for `dax_hmem`, whether that is loaded or will
/// be. One that lies in the region is the region's, unless `dax_hmem` had it before the region was there.
///
/// # Errors
///
/// `EBUSY`: it does not.
pub fn leaves(region: &Device, range: &Range<u64>) -> Result {
    let mut search = Search {
        range: range.clone(),
        found: None,
    };
    // SAFETY: The function hands its first argument through to the second.
    unsafe { bindings::walk_hmem_resources((&raw mut search).cast(), Some(reserved_beyond)) };
    if let Some(found) = search.found {
        dev_err!(
            region,
            "[{:#x}-{:#x}] is Soft Reserved and reaches beyond this region: it is for dax_hmem\n",
            found.start,
            found.end.saturating_sub(1)
        );
        return Err(EBUSY);
    }
    // SAFETY: The matching function only looks, at devices of that bus.
    let device = unsafe {
        bindings::bus_find_device(
            &raw const bindings::platform_bus_type,
            ptr::null_mut(),
            (&raw const search).cast(),
            Some(is_bound_in),
        )
    };
    if device.is_null() {
        return Ok(());
    }
    // SAFETY: A reference was taken by the search, and is given back.
    unsafe { bindings::put_device(device) };
    dev_err!(
        region,
        "[{:#x}-{:#x}] is with dax_hmem in part: unbind its device from the driver hmem first\n",
        range.start,
        range.end.saturating_sub(1)
    );
    Err(EBUSY)
}

struct Search {
    range: Range<u64>,
    found: Option<Range<u64>>,
}

/// Finds a soft-reserved range that is not for the region.
///
/// # Safety
///
/// To be called by `walk_hmem_resources()` with the address of a [`Search`].
unsafe extern "C" fn reserved_beyond(
    search: *mut bindings::device,
    _node: c_int,
    resource: *const bindings::resource,
) -> c_int {
    // SAFETY: The caller's promise; a resource that is walked over is valid.
    let (search, resource) = unsafe { (&mut *search.cast::<Search>(), &*resource) };
    let reserved = resource.start..resource.end.saturating_add(1);
    let Ok(size) = usize::try_from(reserved.end.saturating_sub(reserved.start)) else {
        return 0;
    };
    // The list also has what the platform's tables say of other memory; dax_hmem passes that over.
    // SAFETY: The function looks up any range.
    let kept = unsafe { bindings::region_intersects_soft_reserve(reserved.start, size) };
    if kept == bindings::REGION_INTERSECTS as c_int
        && soft_reserved::keeps_from(&reserved, &search.range)
    {
        search.found = Some(reserved);
        return EBUSY.to_errno();
    }
    0
}

/// Whether a device is one of `dax_hmem`'s, in use, with memory in the range.
///
/// # Safety
///
/// To be called by the platform bus with the address of a [`Search`].
unsafe extern "C" fn is_bound_in(dev: *mut bindings::device, search: *const c_void) -> c_int {
    // SAFETY: The caller's promises: the device is valid, and one of the platform bus.
    let (search, platform) = unsafe {
        (
            &*search.cast::<Search>(),
            &*container_of!(dev, bindings::platform_device, dev),
        )
    };
    // SAFETY: A platform device has a name.
    if unsafe { CStr::from_char_ptr(platform.name) } != c"hmem" {
        return 0;
    }
    // SAFETY: `dax_hmem` gives its devices such data before it adds them.
    let Some(memory) = (unsafe {
        platform
            .dev
            .platform_data
            .cast::<bindings::memregion_info>()
            .as_ref()
    }) else {
        return 0;
    };
    let overlaps = memory.range.start < search.range.end && search.range.start <= memory.range.end;
    // SAFETY: The device is valid.
    c_int::from(overlaps && unsafe { bindings::device_is_bound(dev) })
}
