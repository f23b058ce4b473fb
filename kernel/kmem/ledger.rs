// SPDX-License-Identifier: GPL-2.0-only

//! What every block of a device is, as its events tell.
//!
//! Asking the memory map itself is only safe for whoever keeps the memory from being removed
//! meanwhile. Everybody else, a reader of `state` or the zone guard, asks the ledger. Nothing escapes
//! it: each block that goes online or offline is announced under the kernel's hotplug lock, whoever
//! does it, and only this module adds and removes the device's blocks.

use crate::abstractions::hotplug;
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};
use region_policy::{
    blocks::{
        BlockState,
        Blocks, //
    },
    census::BlockCounts,
    zone::ZoneKind, //
};

/// What every block of a device is.
pub struct Ledger {
    ranges: KVec<Blocks>,
    /// One entry for each block, in the order of the ranges.
    blocks: KVVec<Atomic<i32>>,
    /// How many are online in each kind of zone: the guard must not count on every block.
    kernel: Atomic<i64>,
    movable: Atomic<i64>,
    /// The block that went offline last.
    last_offline: Atomic<u64>,
    /// How many notes there were.
    notes: Atomic<i64>,
}

/// In [`Ledger::last_offline`]: none did.
const NONE: u64 = u64::MAX;

impl Ledger {
    /// The ledger of a device with these ranges, of which nothing is added yet.
    pub fn new(ranges: KVec<Blocks>) -> Result<Self> {
        let count = region_policy::journal::Journal::entries_for(&ranges);
        let mut blocks = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            blocks.push(Atomic::new(encode(BlockState::Absent)), GFP_KERNEL)?;
        }
        Ok(Self {
            ranges,
            blocks,
            kernel: Atomic::new(0),
            movable: Atomic::new(0),
            last_offline: Atomic::new(NONE),
            notes: Atomic::new(0),
        })
    }

    /// The device's ranges.
    pub fn ranges(&self) -> &[Blocks] {
        &self.ranges
    }

    /// Whether some of the device lies in these physical addresses.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        self.ranges.iter().any(|blocks| {
            let own = physical(*blocks);
            own.start < range.end && range.start < own.end
        })
    }

    /// How many blocks are what.
    pub fn counts(&self) -> BlockCounts {
        self.blocks
            .iter()
            .map(|entry| decode(entry.load(Relaxed)))
            .collect()
    }

    /// How many blocks are online in each kind of zone, and nothing else.
    pub fn online(&self) -> BlockCounts {
        let count = |counter: &Atomic<i64>| u64::try_from(counter.load(Relaxed)).unwrap_or(0);
        BlockCounts {
            kernel: count(&self.kernel),
            movable: count(&self.movable),
            ..BlockCounts::default()
        }
    }

    /// Notes what the block is from now on.
    ///
    /// Notes of one block never race: a block that is there changes under the hotplug lock, and one
    /// that is not changes by whoever adds it.
    pub fn note(&self, block: u64, state: BlockState) {
        let Some(entry) = self.entry(block) else {
            return;
        };
        let before = decode(entry.xchg(encode(state), Relaxed));
        self.notes.add(1, Relaxed);
        for (state, change) in [(before, -1), (state, 1)] {
            match state {
                BlockState::Online(ZoneKind::Kernel) => self.kernel.add(change, Relaxed),
                BlockState::Online(ZoneKind::Movable) => self.movable.add(change, Relaxed),
                BlockState::Absent | BlockState::Offline => {}
            }
        }
        if before.is_online() && state == BlockState::Offline {
            self.last_offline.store(block, Relaxed);
        }
    }

    /// Whether the block is online, as far as is noted.
    pub fn is_online(&self, block: u64) -> bool {
        self.entry(block)
            .is_some_and(|entry| decode(entry.load(Relaxed)).is_online())
    }

    /// How far things have come: another number whenever a block has become something else.
    pub fn progress(&self) -> i64 {
        self.notes.load(Relaxed)
    }

    /// The block that went offline last since the last call.
    pub fn take_last_offline(&self) -> Option<u64> {
        Some(self.last_offline.xchg(NONE, Relaxed)).filter(|block| *block != NONE)
    }

    fn entry(&self, block: u64) -> Option<&Atomic<i32>> {
        let mut before: u64 = 0;
        for range in self.ranges.iter() {
            if range.contains(block) {
                let index = before.checked_add(block.checked_sub(range.first())?)?;
                return self.blocks.get(usize::try_from(index).ok()?);
            }
            before = before.checked_add(range.count())?;
        }
        None
    }
}

fn encode(state: BlockState) -> i32 {
    match state {
        BlockState::Absent => 0,
        BlockState::Offline => 1,
        BlockState::Online(ZoneKind::Kernel) => 2,
        BlockState::Online(ZoneKind::Movable) => 3,
    }
}

fn decode(number: i32) -> BlockState {
    match number {
        1 => BlockState::Offline,
        2 => BlockState::Online(ZoneKind::Kernel),
        3 => BlockState::Online(ZoneKind::Movable),
        _ => BlockState::Absent,
    }
}

/// The physical addresses of `blocks`.
pub fn physical(blocks: Blocks) -> Range<u64> {
    let size = hotplug::block_size();
    let start = blocks.first().saturating_mul(size);
    start..start.saturating_add(blocks.count().saturating_mul(size))
}
