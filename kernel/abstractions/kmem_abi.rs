// SPDX-License-Identifier: GPL-2.0-only

//! What `kmem.ko` offers to region drivers, in one place for both sides.
//!
//! `owner` is the device that owns the DAX region ([`OwnerKey`]), compared and never followed.
//! Results are 0 or a negative errno.
//!
//! | function | meaning |
//! |---|---|
//! | `dax_kmem_claim(owner, region, online_type)` | before the DAX device is added: its memory comes online as `online_type` (`MMOP_*`) tells and stays within that policy. `region` is the number that the log names. `EEXIST`, `ENOMEM`, `EINVAL` |
//! | `dax_kmem_refuse(owner, region)` | before the DAX device is added: its memory never becomes System RAM. `kmem` answers `EOPNOTSUPP` to whoever binds it. `EEXIST`, `ENOMEM` |
//! | `dax_kmem_evict(owner)` | takes all memory away, and lets none come back. `EBUSY`, `EINTR`: it is in use |
//! | `dax_kmem_take_away(owner, start, end)` | takes away the memory of those of its devices that have any of these physical addresses, whole or not at all, and lets none come back if that worked. `EBUSY`, `EINTR`: it is in use |
//! | `dax_kmem_give_up(owner, start, end)` | the contents of these physical addresses are lost: takes away what it can of those of its devices that have any of them, block by block, and has the users of the rest told by SIGBUS. `EBUSY`: some stays |
//! | `dax_kmem_unclaim(owner)` | after the device is gone: ends the claim. `EBUSY`: memory stays behind |
//! | `dax_kmem_reclaim(start, end)` | tries once more to take away what stayed behind in these physical addresses, and waits for a few seconds where it does not move. `EINTR`: a signal came. `EBUSY`, `ETIMEDOUT`: some still does |
//!
//! [`OwnerKey`]: super::dax_driver::OwnerKey

use kernel::ffi::{
    c_int,
    c_void, //
};

/// `dax_kmem_claim()`.
pub type Claim = unsafe extern "C" fn(*mut c_void, c_int, c_int) -> c_int;
/// `dax_kmem_refuse()`.
pub type Refuse = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
/// `dax_kmem_evict()` and `dax_kmem_unclaim()`.
pub type OfOwner = unsafe extern "C" fn(*mut c_void) -> c_int;
/// `dax_kmem_take_away()` and `dax_kmem_give_up()`.
pub type OfRange = unsafe extern "C" fn(*mut c_void, u64, u64) -> c_int;
/// `dax_kmem_reclaim()`.
pub type Reclaim = unsafe extern "C" fn(u64, u64) -> c_int;
