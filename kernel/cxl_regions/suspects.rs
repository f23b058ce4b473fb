// SPDX-License-Identifier: GPL-2.0-only

//! Regions that no driver may have.
//!
//! One that has a mode for static memory and a decoder of dynamic capacity: the core looks at a decoder's mode,
//! which can be changed behind its capacity, and a driver would bring memory online that the device does not back.
//!
//! Others come while memory stays behind.
//! Memory that stays behind may outlive its region. The core then takes its endpoint decoders for free, and for
//! committed when they are given to a region that is made next: that one would not be decoded, and who takes it
//! down would reset the decoders below the memory. So such a region is locked from its beginning. Before it gets
//! a driver its decoders are looked at; if they are all its own, it is a region like any other.

use crate::{
    abstractions::{
        cxl::region::{
            DecoderLock,
            ForeignDecoder,
            Region, //
        },
        global::Lifetime,
    },
    global_mutex,
    holds, //
};
use kernel::prelude::*;
use region_policy::matrix::PartitionMode;

/// What is locked until no memory stays behind.
#[derive(Default)]
struct Locked {
    /// Regions whose decoders nobody has looked at since they came.
    regions: KVec<DecoderLock>,
    /// Decoders that are those of memory that stayed behind.
    decoders: KVec<ForeignDecoder>,
}

global_mutex! {
    static LOCKED(locked_lock): Locked = Locked {
        regions: KVec::new(),
        decoders: KVec::new(),
    };
}

/// From the module's init to its exit. What stays behind keeps the module loaded: nothing is locked at the end.
pub fn lifetime() -> Lifetime {
    LOCKED.begin()
}

/// Locks a region that comes while memory stays behind, before it has a decoder.
pub fn added(region: &Region) {
    if let Ok(mut locked) = LOCKED.lock() {
        // Where there is no room for it, the region is looked at before it has a driver all the same.
        let _ = region
            .lock_decoders()
            .and_then(|lock| Ok(locked.regions.push(lock, GFP_KERNEL)?));
    }
    // Asked last: what is gone by now has acquitted nobody who came later.
    if !matches!(holds::left(), Ok(Some(_))) {
        drop(acquit(region));
    }
}

/// Has every driver refuse a region that has decoders of another, or of memory that is not there.
pub fn binding(region: &Region) {
    // One that is not committed every driver refuses by itself. A signal is no reason not to look: the driver may
    // find the core's lock free.
    if !region.is_committed_unsignalled().unwrap_or(false) {
        return;
    }
    let is_static =
        PartitionMode::from_number(region.mode()) != Some(PartitionMode::DynamicCapacity);
    if is_static && region.maps_dynamic_capacity() {
        region.distrust();
        dev_err!(
            region.as_ref(),
            "one of its decoders has dynamic capacity, of which the device may back nothing: delete this region, and make it with create_dc_region\n"
        );
        return;
    }
    if region.foreign_decoders().next().is_none() {
        // A region that was made anew over memory that stayed behind stays locked: it is that memory's now.
        if matches!(holds::left_below(region), Ok(None)) {
            drop(acquit(region));
        }
        return;
    }
    region.distrust();
    if let Ok(Some(hold)) = holds::left() {
        dev_err!(
            region.as_ref(),
            "its decoders are those of memory that stayed behind in [{:#x}-{:#x}]: delete this region, bind that memory's memdev again, and give the region that appears to cxl_sysram_region\n",
            hold.range().start,
            hold.range().end.saturating_sub(1)
        );
        lock_foreign(region);
    } else {
        dev_err!(
            region.as_ref(),
            "its decoders have the addresses of a region that is gone: write 0 to commit, then 1\n"
        );
    }
}

/// Has the region be taken down without the decoders that are not its own.
fn lock_foreign(region: &Region) {
    let Ok(mut locked) = LOCKED.lock() else {
        return;
    };
    for mut decoder in region.foreign_decoders() {
        decoder.lock();
        if locked.decoders.push(decoder, GFP_KERNEL).is_err() {
            // It cannot be kept: the region itself stays locked.
            return;
        }
    }
    drop(locked);
    drop(acquit(region));
}

/// Locks the decoders of `region`, or takes over the lock that it has as a suspect: that would end with the last
/// memory that stays behind.
///
/// # Errors
///
/// `ENOMEM`.
pub fn lock(region: &Region) -> Result<DecoderLock> {
    acquit(region).map_or_else(|| region.lock_decoders(), Ok)
}

/// Suspects `region` no longer, and gives its lock away.
fn acquit(region: &Region) -> Option<DecoderLock> {
    let mut locked = LOCKED.lock().ok()?;
    let index = locked.regions.iter().position(|lock| lock.is_of(region))?;
    locked.regions.remove(index).ok()
}

/// Suspects nobody any longer: no memory stays behind.
pub fn acquit_all() {
    let locked = LOCKED
        .lock()
        .map(|mut locked| core::mem::take(&mut *locked));
    // Outside the lock.
    drop(locked);
}
