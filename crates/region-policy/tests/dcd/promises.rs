// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What is promised of dynamic capacity, checked at the end of one run, whatever happened in it. What must
//! never happen on the way is checked by the device and the host themselves.

use std::collections::BTreeSet;

use region_policy::dcd::admission::Use;
use region_policy::dcd::exchange::Duty;
use region_policy::dcd::holdings::{Entry, Phase};
use region_policy::extent::{Span, Tag};

use crate::device::{Device, Raw};
use crate::fate::Fate;
use crate::host::{Act, Host, BLOCK};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ending {
    /// How many sets are memory.
    pub sets: usize,
    /// Whether events were lost on the way.
    pub overflowed: bool,
}

/// What the fabric may do in a run, and what may go wrong.
pub struct Setting<'a> {
    pub purpose: Use,
    pub log_capacity: usize,
    pub acts: &'a [Act],
    pub act_count: usize,
    pub fault_count: usize,
}

/// The extent of so many blocks from block `first` on.
pub fn blocks(first: u64, count: u64) -> Span {
    Span::new(first * BLOCK, count * BLOCK).unwrap()
}

/// The same as it is sent.
pub fn raw(first: u64, count: u64, tag: Option<Tag>, sequence: u16) -> Raw {
    (first * BLOCK, count * BLOCK, tag, sequence)
}

pub fn tag(number: u8) -> Option<Tag> {
    Tag::from_bytes([number; 16])
}

/// Runs, and checks every promise.
pub fn keep_promises(setting: &Setting<'_>, fate: &mut dyn Fate) -> Ending {
    let mut host = Host::new(
        Device::new(setting.log_capacity),
        setting.purpose,
        setting.acts,
        setting.act_count,
        setting.fault_count,
        fate,
    );
    host.settle();
    // Whatever went wrong is put right when nothing goes wrong any more and the host looks again.
    host.faults_left = 0;
    host.look_again();
    host.look_again();
    let story = || host.story.join("\n");

    assert_eq!(host.exchange.duty(), Duty::Nothing);
    assert!(
        host.device.pending.is_empty(),
        "every offer was answered; {:?} waits:\n{}",
        host.device.pending,
        story()
    );
    let holdings = host.exchange.holdings();
    for entry in holdings.entries() {
        assert_eq!(entry.phase(), Phase::Surfaced, "{entry:?}:\n{}", story());
        assert!(entry.lost().is_none(), "{entry:?}:\n{}", story());
    }
    let books: BTreeSet<(u64, u64)> = holdings
        .entries()
        .map(|entry| ends(entry.extent().span))
        .collect();
    let device: BTreeSet<(u64, u64)> = host.device.accepted.iter().copied().map(ends).collect();
    let memory: BTreeSet<(u64, u64)> = host.memory.values().flatten().copied().map(ends).collect();
    assert_eq!(books, device, "ours, the device's:\n{}", story());
    assert_eq!(books, memory, "ours, memory:\n{}", story());

    for tag in (1..4).filter_map(tag) {
        let sets: BTreeSet<u32> = holdings
            .entries()
            .filter(|entry| entry.extent().tag == Some(tag))
            .map(|entry| entry.set().number())
            .collect();
        assert!(sets.len() <= 1, "{tag} is in {sets:?}:\n{}", story());
    }
    for leader in holdings.sets() {
        let set: Vec<&Entry> = holdings.in_order(leader.set()).collect();
        assert!(
            set.is_sorted_by_key(|entry| entry.extent().sequence),
            "{set:?}"
        );
        assert_eq!(
            host.memory[&leader.set().number()],
            set.iter()
                .map(|entry| entry.extent().span)
                .collect::<Vec<_>>(),
            "memory is in the order of the sequence"
        );
    }
    Ending {
        sets: holdings.sets().count(),
        overflowed: host.device.overflows > 0,
    }
}

fn ends(span: Span) -> (u64, u64) {
    (span.start(), span.last())
}
