// SPDX-License-Identifier: GPL-2.0-only

//! Claims on memory that `kmem` is about to get; see [`kmem_abi`](super::kmem_abi).

use super::{
    device::raw,
    kmem_abi, //
};
use core::ops::Range;
use kernel::{
    device::Device,
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            AtomicFlag,
            Full, //
        },
    }, //
};

extern "C" {
    fn dax_kmem_claim(owner: *mut c_void, region: c_int, online_type: c_int) -> c_int;
    fn dax_kmem_refuse(owner: *mut c_void, region: c_int) -> c_int;
    fn dax_kmem_evict(owner: *mut c_void) -> c_int;
    fn dax_kmem_take_away(owner: *mut c_void, start: u64, end: u64) -> c_int;
    fn dax_kmem_give_up(owner: *mut c_void, start: u64, end: u64) -> c_int;
    fn dax_kmem_unclaim(owner: *mut c_void) -> c_int;
    fn dax_kmem_reclaim(start: u64, end: u64) -> c_int;
}

// The signatures that the other side has.
const _: kmem_abi::Claim = dax_kmem_claim;
const _: kmem_abi::Refuse = dax_kmem_refuse;
const _: kmem_abi::OfOwner = dax_kmem_evict;
const _: kmem_abi::OfRange = dax_kmem_take_away;
const _: kmem_abi::OfRange = dax_kmem_give_up;
const _: kmem_abi::OfOwner = dax_kmem_unclaim;
const _: kmem_abi::Reclaim = dax_kmem_reclaim;

/// A claim on the memory of the DAX devices of one owner; it ends when it is dropped.
pub struct Claim {
    /// The claim is known by the owner's address, which must not become another's before it has ended.
    owner: ARef<Device>,
    ended: AtomicFlag,
}

impl Claim {
    /// Claims the memory of the DAX devices that `owner`, part of region `region`, will have: it
    /// comes online as `online_type` (`MMOP_*`) tells, and stays within that policy.
    pub fn new(owner: &Device, region: c_int, online_type: u8) -> Result<Self> {
        // SAFETY: `kmem` compares the owner's address and does not follow it.
        to_result(unsafe { dax_kmem_claim(key(owner), region, online_type.into()) })?;
        Ok(Self::on(owner))
    }

    /// Claims the memory of the DAX devices that `owner`, part of region `region`, will have, so that
    /// it never becomes System RAM.
    pub fn refusal(owner: &Device, region: c_int) -> Result<Self> {
        // SAFETY: As in `new()`.
        to_result(unsafe { dax_kmem_refuse(key(owner), region) })?;
        Ok(Self::on(owner))
    }

    fn on(owner: &Device) -> Self {
        Self {
            owner: owner.into(),
            ended: AtomicFlag::new(false),
        }
    }

    /// The device whose DAX devices have the memory.
    pub fn owner(&self) -> &Device {
        &self.owner
    }

    /// Takes all memory away, and lets none come back.
    pub fn evict(&self) -> Result {
        if self.has_ended() {
            return Ok(());
        }
        // SAFETY: As in `new()`.
        to_result(unsafe { dax_kmem_evict(key(&self.owner)) })
    }

    /// Takes away the memory of the device that has `range`, and lets none come back if that works. Otherwise
    /// the device is what it was.
    ///
    /// # Errors
    ///
    /// `EBUSY` and others: it is in use.
    pub fn take_away(&self, range: &Range<u64>) -> Result {
        // SAFETY: As in `new()`.
        to_result(unsafe { dax_kmem_take_away(key(&self.owner), range.start, range.end) })
    }

    /// The contents of `range` are lost: takes away what it can, for good, and has the users of the rest told.
    ///
    /// # Errors
    ///
    /// `EBUSY` and others: some stays.
    pub fn give_up(&self, range: &Range<u64>) -> Result {
        // SAFETY: As in `new()`.
        to_result(unsafe { dax_kmem_give_up(key(&self.owner), range.start, range.end) })
    }

    /// Whether the claim has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    /// Ends the claim, once the DAX devices are gone.
    ///
    /// # Errors
    ///
    /// `EBUSY`: memory stays behind. [`reclaim`] tries again.
    pub fn end(&self) -> Result {
        if self.ended.xchg(true, Full) {
            return Ok(());
        }
        // SAFETY: As in `new()`.
        to_result(unsafe { dax_kmem_unclaim(key(&self.owner)) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Whoever cares for what stays behind has ended the claim before.
        let _ = self.end();
    }
}

fn key(owner: &Device) -> *mut c_void {
    raw(owner).cast()
}

/// Tries once more to take away what stayed behind in `range`.
pub fn reclaim(range: &Range<u64>) -> Result {
    // SAFETY: Any range will do.
    to_result(unsafe { dax_kmem_reclaim(range.start, range.end) })
}
