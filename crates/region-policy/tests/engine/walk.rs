// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Every path through the engine on small devices: each state in which a device can be, each request,
//! each policy, each way in which each call can fail, and each block toggled at each moment.
//!
//! One transition from *every* state covers all sequences of transitions, since each begins where the one
//! before it ended.

use std::collections::BTreeMap;

use region_policy::blocks::{BlockState, Blocks};
use region_policy::online_type::OnlineType;
use region_policy::request::{OnlineTarget, Request};
use region_policy::zone::ZoneKind;

use crate::fate::Walk;
use crate::promises::{keep_promises, Ask, Device, Ending};

const STATES: [BlockState; 4] = [
    BlockState::Absent,
    BlockState::Offline,
    BlockState::Online(ZoneKind::Kernel),
    BlockState::Online(ZoneKind::Movable),
];

const POLICIES: [Option<OnlineType>; 5] = [
    None,
    Some(OnlineType::Offline),
    Some(OnlineType::Online),
    Some(OnlineType::OnlineKernel),
    Some(OnlineType::OnlineMovable),
];

/// Every combination of block states for that many blocks.
fn combinations(blocks: usize) -> Vec<Vec<BlockState>> {
    (0..blocks).fold(vec![Vec::new()], |shorter, _| {
        shorter
            .iter()
            .flat_map(|states| {
                STATES.map(|state| {
                    let mut states = states.clone();
                    states.push(state);
                    states
                })
            })
            .collect()
    })
}

/// Everything that can be asked of a device under that policy. The first add uses the policy, or the
/// system's default where there is none.
fn asks(policy: Option<OnlineType>) -> Vec<Ask> {
    let requests = [Request::Unplug]
        .into_iter()
        .chain(OnlineTarget::ALL.map(Request::Online))
        .map(Ask::Request);
    let first_adds = OnlineType::ALL
        .into_iter()
        .filter(|online_type| policy.is_none_or(|policy| policy == *online_type))
        .map(Ask::FirstAdd);
    requests.chain(first_adds).collect()
}

/// Walks all devices with these ranges, with up to so many adversities on each path.
fn walk(ranges: &[(u64, u64)], adversities: usize) {
    let ranges: Vec<Blocks> = ranges
        .iter()
        .map(|(first, count)| Blocks::new(*first, *count).unwrap())
        .collect();
    let blocks = ranges.iter().map(|range| range.iter().count()).sum();
    let mut devices = 0_u64;
    let mut endings: BTreeMap<Ending, u64> = BTreeMap::new();
    for states in combinations(blocks) {
        for policy in POLICIES {
            let device = Device {
                ranges: ranges.clone(),
                states: states.clone(),
                policy,
                last_requested: None,
            };
            if !device.is_reachable() {
                continue;
            }
            devices += 1;
            for ask in asks(policy) {
                // A first add meets a device with nothing online.
                let online = states.iter().any(|state| state.is_online());
                if matches!(ask, Ask::FirstAdd(_)) && online {
                    continue;
                }
                let mut walk = Walk::default();
                loop {
                    let evidence = Evidence {
                        device: &device,
                        ask,
                    };
                    let ending = keep_promises(&device, ask, adversities, &mut walk);
                    evidence.discard();
                    *endings.entry(ending).or_default() += 1;
                    if !walk.advance() {
                        break;
                    }
                }
            }
        }
    }
    let paths: u64 = endings.values().sum();
    println!(
        "ranges {ranges:?}, up to {adversities} adversities: {devices} devices, {paths} paths: {endings:?}"
    );
    for ending in [
        Ending::NothingToDo,
        Ending::Refused,
        Ending::Done,
        Ending::RolledBack,
    ] {
        assert!(
            endings.contains_key(&ending),
            "{ending:?} was never reached"
        );
    }
    assert_eq!(endings.contains_key(&Ending::Stuck), adversities > 1);
}

/// Tells on which device a promise was broken.
struct Evidence<'d> {
    device: &'d Device,
    ask: Ask,
}

impl Evidence<'_> {
    fn discard(self) {
        std::mem::forget(self);
    }
}

impl Drop for Evidence<'_> {
    fn drop(&mut self) {
        eprintln!("broken on {:?} by {:?}", self.device, self.ask);
    }
}

#[test]
fn one_block_and_three_adversities() {
    walk(&[(7, 1)], 3);
}

#[test]
fn two_blocks_and_three_adversities() {
    walk(&[(0, 2)], 3);
}

#[test]
fn two_ranges_of_one_block_side_by_side_and_three_adversities() {
    walk(&[(8, 1), (9, 1)], 3);
}

#[test]
fn three_blocks_and_two_adversities() {
    walk(&[(8, 3)], 2);
}

#[test]
fn two_ranges_out_of_order_and_two_adversities() {
    walk(&[(8, 2), (5, 1)], 2);
}

#[test]
fn four_blocks_and_one_adversity() {
    walk(&[(8, 4)], 1);
}

#[test]
fn five_blocks_in_two_ranges_and_one_adversity() {
    walk(&[(16, 3), (8, 2)], 1);
}
