// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Laws that hold for every input: of decisions, of words, of alignment, of the journal's storage.

use proptest::prelude::*;
use region_policy::blocks::{BlockState, Blocks};
use region_policy::census::BlockCounts;
use region_policy::engine::{Machine, Purpose};
use region_policy::journal::{Entry, Journal};
use region_policy::layout::Aligned;
use region_policy::online_type::OnlineType;
use region_policy::request::{OnlineTarget, Request};
use region_policy::state::{DeviceState, Vocabulary};
use region_policy::transition::{decide, Refusal, Transition};
use region_policy::zone::{ZoneKind, ZoneRule};

fn online_types() -> impl Iterator<Item = Option<OnlineType>> + Clone {
    OnlineType::ALL.into_iter().map(Some).chain([None])
}

/// Every device with up to two blocks of each kind, in every history, asked for everything.
fn every_decision(
    mut law: impl FnMut(BlockCounts, Option<OnlineType>, Request, Option<OnlineType>),
) -> u64 {
    let mut decisions = 0;
    for digits in 0..81_u64 {
        let counts = BlockCounts {
            absent: digits % 3,
            offline: digits / 3 % 3,
            kernel: digits / 9 % 3,
            movable: digits / 27,
        };
        for last_requested in online_types() {
            for policy in online_types() {
                let online = OnlineTarget::ALL.map(Request::Online);
                for request in [Request::Unplug].into_iter().chain(online) {
                    law(counts, last_requested, request, policy);
                    decisions += 1;
                }
            }
        }
    }
    decisions
}

#[test]
fn a_plug_completes_a_device_within_its_policy_and_its_zone() {
    let decisions = every_decision(|counts, last_requested, request, policy| {
        let decision = decide(counts, last_requested, request, policy);
        let Ok(Transition::Plug(online_type)) = decision else {
            return;
        };
        let Request::Online(target) = request else {
            panic!("a plug where an unplug was asked for");
        };
        assert!(counts.missing() > 0 || counts.total() == 0, "{counts}");
        assert_ne!(online_type, OnlineType::Offline);
        for zone in ZoneKind::ALL {
            let may_enter = match online_type {
                OnlineType::Online => target == OnlineTarget::Online,
                explicit => explicit == OnlineType::in_zone(zone),
            };
            if may_enter {
                assert!(target.accepts(zone), "{target} on {counts}");
                assert!(
                    ZoneRule::from_policy(policy).admits(counts, zone),
                    "{target} on {counts} under {policy:?}"
                );
                let other_zone = counts.online() - counts.in_zone(zone);
                assert_eq!(other_zone, 0, "{target} on {counts} divides the device");
            }
        }
    });
    println!("{decisions} decisions");
}

#[test]
fn an_unplug_is_never_refused_and_leaves_nothing_to_ask() {
    every_decision(|counts, last_requested, request, policy| {
        if request == Request::Unplug {
            let unplugged = counts.absent == counts.total();
            let expected = if unplugged {
                Transition::Nothing
            } else {
                Transition::Unplug
            };
            assert_eq!(
                decide(counts, last_requested, request, policy),
                Ok(expected)
            );
        }
    });
}

#[test]
fn nothing_to_do_means_that_the_attribute_reads_what_was_asked_for() {
    every_decision(|counts, last_requested, request, policy| {
        if decide(counts, last_requested, request, policy) != Ok(Transition::Nothing) {
            return;
        }
        let state = DeviceState::observe(counts, last_requested);
        match request {
            Request::Unplug => assert_eq!(state, DeviceState::Unplugged),
            Request::Online(target) => {
                assert_eq!(counts.missing(), 0);
                assert!(counts.kernel == 0 || counts.movable == 0);
                let word = Vocabulary::State.word(state);
                let choice_of_kernel = target == OnlineTarget::Online
                    && last_requested == Some(OnlineType::Online)
                    && state == DeviceState::OnlineMovable;
                assert!(
                    word == target.to_string() || choice_of_kernel,
                    "{word}, {target}"
                );
            }
        }
    });
}

#[test]
fn a_refused_request_can_be_made_after_an_unplug_unless_the_policy_forbids_it() {
    every_decision(|counts, last_requested, request, policy| {
        let Err(refusal) = decide(counts, last_requested, request, policy) else {
            return;
        };
        let unplugged = BlockCounts {
            absent: counts.total(),
            ..BlockCounts::default()
        };
        let then = decide(unplugged, None, request, policy);
        match refusal {
            Refusal::Busy { .. } => assert!(matches!(then, Ok(Transition::Plug(_)))),
            Refusal::Policy { .. } => assert_eq!(then, Err(refusal)),
        }
    });
}

/// What a C string of these bytes says: libraries write the zero byte that ends it as well.
fn before_zero(written: &[u8]) -> &[u8] {
    written.split(|byte| *byte == 0).next().unwrap_or_default()
}

proptest! {
    #[test]
    fn no_bytes_are_a_request_but_the_words(written in proptest::collection::vec(any::<u8>(), 0..24)) {
        for vocabulary in Vocabulary::ALL {
            let text = before_zero(&written);
            let word = vocabulary.requests().iter().find(|(word, _)| {
                text == word.as_bytes() || text == format!("{word}\n").as_bytes()
            });
            prop_assert_eq!(vocabulary.parse(&written).ok(), word.map(|(_, request)| *request));
        }
    }

    #[test]
    fn words_with_anything_added_are_refused(
        (word, _) in proptest::sample::select(Vocabulary::State.requests().to_vec()),
        added in "[ \\n\\t\\x00a-z_]{1,3}",
        in_front in any::<bool>(),
    ) {
        let written = if in_front { format!("{added}{word}") } else { format!("{word}{added}") };
        let valid: Vec<String> = Vocabulary::State
            .requests()
            .iter()
            .flat_map(|(word, _)| [(*word).to_owned(), format!("{word}\n")])
            .collect();
        prop_assert_eq!(
            Vocabulary::State.parse(written.as_bytes()).is_ok(),
            valid.iter().any(|valid| valid.as_bytes() == before_zero(written.as_bytes()))
        );
    }

    #[test]
    fn alignment_loses_less_than_a_block_at_each_end(
        start in prop_oneof![any::<u64>(), 0..1_u64 << 40],
        length in prop_oneof![any::<u64>(), 0..1_u64 << 40],
        shift in 0..63_u32,
    ) {
        let last = start.saturating_add(length);
        let size = 1_u128 << shift;
        let first_block = u128::from(start).div_ceil(size);
        let beyond_last_block = (u128::from(last) + 1) / size;
        let aligned = Aligned::within(start, last, 1 << shift);
        // A run of 2^64 blocks has no count; only bytes as blocks make one.
        if beyond_last_block <= first_block || beyond_last_block - first_block > u128::from(u64::MAX) {
            prop_assert_eq!(aligned, None);
            return Ok(());
        }
        let aligned = aligned.unwrap();
        prop_assert_eq!(u128::from(aligned.blocks.first()), first_block);
        prop_assert_eq!(u128::from(aligned.blocks.last()) + 1, beyond_last_block);
        let length = u128::from(last) + 1 - u128::from(start);
        let whole = u128::from(aligned.blocks.count()) * size;
        prop_assert_eq!(u128::from(aligned.truncated), length - whole);
    }
}

/// A device of which every block is offline, and which nobody may change.
struct Still(Vec<Blocks>);

impl Machine for Still {
    type Error = ();

    fn ranges(&self) -> &[Blocks] {
        &self.0
    }

    fn block_state(&self, _block: u64) -> BlockState {
        BlockState::Offline
    }

    fn add(&mut self, piece: Blocks, _online_type: OnlineType) -> Result<(), ()> {
        panic!("{piece} was added");
    }

    fn offline_and_remove(
        &mut self,
        mut pieces: impl Iterator<Item = Blocks> + Clone,
        _purpose: Purpose,
    ) -> Result<(), ()> {
        panic!("{:?} was removed", pieces.next());
    }
}

#[test]
fn a_journal_needs_an_entry_for_each_block_and_takes_no_more() {
    let machine = Still(vec![Blocks::new(8, 3).unwrap(), Blocks::new(2, 2).unwrap()]);
    assert_eq!(Journal::entries_for(machine.ranges()), 5);
    let mut storage = [Entry::UNUSED; 7];
    assert!(Journal::read(&machine, &mut storage[..4]).is_none());
    let journal = Journal::read(&machine, &mut storage).unwrap();
    assert_eq!(journal.counts().offline, 5);
    assert_eq!(journal.counts().total(), 5);
}

#[test]
fn a_device_too_large_to_count_has_no_journal() {
    let machine = Still(vec![
        Blocks::new(0, u64::MAX).unwrap(),
        Blocks::new(0, u64::MAX).unwrap(),
    ]);
    assert_eq!(Journal::entries_for(machine.ranges()), usize::MAX);
    assert!(Journal::read(&machine, &mut []).is_none());
}
