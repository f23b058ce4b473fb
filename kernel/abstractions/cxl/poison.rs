// SPDX-License-Identifier: GPL-2.0-only

//! Bad memory on purpose: the files `inject_poison` and `clear_poison` of a region in debugfs.
//!
//! They take an offset in the region, as the stock region driver's do. The CXL core keeps the way from
//! there to a device and an address on it to itself, so it is gone here again ([`interleave`]), for the
//! regions that interleave by powers of two and where nothing else is translated. Others have no files.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h), `drivers/cxl/cxlmem.h`

use super::region::Region;
use crate::abstractions::{
    bindings,
    device::raw, //
};
use core::ops::Range;
use kernel::prelude::*;
use region_policy::interleave;

/// The files of a region, as long as this lives; for a driver to keep while the region is bound.
pub struct PoisonFiles {
    folder: *mut bindings::dentry,
    /// The files point to it.
    _targets: KBox<Targets>,
}

// SAFETY: The folder is only removed, which any thread may do.
unsafe impl Send for PoisonFiles {}

impl PoisonFiles {
    /// Makes the files of `region`, which must be committed; `None` where it can have none.
    ///
    /// # Errors
    ///
    /// `ENOMEM` and others.
    pub fn of(region: &Region) -> Result<Option<Self>> {
        let Some(targets) = region.poison_targets()? else {
            return Ok(None);
        };
        let targets = KBox::new(targets, GFP_KERNEL)?;
        // SAFETY: The region has a name. The files go before the targets do; an error of debugfs, which
        // nobody needs, is a folder that later calls pass over.
        let folder = unsafe {
            bindings::region_poison_files(
                bindings::dev_name(raw(region.as_ref())),
                (&raw const *targets).cast_mut().cast(),
            )
        };
        Ok(Some(Self {
            folder,
            _targets: targets,
        }))
    }
}

impl Drop for PoisonFiles {
    fn drop(&mut self) {
        // SAFETY: The folder is ours; whoever is writing to a file of it is waited for.
        unsafe { bindings::debugfs_remove(self.folder) };
    }
}

/// The targets of a region, by what is needed to find a byte of it.
pub struct Targets {
    range: Range<u64>,
    /// How many of the first bytes are on no device.
    cache: u64,
    ways: u32,
    granularity: u32,
    list: KVec<Target>,
}

/// A memdev's share of a region.
struct Target {
    /// With a reference. While the region is bound, the memdev is not shut down.
    memdev: *mut bindings::cxl_memdev,
    position: c_int,
    /// The first address of the share, on the device.
    start: u64,
}

// SAFETY: The memdev is counted, and used by functions that lock.
unsafe impl Send for Target {}
// SAFETY: As above.
unsafe impl Sync for Target {}

impl Drop for Target {
    fn drop(&mut self) {
        // SAFETY: The reference was taken in `push()`.
        unsafe { bindings::put_device(&raw mut (*self.memdev).dev) };
    }
}

impl Targets {
    /// Those of a region that lies at `range` behind a cache of so many bytes; none at first.
    pub(super) fn new(range: Range<u64>, cache: u64, ways: u32, granularity: u32) -> Self {
        Self {
            range,
            cache,
            ways,
            granularity,
            list: KVec::new(),
        }
    }

    /// Adds a memdev whose share of the region begins at `start` of its own addresses.
    ///
    /// # Safety
    ///
    /// `memdev` must be valid.
    pub(super) unsafe fn push(
        &mut self,
        memdev: *mut bindings::cxl_memdev,
        position: c_int,
        start: u64,
    ) -> Result {
        // SAFETY: The caller promises a valid memdev.
        unsafe { bindings::get_device(&raw mut (*memdev).dev) };
        let target = Target {
            memdev,
            position,
            start,
        };
        Ok(self.list.push(target, GFP_KERNEL)?)
    }

    /// Whether every byte of the region can be found.
    pub(super) fn are_known(&self) -> bool {
        interleave::place(0, self.ways, self.granularity).is_some()
    }

    /// The memdev that has the byte `offset` of the region, and its address there.
    fn find(&self, offset: u64) -> Result<(*mut bindings::cxl_memdev, u64)> {
        if offset >= self.range.end.saturating_sub(self.range.start) {
            return Err(EINVAL);
        }
        let offset = offset.checked_sub(self.cache).ok_or(EINVAL)?;
        let place = interleave::place(offset, self.ways, self.granularity).ok_or(ENXIO)?;
        let target = self
            .list
            .iter()
            .find(|target| u32::try_from(target.position) == Ok(place.position))
            .ok_or(ENXIO)?;
        let address = target.start.checked_add(place.offset).ok_or(ERANGE)?;
        Ok((target.memdev, address))
    }
}

/// # Safety
///
/// Called by debugfs only, with the targets that the file was made with.
#[no_mangle]
unsafe extern "C" fn region_inject_poison(targets: *mut c_void, offset: u64) -> c_int {
    // SAFETY: The targets outlive the file.
    match unsafe { &*targets.cast::<Targets>() }.find(offset) {
        // SAFETY: The memdev is counted; the function locks, and checks the address.
        Ok((memdev, address)) => unsafe { bindings::cxl_inject_poison(memdev, address) },
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// Called by debugfs only, with the targets that the file was made with.
#[no_mangle]
unsafe extern "C" fn region_clear_poison(targets: *mut c_void, offset: u64) -> c_int {
    // SAFETY: The targets outlive the file.
    match unsafe { &*targets.cast::<Targets>() }.find(offset) {
        // SAFETY: The memdev is counted; the function locks, and checks the address.
        Ok((memdev, address)) => unsafe { bindings::cxl_clear_poison(memdev, address) },
        Err(error) => error.to_errno(),
    }
}
