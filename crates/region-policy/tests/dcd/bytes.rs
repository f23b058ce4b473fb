// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Any bytes that a device may send.

use proptest::prelude::*;
use region_policy::extent::{Span, Tag};

#[path = "../../fuzz/entry.rs"]
mod entry;

/// Bytes that are often close to what a device would send.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => 0..4_u8, 1 => any::<u8>()];
    proptest::collection::vec(byte, 0..1024)
}

/// Event records with anything in the fields that matter.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let fields = (0..4_u8, any::<bool>(), 0..6_u64, 0..4_u64, 0..3_u8, 0..3_u8);
    proptest::collection::vec(fields, 0..40).prop_map(|records| {
        records
            .into_iter()
            .flat_map(|(kind, more, start, length, tag, sequence)| {
                let start = u8::try_from(start).unwrap();
                let length = u8::try_from(length).unwrap();
                [kind, u8::from(more), start, length, tag, sequence]
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_device_sends_is_believed_too_much(bytes in bytes()) {
        entry::parsers(&bytes);
    }

    #[test]
    fn no_sequence_of_events_confuses_the_exchange(bytes in records()) {
        entry::exchange(&bytes);
    }

    #[test]
    fn a_tag_is_what_it_is_written_as(bytes in any::<[u8; 16]>()) {
        let tag = Tag::from_bytes(bytes);
        prop_assert_eq!(tag.is_none(), bytes == [0; 16]);
        if let Some(tag) = tag {
            prop_assert_eq!(Tag::parse(tag.to_string().as_bytes()), Some(tag));
        }
    }

    #[test]
    fn no_text_is_a_tag_but_its_own(text in "[0-9a-f-]{30,40}") {
        if let Some(tag) = Tag::parse(text.as_bytes()) {
            prop_assert_eq!(tag.to_string(), text);
        }
    }

    #[test]
    fn spans_are_within_all_addresses(
        start in any::<u64>(),
        length in any::<u64>(),
        other_start in any::<u64>(),
        other_length in any::<u64>(),
    ) {
        let within = |start, length| length > 0 && u128::from(start) + u128::from(length) <= 1 << 64;
        prop_assert_eq!(Span::new(start, length).is_some(), within(start, length));
        let spans = (Span::new(start, length), Span::new(other_start, other_length));
        if let (Some(one), Some(other)) = spans {
            prop_assert_eq!(one.overlaps(other), other.overlaps(one));
            prop_assert!(!one.covers(other) || one.overlaps(other));
            prop_assert_eq!(one.covers(other) && other.covers(one), one == other);
        }
    }
}
