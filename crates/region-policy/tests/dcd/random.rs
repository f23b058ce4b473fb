// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Long runs: dozens of random acts of the fabric, several faults, a log of any size.

use std::cell::RefCell;

use proptest::prelude::*;
use region_policy::dcd::admission::Use;

use crate::device::{Device, Raw};
use crate::fate::Script;
use crate::host::{Act, BLOCK};
use crate::promises::{blocks, keep_promises, tag, Setting};

/// One command of the fabric.
#[derive(Clone, Debug)]
enum Command {
    Offer(Vec<Raw>),
    AskBack(u64, u64),
    TakeBack(u64, u64),
    Reset,
    Rebind,
}

thread_local! {
    /// What the fabric will do, the next one last.
    static COMMANDS: RefCell<Vec<Command>> = const { RefCell::new(Vec::new()) };
}

fn next_command(device: &mut Device) {
    match COMMANDS.with_borrow_mut(Vec::pop) {
        Some(Command::Offer(group)) => {
            let _ = device.offer(&group);
        }
        Some(Command::AskBack(first, count)) => device.ask_back(blocks(first, count)),
        Some(Command::TakeBack(first, count)) => device.take_back(blocks(first, count)),
        Some(Command::Reset) => device.reset_requested = true,
        Some(Command::Rebind) => device.rebind_requested = true,
        None => {}
    }
}

fn extent() -> impl Strategy<Value = (u64, u64, u16)> {
    prop_oneof![
        8 => (0..16_u64, 1..4_u64).prop_map(|(first, count)| (first * BLOCK, count * BLOCK)),
        1 => (0..16_u64).prop_map(|first| (first * BLOCK + (1 << 21), BLOCK)),
        1 => (0..16_u64).prop_map(|first| (first * BLOCK, 0)),
    ]
    .prop_flat_map(|(start, length)| (Just(start), Just(length), 0..4_u16))
}

fn group() -> impl Strategy<Value = Vec<Raw>> {
    let tags = prop_oneof![2 => Just(None), 1 => (1..4_u8).prop_map(tag)];
    let extents = proptest::collection::vec(extent(), 1..5);
    (extents, tags, any::<bool>(), 0..20_u8).prop_map(|(extents, whole, ordered, odd)| {
        extents
            .into_iter()
            .enumerate()
            .map(|(position, (start, length, sequence))| {
                let sequence = if ordered { sequence } else { 0 };
                // Now and then a group is of several tags.
                let tag = if odd == 0 && position == 1 {
                    tag(3)
                } else {
                    whole
                };
                (start, length, tag, sequence)
            })
            .collect()
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => group().prop_map(Command::Offer),
        4 => (0..20_u64, 1..6_u64).prop_map(|(first, count)| Command::AskBack(first, count)),
        1 => (0..20_u64, 1..3_u64).prop_map(|(first, count)| Command::TakeBack(first, count)),
        1 => Just(Command::Reset),
        1 => Just(Command::Rebind),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn promises_are_kept(
        commands in proptest::collection::vec(command(), 1..60),
        devdax in any::<bool>(),
        log_capacity in 1..12_usize,
        faults in 0..6_usize,
        script in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let act_count = commands.len();
        COMMANDS.set(commands);
        let acts: [Act; 1] = [next_command];
        let setting = Setting {
            purpose: if devdax { Use::Devdax } else { Use::Sysram },
            log_capacity,
            acts: &acts,
            act_count,
            fault_count: faults,
        };
        keep_promises(&setting, &mut Script(script.into_iter()));
    }
}
