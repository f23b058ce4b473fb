// SPDX-License-Identifier: GPL-2.0-only

//! What region drivers want for the memory of a device, which they say before it exists.
//!
//! `abstractions/kmem_abi.rs` documents the functions.

use crate::{
    abstractions::{
        dax_driver::OwnerKey,
        global::Lifetime,
        kmem_abi, //
    },
    export_symbol_gpl,
    global_mutex,
    memory::Memory,
    registry, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::Arc, //
};
use region_policy::online_type::OnlineType;

/// What the owner of a device wants for its memory.
#[derive(Clone, Copy)]
pub struct Policy {
    /// The `N` of `regionN`, for the log.
    pub region: c_int,
    /// How the memory comes online, and what it stays within.
    pub online_type: OnlineType,
}

/// What the owner of a device wants.
#[derive(Clone, Copy)]
pub enum Terms {
    /// System RAM under a policy.
    Policy(Policy),
    /// No System RAM: applications map the memory, and other hosts may share it.
    Refusal {
        /// The `N` of `regionN`, for the log.
        region: c_int,
    },
}

struct Claim {
    owner: OwnerKey,
    terms: Terms,
    /// The memory is being taken away: none comes any more.
    evicted: bool,
    /// The memory of its devices: a region may be cut into several.
    memory: KVec<Arc<Memory>>,
}

global_mutex! {
    static CLAIMS(claims_lock): KVec<Claim> = KVec::new();
}

/// From the module's init to its exit.
pub fn lifetime() -> Lifetime {
    CLAIMS.begin()
}

/// What the owner of a device wants, if it claims it.
pub fn terms(owner: OwnerKey) -> Result<Option<Terms>> {
    let claims = CLAIMS.lock()?;
    Ok(claims
        .iter()
        .find(|claim| claim.owner == owner)
        .map(|claim| claim.terms))
}

/// Takes note of the memory of a device before any of it comes, so that it can be evicted meanwhile.
///
/// # Errors
///
/// `ENODEV`: the owner is on its way out. `ENOMEM`.
pub fn admit(owner: OwnerKey, memory: &Arc<Memory>) -> Result {
    let admitted = with(owner, |claim| {
        if claim.evicted {
            return Err(ENODEV);
        }
        if !claim.memory.iter().any(|other| Arc::ptr_eq(other, memory)) {
            claim.memory.push(memory.clone(), GFP_KERNEL)?;
        }
        Ok(())
    });
    // Without a claim there is nobody to ask.
    admitted.unwrap_or(Ok(()))
}

/// Takes note that a device left with all of its memory: its blocks may belong to another from now on.
pub fn unbound(owner: OwnerKey, memory: &Arc<Memory>) {
    // Without a claim there is nothing to forget.
    let _ = with(owner, |claim| {
        claim.memory.retain(|other| !Arc::ptr_eq(other, memory));
    });
}

fn with<R>(owner: OwnerKey, f: impl FnOnce(&mut Claim) -> R) -> Result<R> {
    let mut claims = CLAIMS.lock()?;
    claims
        .iter_mut()
        .find(|claim| claim.owner == owner)
        .map(f)
        .ok_or(ENOENT)
}

fn policy(region: c_int, online_type: c_int) -> Result<Terms> {
    let online_type = u8::try_from(online_type)
        .ok()
        .and_then(OnlineType::from_mmop)
        .ok_or(EINVAL)?;
    Ok(Terms::Policy(Policy {
        region,
        online_type,
    }))
}

fn claim(owner: OwnerKey, terms: Terms) -> Result {
    let mut claims = CLAIMS.lock()?;
    if claims.iter().any(|claim| claim.owner == owner) {
        return Err(EEXIST);
    }
    let claim = Claim {
        owner,
        terms,
        evicted: false,
        memory: KVec::new(),
    };
    claims.push(claim, GFP_KERNEL)?;
    Ok(())
}

/// Lets no more memory come to the devices of `owner`, and tells what they have.
fn close(owner: OwnerKey) -> Result<KVec<Arc<Memory>>> {
    with(owner, |claim| {
        claim.evicted = true;
        let mut memory = KVec::with_capacity(claim.memory.len(), GFP_KERNEL)?;
        for one in claim.memory.iter() {
            memory.push(one.clone(), GFP_KERNEL)?;
        }
        Ok(memory)
    })?
}

fn evict(owner: OwnerKey) -> Result {
    // The claims are not locked while memory moves, and all is tried before an error is told.
    let mut result = Ok(());
    for memory in close(owner)? {
        result = result.and(memory.evict());
    }
    result
}

/// Does `f` with the memory of each device that has some of `range`. The claims are not locked while memory moves.
fn for_each_in(owner: OwnerKey, range: &Range<u64>, f: impl Fn(&Arc<Memory>) -> Result) -> Result {
    let mut list = KVec::new();
    with(owner, |claim| -> Result {
        for one in claim.memory.iter().filter(|memory| memory.holds(range)) {
            list.push(one.clone(), GFP_KERNEL)?;
        }
        Ok(())
    })??;
    list.iter().try_for_each(f)
}

fn unclaim(owner: OwnerKey) -> Result {
    let mut claims = CLAIMS.lock()?;
    let gone = claims
        .iter()
        .filter(|claim| claim.owner == owner)
        .all(|claim| claim.memory.iter().all(|memory| memory.is_absent()));
    claims.retain(|claim| claim.owner != owner);
    if gone {
        Ok(())
    } else {
        Err(EBUSY)
    }
}

fn errno(result: Result) -> c_int {
    result.map_or_else(|error| error.to_errno(), |()| 0)
}

/// See [`kmem_abi`].
#[no_mangle]
pub extern "C" fn dax_kmem_claim(owner: *mut c_void, region: c_int, online_type: c_int) -> c_int {
    errno(policy(region, online_type).and_then(|terms| claim(OwnerKey::of(owner), terms)))
}
export_symbol_gpl!(dax_kmem_claim);

/// See [`kmem_abi`].
#[no_mangle]
pub extern "C" fn dax_kmem_refuse(owner: *mut c_void, region: c_int) -> c_int {
    errno(claim(OwnerKey::of(owner), Terms::Refusal { region }))
}
export_symbol_gpl!(dax_kmem_refuse);

/// See [`kmem_abi`].
#[no_mangle]
pub extern "C" fn dax_kmem_evict(owner: *mut c_void) -> c_int {
    errno(evict(OwnerKey::of(owner)))
}
export_symbol_gpl!(dax_kmem_evict);

/// See [`kmem_abi`].
#[no_mangle]
pub extern "C" fn dax_kmem_take_away(owner: *mut c_void, start: u64, end: u64) -> c_int {
    errno(for_each_in(OwnerKey::of(owner), &(start..end), |memory| {
        memory.take_away()
    }))
}
export_symbol_gpl!(dax_kmem_take_away);

/// See [`kmem_abi`].
#[no_mangle]
pub extern "C" fn dax_kmem_give_up(owner: *mut c_void, start: u64, end: u64) -> c_int {
    let lost = start..end;
    errno(for_each_in(OwnerKey::of(owner), &lost, |memory| {
        memory.give_up(&lost)
    }))
}
export_symbol_gpl!(dax_kmem_give_up);

/// See [`kmem_abi`].
#[no_mangle]
pub extern "C" fn dax_kmem_unclaim(owner: *mut c_void) -> c_int {
    errno(unclaim(OwnerKey::of(owner)))
}
export_symbol_gpl!(dax_kmem_unclaim);

/// See [`kmem_abi`].
#[no_mangle]
pub extern "C" fn dax_kmem_reclaim(start: u64, end: u64) -> c_int {
    errno(registry::reclaim(&(start..end)))
}
export_symbol_gpl!(dax_kmem_reclaim);

// The other side relies on these signatures.
const _: kmem_abi::Claim = dax_kmem_claim;
const _: kmem_abi::Refuse = dax_kmem_refuse;
const _: kmem_abi::OfOwner = dax_kmem_evict;
const _: kmem_abi::OfRange = dax_kmem_take_away;
const _: kmem_abi::OfRange = dax_kmem_give_up;
const _: kmem_abi::OfOwner = dax_kmem_unclaim;
const _: kmem_abi::Reclaim = dax_kmem_reclaim;
