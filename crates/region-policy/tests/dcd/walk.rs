// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Every way in which a few acts of the fabric and a few faults can fall between the host's steps.

use std::collections::BTreeMap;

use region_policy::dcd::admission::Use;

use crate::device::Device;
use crate::fate::Walk;
use crate::host::Act;
use crate::promises::{blocks, keep_promises, raw, tag, Ending, Setting};

/// Walks all paths. Returns how they ended.
fn walk(setting: &Setting<'_>) -> BTreeMap<Ending, u64> {
    let mut endings: BTreeMap<Ending, u64> = BTreeMap::new();
    let mut walk = Walk::default();
    loop {
        *endings
            .entry(keep_promises(setting, &mut walk))
            .or_default() += 1;
        if !walk.advance() {
            break;
        }
    }
    let paths: u64 = endings.values().sum();
    println!("{paths} paths: {endings:?}");
    endings
}

// The fabric's commands. Those that its manager refuses change nothing.
fn offer_one(device: &mut Device) {
    let _ = device.offer(&[raw(0, 1, None, 0)]);
}
fn offer_another(device: &mut Device) {
    let _ = device.offer(&[raw(8, 2, None, 0)]);
}
fn offer_pair(device: &mut Device) {
    let _ = device.offer(&[raw(2, 1, None, 0), raw(4, 1, None, 0)]);
}
fn offer_tagged(device: &mut Device) {
    let _ = device.offer(&[raw(3, 1, tag(1), 2), raw(1, 1, tag(1), 1)]);
}
fn offer_tag_again(device: &mut Device) {
    let _ = device.offer(&[raw(5, 1, tag(1), 0)]);
}
fn offer_misaligned(device: &mut Device) {
    let (start, length, ..) = raw(6, 1, None, 0);
    let _ = device.offer(&[(start + (1 << 21), length, None, 0)]);
}
fn offer_nothing(device: &mut Device) {
    let _ = device.offer(&[(0, 0, None, 0)]);
}
fn offer_more_than_the_log_holds(device: &mut Device) {
    let group: Vec<_> = (10..14).map(|block| raw(block, 1, tag(2), 0)).collect();
    let _ = device.offer(&group);
}
fn ask_back(device: &mut Device) {
    device.ask_back(blocks(0, 2));
}
fn ask_back_what_nobody_has(device: &mut Device) {
    device.ask_back(blocks(20, 1));
}
fn take_back(device: &mut Device) {
    device.take_back(blocks(0, 1));
}
fn take_back_a_part(device: &mut Device) {
    device.take_back(blocks(8, 1));
}
fn reset(device: &mut Device) {
    device.reset_requested = true;
}

#[test]
fn without_adversity_every_offer_that_can_be_used_is_accepted() {
    let acts: [Act; 3] = [offer_one, offer_pair, offer_tagged];
    for (purpose, one, pair) in [(Use::Sysram, 1, 2), (Use::Devdax, 1, 1)] {
        for (act, sets) in [(0, one), (1, pair), (2, 1)] {
            let endings = walk(&Setting {
                purpose,
                log_capacity: 8,
                acts: &acts[act..=act],
                act_count: 1,
                fault_count: 0,
            });
            let expected = Ending {
                sets,
                overflowed: false,
            };
            assert!(endings.keys().all(|ending| *ending == expected));
        }
    }
}

#[test]
fn offers_of_every_kind_at_every_moment() {
    for purpose in [Use::Sysram, Use::Devdax] {
        let endings = walk(&Setting {
            purpose,
            log_capacity: 8,
            acts: &[
                offer_one,
                offer_pair,
                offer_tagged,
                offer_tag_again,
                offer_misaligned,
                offer_nothing,
            ],
            act_count: 3,
            fault_count: 0,
        });
        assert!(endings.keys().all(|ending| !ending.overflowed));
        // Three different ones that can be used are all accepted, whenever they come.
        assert!(endings.keys().any(|ending| ending.sets >= 3));
    }
}

#[test]
fn memory_asked_back_and_taken_back_at_every_moment() {
    for purpose in [Use::Sysram, Use::Devdax] {
        let endings = walk(&Setting {
            purpose,
            log_capacity: 8,
            acts: &[
                offer_one,
                offer_another,
                offer_tagged,
                ask_back,
                ask_back_what_nobody_has,
                take_back,
                take_back_a_part,
                reset,
            ],
            act_count: 3,
            fault_count: 0,
        });
        assert!(endings.keys().any(|ending| ending.sets == 0));
        assert!(endings.keys().any(|ending| ending.sets == 3));
    }
}

#[test]
fn an_event_log_that_overflows_at_every_moment() {
    for log_capacity in [1, 2, 3] {
        let endings = walk(&Setting {
            purpose: Use::Sysram,
            log_capacity,
            acts: &[
                offer_one,
                offer_pair,
                offer_tagged,
                offer_more_than_the_log_holds,
                ask_back,
            ],
            act_count: 3,
            fault_count: 0,
        });
        assert!(endings.keys().any(|ending| ending.overflowed));
        assert!(endings.keys().any(|ending| !ending.overflowed));
    }
}

#[test]
fn commands_lost_and_memory_in_use_at_every_moment() {
    for purpose in [Use::Sysram, Use::Devdax] {
        walk(&Setting {
            purpose,
            log_capacity: 2,
            acts: &[
                offer_one,
                offer_tagged,
                offer_more_than_the_log_holds,
                ask_back,
                take_back,
            ],
            act_count: 2,
            fault_count: 2,
        });
    }
}
