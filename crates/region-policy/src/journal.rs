// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What every block of a device was before a transition, and in which order blocks are worked on.
//!
//! # The order, and why
//! Each time a block goes online or offline, the kernel scans its zone from the start to learn
//! whether it has holes, and stops at the first one. In ascending order there is no hole below the
//! block in hand, each scan covers all that was done before, and the whole is quadratic. So one hole
//! is kept open close to the start of the zone for as long as anything else is left to do:
//!
//! - coming online, the lowest block goes first (so that the zone starts there), the second lowest
//!   last, and everything else between;
//! - going offline, the second lowest online block goes first, the lowest last, and everything else
//!   between.
//!
//! That is three pieces of work instead of one, and each piece costs the kernel something of its own:
//! below [`WORTH_A_HOLE`] blocks the scans are the lesser evil, and blocks are taken as they come.

use crate::blocks::{BlockState, Blocks};
use crate::census::BlockCounts;
use crate::engine::Machine;

/// From how many blocks on the hole costs less than the scans that it saves: measured, a piece costs
/// as much as the scans of some ten blocks do among a few dozen.
pub const WORTH_A_HOLE: usize = 48;

/// What is known of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(crate) block: u64,
    /// Which of the device's ranges the block is in: no piece of work crosses from one to another.
    range: usize,
    pub(crate) before: BlockState,
    pub(crate) now: BlockState,
}

impl Entry {
    /// An entry that was not written yet, to fill storage with.
    pub const UNUSED: Self = Self {
        block: 0,
        range: 0,
        before: BlockState::Absent,
        now: BlockState::Absent,
    };
}

/// What every block of a device was when a transition began, and when it was last looked at.
///
/// It lives in storage of the caller, one [`Entry`] for each block.
#[derive(Debug)]
pub struct Journal<'a> {
    entries: &'a mut [Entry],
}

impl<'a> Journal<'a> {
    /// How many entries a device with these ranges needs.
    #[must_use]
    pub fn entries_for(ranges: &[Blocks]) -> usize {
        ranges.iter().fold(0, |entries: usize, range| {
            entries.saturating_add(usize::try_from(range.count()).unwrap_or(usize::MAX))
        })
    }

    /// Reads what every block is; `None` if the storage has fewer entries than
    /// [`Journal::entries_for`] tells.
    pub fn read<M: Machine>(machine: &M, storage: &'a mut [Entry]) -> Option<Self> {
        let entries = storage.get_mut(..Self::entries_for(machine.ranges()))?;
        let blocks = machine
            .ranges()
            .iter()
            .enumerate()
            .flat_map(|(range, blocks)| blocks.iter().map(move |block| (range, block)));
        for (entry, (range, block)) in entries.iter_mut().zip(blocks) {
            let state = machine.block_state(block);
            *entry = Entry {
                block,
                range,
                before: state,
                now: state,
            };
        }
        Some(Self { entries })
    }

    /// What the blocks were when they were last looked at.
    #[must_use]
    pub fn counts(&self) -> BlockCounts {
        self.entries.iter().map(|entry| entry.now).collect()
    }

    /// Looks at every block again.
    pub(crate) fn refresh<M: Machine>(&mut self, machine: &M) {
        for entry in self.entries.iter_mut() {
            entry.now = machine.block_state(entry.block);
        }
    }

    /// The blocks that were there when they were last looked at.
    pub(crate) fn present(&self) -> impl Iterator<Item = u64> + '_ {
        let present = self.entries.iter().filter(|entry| entry.now.is_present());
        present.map(|entry| entry.block)
    }

    /// The first entry, in the order of the ranges, of which `wanted` holds.
    pub(crate) fn find(&self, wanted: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        self.entries.iter().find(|entry| wanted(entry))
    }

    /// The wanted blocks in the order in which they are to come online, in as few pieces as that
    /// order and the ranges allow.
    pub(crate) fn addition<'j>(
        &'j self,
        wanted: impl Fn(&Entry) -> bool + Copy + 'j,
    ) -> impl Iterator<Item = Blocks> + Clone + 'j {
        let hole = self.hole(wanted);
        self.pieces(wanted, hole.map(|hole| (hole.lowest, hole.second)))
    }

    /// The wanted blocks in the order in which they are to go offline, in as few pieces as that
    /// order and the ranges allow.
    pub(crate) fn removal<'j>(
        &'j self,
        wanted: impl Fn(&Entry) -> bool + Copy + 'j,
    ) -> impl Iterator<Item = Blocks> + Clone + 'j {
        // Blocks that are offline already are in no zone, and so make no hole in one.
        let hole = self.hole(move |entry| wanted(entry) && entry.now.is_online());
        self.pieces(wanted, hole.map(|hole| (hole.second, hole.lowest)))
    }

    /// The wanted blocks: one that goes first, one that goes last, and the runs of the others.
    fn pieces<'j>(
        &'j self,
        wanted: impl Fn(&Entry) -> bool + Copy + 'j,
        ends: Option<(u64, u64)>,
    ) -> impl Iterator<Item = Blocks> + Clone + 'j {
        let (first, last) = ends.unzip();
        let between = Runs {
            entries: self.entries,
            wanted: move |entry: &Entry| {
                wanted(entry) && Some(entry.block) != first && Some(entry.block) != last
            },
        };
        let single = |end: Option<u64>| end.map(Blocks::single).into_iter();
        single(first).chain(between).chain(single(last))
    }

    /// The two lowest wanted blocks, if there are so many that a hole is worth its pieces.
    fn hole(&self, wanted: impl Fn(&Entry) -> bool) -> Option<Hole> {
        if self.entries.iter().filter(|entry| wanted(entry)).count() < WORTH_A_HOLE {
            return None;
        }
        let above = |floor: Option<u64>| {
            self.entries
                .iter()
                .filter(|entry| wanted(entry))
                .map(|entry| entry.block)
                .filter(|block| floor.is_none_or(|floor| floor < *block))
                .min()
        };
        let lowest = above(None)?;
        let second = above(Some(lowest))?;
        Some(Hole { lowest, second })
    }
}

/// The two blocks between which the hole is kept open: one of them is online while the other is not.
struct Hole {
    lowest: u64,
    second: u64,
}

/// The longest runs of wanted blocks that follow each other within one range.
#[derive(Clone)]
struct Runs<'j, W> {
    entries: &'j [Entry],
    wanted: W,
}

impl<W: Fn(&Entry) -> bool> Iterator for Runs<'_, W> {
    type Item = Blocks;

    fn next(&mut self) -> Option<Blocks> {
        let mut run: Option<(usize, Blocks)> = None;
        while let Some((entry, rest)) = self.entries.split_first() {
            let wanted = (self.wanted)(entry);
            run = match run {
                None if wanted => Some((entry.range, Blocks::single(entry.block))),
                None => None,
                Some((range, blocks)) if wanted && range == entry.range => {
                    match blocks.followed_by(entry.block) {
                        Some(longer) => Some((range, longer)),
                        None => break,
                    }
                }
                Some(_) => break,
            };
            self.entries = rest;
        }
        run.map(|(_, blocks)| blocks)
    }
}
