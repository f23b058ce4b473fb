// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A model of the kernel's memory hotplug for one device, in which every call may fail in each way
//! that the real one can, and in which somebody else toggles blocks in between.

use std::cell::RefCell;
use std::collections::BTreeMap;

use region_policy::blocks::{BlockState, Blocks};
use region_policy::census::BlockCounts;
use region_policy::engine::{Machine, Purpose};
use region_policy::online_type::OnlineType;
use region_policy::zone::{ZoneKind, ZoneRule};

use crate::fate::Fate;

/// A fate in which nothing goes wrong, and in which the kernel prefers its own zones.
pub struct Kind;

impl Fate for Kind {
    fn choose(&mut self, _options: usize) -> usize {
        0
    }
}

/// What a zone guard promises of a whole device, in other words than those of the guard itself.
pub fn is_within(rule: ZoneRule, counts: BlockCounts) -> bool {
    match rule {
        ZoneRule::Any => true,
        ZoneRule::KernelOnly => counts.movable == 0,
        ZoneRule::MovableOnly => counts.kernel == 0,
        ZoneRule::OneZone => counts.kernel == 0 || counts.movable == 0,
    }
}

/// The kernel's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// One call that changes the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Add(Blocks, OnlineType),
    Remove(Vec<Blocks>, Purpose),
}

/// One memory block, and what happened to it.
#[derive(Clone, Copy, Debug)]
struct Block {
    state: BlockState,
    /// When it was added.
    added: Option<u64>,
    /// When it was first looked at after it was added.
    verified: Option<u64>,
    /// When somebody else last toggled it.
    toggled: Option<u64>,
}

/// What can change behind a shared reference: looking at a block gives others time to act.
struct World<'f> {
    blocks: BTreeMap<u64, Block>,
    fate: &'f mut dyn Fate,
    /// How many more things may go wrong.
    adversities_left: usize,
    adversities: usize,
    clock: u64,
    reads: u64,
    scanned: u64,
    calls: Vec<Call>,
}

/// The machine under the engine.
pub struct Model<'f> {
    ranges: Vec<Blocks>,
    rule: ZoneRule,
    world: RefCell<World<'f>>,
}

impl<'f> Model<'f> {
    /// A device with these ranges, its blocks in these states, under a zone guard. At most
    /// `adversities` things go wrong.
    pub fn new(
        ranges: &[Blocks],
        states: &[BlockState],
        rule: ZoneRule,
        adversities: usize,
        fate: &'f mut dyn Fate,
    ) -> Self {
        let numbers: Vec<u64> = ranges.iter().flat_map(|range| range.iter()).collect();
        assert_eq!(numbers.len(), states.len(), "one state for each block");
        let blocks = numbers
            .into_iter()
            .zip(states)
            .map(|(number, state)| {
                let block = Block {
                    state: *state,
                    added: None,
                    verified: None,
                    toggled: None,
                };
                (number, block)
            })
            .collect();
        Self {
            ranges: ranges.to_vec(),
            rule,
            world: RefCell::new(World {
                blocks,
                fate,
                adversities_left: adversities,
                adversities: 0,
                clock: 0,
                reads: 0,
                scanned: 0,
                calls: Vec::new(),
            }),
        }
    }

    /// What every block is, ascending by number, without giving anybody time to act.
    pub fn states(&self) -> BTreeMap<u64, BlockState> {
        let world = self.world.borrow();
        world
            .blocks
            .iter()
            .map(|(number, block)| (*number, block.state))
            .collect()
    }

    pub fn counts(&self) -> BlockCounts {
        self.states().into_values().collect()
    }

    /// How many things went wrong so far.
    pub fn adversities(&self) -> usize {
        self.world.borrow().adversities
    }

    /// Whether somebody else toggled the block at any time.
    pub fn was_toggled(&self, number: u64) -> bool {
        self.block(number).toggled.is_some()
    }

    /// Whether somebody else toggled the block after it was seen to be right, which nobody can help.
    pub fn was_toggled_after_it_was_verified(&self, number: u64) -> bool {
        let block = self.block(number);
        block.toggled.is_some_and(|toggled| {
            block.added.is_none() || block.verified.is_some_and(|verified| toggled > verified)
        })
    }

    pub fn calls(&self) -> Vec<Call> {
        self.world.borrow().calls.clone()
    }

    pub fn reads(&self) -> u64 {
        self.world.borrow().reads
    }

    /// Blocks that the kernel looked at to learn whether a zone has holes.
    pub fn scanned(&self) -> u64 {
        self.world.borrow().scanned
    }

    fn block(&self, number: u64) -> Block {
        self.world.borrow().blocks[&number]
    }

    fn assert_in_one_range(&self, piece: Blocks) {
        assert!(
            self.ranges.iter().any(|range| range.covers(piece)),
            "{piece} is not within one range of the device"
        );
    }
}

impl World<'_> {
    /// One of `options` ways to go on, of which all but the first are an adversity.
    fn suffer(&mut self, options: usize) -> usize {
        if self.adversities_left == 0 || options < 2 {
            return 0;
        }
        let choice = self.fate.choose(options);
        assert!(choice < options);
        if choice != 0 {
            self.adversities_left -= 1;
            self.adversities += 1;
        }
        choice
    }

    /// Somebody else may toggle one block now, as far as the zone guard lets them.
    fn others_act(&mut self, rule: ZoneRule) {
        self.clock += 1;
        if self.adversities_left == 0 {
            return;
        }
        let counts = self.counts();
        let toggles: Vec<(u64, BlockState)> = self
            .blocks
            .iter()
            .flat_map(|(number, block)| match block.state {
                BlockState::Absent => Vec::new(),
                BlockState::Online(_) => vec![(*number, BlockState::Offline)],
                BlockState::Offline => ZoneKind::ALL
                    .into_iter()
                    .filter(|zone| rule.admits(counts, *zone))
                    .map(|zone| (*number, BlockState::Online(zone)))
                    .collect(),
            })
            .collect();
        let choice = self.suffer(toggles.len() + 1);
        if let Some((number, state)) = choice.checked_sub(1).map(|toggle| toggles[toggle]) {
            let now = self.clock;
            let block = self.block(number);
            block.state = state;
            block.toggled = Some(now);
            assert!(
                is_within(rule, self.counts()),
                "somebody got past the guard"
            );
        }
    }

    fn block(&mut self, number: u64) -> &mut Block {
        self.blocks
            .get_mut(&number)
            .unwrap_or_else(|| panic!("memory{number} is not a block of the device"))
    }

    fn counts(&self) -> BlockCounts {
        self.blocks.values().map(|block| block.state).collect()
    }

    /// Brings an offline block online, unless the zone guard vetoes it.
    fn online(&mut self, number: u64, zone: ZoneKind, rule: ZoneRule) -> bool {
        let admitted = rule.admits(self.counts(), zone);
        if admitted {
            let start = self
                .zone_start(zone)
                .map_or(number, |start| start.min(number));
            self.scan(start, zone);
            self.block(number).state = BlockState::Online(zone);
            assert!(
                is_within(rule, self.counts()),
                "the engine got past the guard"
            );
        }
        admitted
    }

    fn offline(&mut self, number: u64) {
        if let BlockState::Online(zone) = self.block(number).state {
            self.block(number).state = BlockState::Offline;
            if let Some(start) = self.zone_start(zone) {
                self.scan(start, zone);
            }
        }
    }

    fn zone_start(&self, zone: ZoneKind) -> Option<u64> {
        self.blocks
            .iter()
            .find(|(_, block)| block.state == BlockState::Online(zone))
            .map(|(number, _)| *number)
    }

    /// The scan of the zone for holes, which ends at the first one.
    fn scan(&mut self, start: u64, zone: ZoneKind) {
        let length = self
            .blocks
            .range(start..)
            .zip(start..)
            .take_while(|((number, block), expected)| {
                *number == expected && block.state == BlockState::Online(zone)
            })
            .count();
        self.scanned += 1 + length as u64;
    }
}

impl Machine for Model<'_> {
    type Error = Refused;

    fn ranges(&self) -> &[Blocks] {
        &self.ranges
    }

    fn block_state(&self, number: u64) -> BlockState {
        let mut world = self.world.borrow_mut();
        world.reads += 1;
        world.others_act(self.rule);
        let now = world.clock;
        let block = world.block(number);
        if block.added.is_some() && block.verified.is_none() {
            block.verified = Some(now);
        }
        block.state
    }

    fn add(&mut self, piece: Blocks, online_type: OnlineType) -> Result<(), Refused> {
        self.assert_in_one_range(piece);
        let rule = self.rule;
        let world = self.world.get_mut();
        world.calls.push(Call::Add(piece, online_type));
        world.others_act(rule);

        for number in piece.iter() {
            let state = world.block(number).state;
            assert_eq!(state, BlockState::Absent, "memory{number} was added twice");
        }
        let blocks: Vec<u64> = piece.iter().collect();
        // Where the zone is the kernel's choice, each of the two is nothing to complain of.
        let (first_zone, free_choice) = match online_type {
            OnlineType::Offline => (None, false),
            OnlineType::OnlineKernel => (Some(ZoneKind::Kernel), false),
            OnlineType::OnlineMovable => (Some(ZoneKind::Movable), false),
            OnlineType::Online => (Some(ZoneKind::ALL[world.fate.choose(2)]), true),
        };
        // All well; refused; from some block on, nothing comes online; from some block on, the
        // kernel chooses the other zone.
        let fates = match (first_zone, free_choice) {
            (None, _) => 2,
            (Some(_), false) => 2 + blocks.len(),
            (Some(_), true) => 2 + blocks.len() + (blocks.len() - 1),
        };
        let fate = world.suffer(fates);
        if fate == 1 {
            return Err(Refused);
        }
        let fails_from = fate.checked_sub(2).filter(|block| *block < blocks.len());
        let turns_from = fate.checked_sub(2 + blocks.len()).map(|block| block + 1);

        let now = world.clock;
        for number in &blocks {
            let block = world.block(*number);
            block.state = BlockState::Offline;
            block.added = Some(now);
            block.verified = None;
        }
        // The kernel brings blocks up in ascending order and stops, silently, at the first failure.
        let Some(first_zone) = first_zone else {
            return Ok(());
        };
        for (index, number) in blocks.iter().enumerate() {
            let zone = match (first_zone, turns_from.is_some_and(|turn| index >= turn)) {
                (zone, false) => zone,
                (ZoneKind::Kernel, true) => ZoneKind::Movable,
                (ZoneKind::Movable, true) => ZoneKind::Kernel,
            };
            let fails = fails_from.is_some_and(|block| index >= block);
            if fails || !world.online(*number, zone, rule) {
                break;
            }
        }
        Ok(())
    }

    fn offline_and_remove(
        &mut self,
        pieces: impl Iterator<Item = Blocks> + Clone,
        purpose: Purpose,
    ) -> Result<(), Refused> {
        let pieces: Vec<Blocks> = pieces.collect();
        assert!(!pieces.is_empty(), "nothing to remove");
        for piece in &pieces {
            self.assert_in_one_range(*piece);
        }
        let rule = self.rule;
        let world = self.world.get_mut();
        world.calls.push(Call::Remove(pieces.clone(), purpose));
        world.others_act(rule);

        let blocks: Vec<u64> = pieces.iter().flat_map(|piece| piece.iter()).collect();
        for (index, number) in blocks.iter().enumerate() {
            let state = world.block(*number).state;
            assert!(
                state.is_present(),
                "memory{number} is not there to be removed"
            );
            assert!(
                !blocks[..index].contains(number),
                "memory{number} twice in one call"
            );
        }
        let online: Vec<(u64, BlockState)> = blocks
            .iter()
            .map(|number| (*number, world.block(*number).state))
            .filter(|(_, state)| state.is_online())
            .collect();
        // All well; refused and all brought back; refused and none brought back; refused and one
        // not brought back; success reported although the last piece was not removed.
        let fate = world.suffer(4 + online.len());
        match fate {
            1 => return Err(Refused),
            2 => {
                for (number, _) in &online {
                    world.block(*number).state = BlockState::Offline;
                }
                return Err(Refused);
            }
            lost if (4..4 + online.len()).contains(&lost) => {
                world.block(online[lost - 4].0).state = BlockState::Offline;
                return Err(Refused);
            }
            _ => {}
        }
        for number in &blocks {
            world.offline(*number);
        }
        let kept = if fate == 3 { pieces.last() } else { None };
        for number in blocks {
            if !kept.is_some_and(|piece| piece.contains(number)) {
                world.block(number).state = BlockState::Absent;
            }
        }
        Ok(())
    }
}
