// SPDX-License-Identifier: GPL-2.0-only

//! All memory that this module knows, bound or left behind, and the zone guard over it.
//!
//! The registry's lock is taken under the kernel's hotplug lock, by the guard. So nobody holds it
//! while memory is added or removed.

use crate::{
    abstractions::{
        global::Lifetime,
        memory_notifier::{
            Event,
            Listener,
            Zone, //
        },
    },
    global_mutex,
    memory::Memory, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::Arc, //
};
use region_policy::{
    blocks::Blocks,
    online_type::OnlineType,
    zone::ZoneKind, //
};

global_mutex! {
    static KNOWN(known_lock): KVec<Arc<Memory>> = KVec::new();
}

/// From the module's init to its exit. Memory that is added keeps the module loaded: what is known at the
/// end holds none.
pub fn lifetime() -> Lifetime {
    KNOWN.begin()
}

/// Knows `memory` from now on.
pub fn remember(memory: &Arc<Memory>) -> Result {
    let mut known = KNOWN.lock()?;
    // What a device left behind may have been taken away by its owner since.
    known.retain(|other| !(other.is_left_behind() && other.is_absent()));
    known.push(memory.clone(), GFP_KERNEL)?;
    Ok(())
}

/// Knows `memory` no more.
pub fn forget(memory: &Arc<Memory>) {
    if let Ok(mut known) = KNOWN.lock() {
        known.retain(|other| !Arc::ptr_eq(other, memory));
    }
}

/// The memory that had to be left behind in these ranges, and stands under this policy.
pub fn find_left_behind(
    ranges: &[Blocks],
    online_type: Option<OnlineType>,
) -> Result<Option<Arc<Memory>>> {
    find(|memory| memory.is_left_in(ranges, online_type))
}

/// Tries once more to take away all memory that was left behind in `range`.
///
/// # Errors
///
/// `EINTR`: a signal came. `EBUSY` and others: some is still in use.
pub fn reclaim(range: &Range<u64>) -> Result {
    while let Some(memory) = find(|memory| memory.is_left_behind_in(range))? {
        memory.reclaim()?;
        forget(&memory);
        pr_info!("{}: memory left behind is gone\n", memory.label());
    }
    Ok(())
}

fn find(wanted: impl Fn(&Memory) -> bool) -> Result<Option<Arc<Memory>>> {
    Ok(KNOWN.lock()?.iter().find(|memory| wanted(memory)).cloned())
}

/// Keeps blocks out of zones that their region's policy forbids, whoever brings them online.
pub struct ZoneGuard;

impl Listener for ZoneGuard {
    fn event(event: &Event) -> Result {
        let (Event::GoingOnline(range, _) | Event::Online(range, _) | Event::Offline(range)) =
            event;
        // The registry is ready before the guard listens.
        let Some(memory) = find(|memory| memory.holds(range))? else {
            return Ok(());
        };
        match event {
            Event::GoingOnline(range, zone) => memory.going_online(range, kind(*zone))?,
            Event::Online(range, zone) => memory.block_changed(range, Some(kind(*zone))),
            Event::Offline(range) => memory.block_changed(range, None),
        }
        Ok(())
    }
}

fn kind(zone: Zone) -> ZoneKind {
    match zone {
        Zone::Kernel => ZoneKind::Kernel,
        Zone::Movable => ZoneKind::Movable,
    }
}
