// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Larger devices, at random: several ranges in any order, any states, several adversities.

use proptest::prelude::*;
use region_policy::blocks::{BlockState, Blocks};
use region_policy::online_type::OnlineType;
use region_policy::request::{OnlineTarget, Request};
use region_policy::zone::ZoneKind;

use crate::fate::Script;
use crate::promises::{keep_promises, Ask, Device};

fn policy() -> impl Strategy<Value = Option<OnlineType>> {
    proptest::option::of(proptest::sample::select(OnlineType::ALL.to_vec()))
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Unplug),
        proptest::sample::select(OnlineTarget::ALL.to_vec()).prop_map(Request::Online),
    ]
}

/// Up to five ranges with gaps between them, or none, in any order.
fn ranges() -> impl Strategy<Value = Vec<Blocks>> {
    proptest::collection::vec((0..3_u64, 1..20_u64), 1..6)
        .prop_map(|gaps_and_counts| {
            let mut next = 0;
            gaps_and_counts
                .into_iter()
                .map(|(gap, count)| {
                    let range = Blocks::new(next + gap, count).unwrap();
                    next = range.last() + 1;
                    range
                })
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn state() -> impl Strategy<Value = BlockState> {
    proptest::sample::select(vec![
        BlockState::Absent,
        BlockState::Offline,
        BlockState::Online(ZoneKind::Kernel),
        BlockState::Online(ZoneKind::Movable),
    ])
}

/// States that the blocks of a device have one by one, or all alike.
fn states(blocks: usize) -> impl Strategy<Value = Vec<BlockState>> {
    prop_oneof![
        proptest::collection::vec(state(), blocks),
        state().prop_map(move |state| vec![state; blocks]),
    ]
}

fn device() -> impl Strategy<Value = Device> {
    ranges()
        .prop_flat_map(|ranges| {
            let blocks = ranges.iter().map(|range| range.iter().count()).sum();
            (Just(ranges), states(blocks), policy(), policy())
        })
        .prop_map(|(ranges, states, policy, last_requested)| Device {
            ranges,
            states,
            policy,
            last_requested,
        })
        .prop_filter(
            "the guard keeps a device out of this state",
            Device::is_reachable,
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn promises_are_kept(
        device in device(),
        request in request(),
        adversities in 0..6_usize,
        script in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut fate = Script(script.into_iter());
        keep_promises(&device, Ask::Request(request), adversities, &mut fate);
    }
}
