// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What makes the host doubt, and what it does then, step by step: in whole runs the next look at everything
//! would put right what was forgotten here.

use region_policy::dcd::admission::{Area, Refusal, Use};
use region_policy::dcd::event::{Event, Kind};
use region_policy::dcd::exchange::{Duty, Exchange, Outcome, PATIENCE};
use region_policy::dcd::holdings::{Entry, Phase, Reply, Work};
use region_policy::extent::{Extent, Span};

use crate::host::BLOCK;
use crate::promises::{blocks, tag};

/// An exchange that is sure of everything.
fn certain() -> Exchange<Vec<Entry>> {
    let mut exchange = Exchange::new(vec![Entry::UNUSED; 8]);
    exchange.drained();
    assert_eq!(exchange.duty(), Duty::Standing);
    exchange.standing(0);
    assert_eq!(exchange.duty(), Duty::Nothing);
    exchange
}

fn event(kind: Kind, span: Span, number: u8, more: bool) -> Event {
    let extent = Extent {
        span,
        tag: tag(number),
        sequence: 0,
    };
    Event::Capacity {
        kind,
        extent: Some(extent),
        more,
    }
}

/// A region over the first blocks.
fn area(purpose: Use) -> Area {
    Area {
        region: 0,
        span: blocks(0, 8),
        physical: 0,
        alignment: BLOCK,
        purpose,
    }
}

fn tell(exchange: &mut Exchange<Vec<Entry>>, event: &Event) -> Outcome {
    exchange.record(event, &[area(Use::Sysram)], |_| false, 0)
}

#[test]
fn who_is_certain_answers_without_a_question() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 0, false));
    assert_eq!(exchange.duty(), Duty::Accept);
    exchange.answered(Reply::Done, 0);
}

/// The device forgets that it lost some as soon as those that it has are cleared.
#[test]
fn events_that_are_lost_while_others_are_read_are_found_at_once() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 0, false));
    assert_eq!(exchange.answered(Reply::Done, 0), None);
    exchange.drained();
    assert_eq!(exchange.duty(), Duty::Standing);
    exchange.standing(1);
    assert_eq!(exchange.duty(), Duty::ReadLog);
    exchange.drained();
    exchange.standing(1);
    assert_eq!(exchange.duty(), Duty::Refuse);
    let refused = exchange.answered(Reply::Done, 0);
    assert_eq!(refused, Some(Refusal::EventsLost));
    exchange.drained();
    exchange.standing(0);
    // And then no more.
    exchange.drained();
    assert_eq!(exchange.duty(), Duty::Nothing);
}

/// Devices take an answer for a part of an offer.
#[test]
fn the_rest_of_a_group_that_was_given_up_is_no_group() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 1, true));
    exchange.drained();
    assert_eq!(exchange.expire(PATIENCE), Some(Refusal::Stalled));
    exchange.standing(2);
    assert_eq!(exchange.duty(), Duty::ReadLog);
    let rest = tell(&mut exchange, &event(Kind::Add, blocks(2, 1), 1, false));
    assert_eq!(
        rest,
        Outcome::Decided {
            accepted: 0,
            refused: Some((1, Refusal::EventsLost))
        }
    );
    // Others are not concerned, and neither is the next of that tag when the group has its answer.
    let other = tell(&mut exchange, &event(Kind::Add, blocks(4, 1), 2, false));
    assert!(matches!(other, Outcome::Decided { accepted: 1, .. }));
    exchange.standing(1);
    exchange.answered(Reply::Done, 0);
    exchange.drained();
    exchange.standing(0);
    let next = tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 1, false));
    assert!(matches!(next, Outcome::Decided { accepted: 1, .. }));
}

#[test]
fn each_refusal_is_told_once() {
    let mut exchange = certain();
    // The device does not take the acceptance, as one that has no room does.
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 0, false));
    assert_eq!(exchange.answered(Reply::Refused, 0), None);
    exchange.standing(1);
    assert_eq!(exchange.duty(), Duty::Refuse);
    let refused = exchange.answered(Reply::Done, 0);
    assert_eq!(refused, Some(Refusal::NotConfirmed));
    exchange.standing(0);
    assert_eq!(exchange.duty(), Duty::Nothing);
    exchange.drained();
    exchange.standing(0);

    // What stalled was told of when it was given up.
    tell(&mut exchange, &event(Kind::Add, blocks(2, 1), 0, true));
    exchange.drained();
    assert_eq!(exchange.expire(PATIENCE), Some(Refusal::Stalled));
    exchange.standing(1);
    exchange.drained();
    exchange.standing(1);
    assert_eq!(exchange.answered(Reply::Done, 0), None);
    exchange.drained();
    exchange.standing(0);

    // So was what was refused for its own sake, though the device did not hear it.
    let offer = event(Kind::Add, blocks(9, 1), 0, false);
    assert!(matches!(
        tell(&mut exchange, &offer),
        Outcome::Decided {
            refused: Some(_),
            ..
        }
    ));
    assert_eq!(exchange.answered(Reply::Failed, 0), None);
    exchange.drained();
    exchange.standing(1);
    exchange.drained();
    exchange.standing(1);
    assert_eq!(exchange.answered(Reply::Done, 0), None);

    // Another that nobody saw was not.
    exchange.drained();
    exchange.standing(1);
    exchange.drained();
    exchange.standing(1);
    let refused = exchange.answered(Reply::Done, 0);
    assert_eq!(refused, Some(Refusal::EventsLost));
}

#[test]
fn a_refusal_is_followed_by_a_look_at_what_waits() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(9, 1), 0, false));
    assert_eq!(exchange.duty(), Duty::Refuse);
    exchange.answered(Reply::Done, 0);
    exchange.drained();
    assert_eq!(exchange.duty(), Duty::Standing);
}

#[test]
fn a_group_that_closes_after_events_were_lost_is_refused() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 1, true));
    exchange.overflowed();
    let outcome = tell(&mut exchange, &event(Kind::Add, blocks(2, 1), 1, false));
    assert_eq!(
        outcome,
        Outcome::Decided {
            accepted: 0,
            refused: Some((2, Refusal::EventsLost))
        }
    );
}

#[test]
fn a_group_without_its_end_is_given_up_when_events_were_lost() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 1, true));
    assert_eq!(exchange.drained(), None);
    exchange.overflowed();
    assert_eq!(exchange.drained(), Some(Refusal::EventsLost));
    assert_eq!(exchange.duty(), Duty::Standing);
    exchange.standing(3);
    assert_eq!(exchange.duty(), Duty::ReadLog);
    exchange.drained();
    exchange.standing(3);
    assert_eq!(exchange.duty(), Duty::Refuse);
}

#[test]
fn a_group_that_stalls_is_given_up_in_time_and_its_rest_is_not_answered() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 1, true));
    exchange.drained();
    assert_eq!(exchange.expire(PATIENCE - 1), None);
    assert_eq!(exchange.expire(PATIENCE), Some(Refusal::Stalled));
    exchange.standing(2);
    exchange.drained();
    exchange.standing(2);
    assert_eq!(exchange.duty(), Duty::Refuse);
    exchange.answered(Reply::Done, 0);
    exchange.drained();
    exchange.standing(0);
    assert_eq!(exchange.duty(), Duty::Nothing);
    // Nobody waits for an answer to the rest.
    tell(&mut exchange, &event(Kind::Add, blocks(2, 1), 1, false));
    assert_eq!(exchange.duty(), Duty::Standing);
    exchange.standing(0);
    assert_eq!(exchange.duty(), Duty::Nothing);
    assert_eq!(exchange.holdings().accepted(), 0);
}

#[test]
fn what_the_fabric_took_is_not_given_back() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 1, true));
    tell(&mut exchange, &event(Kind::Add, blocks(2, 1), 1, false));
    exchange.answered(Reply::Done, 0);
    let Some(Work::Surface(set)) = exchange.holdings_mut().begin(0) else {
        panic!("what was accepted becomes memory");
    };
    exchange.holdings_mut().surfaced(set, true, 0);
    let forced = event(Kind::ForcedRelease, blocks(0, 1), 0, false);
    let lost = tell(&mut exchange, &forced);
    assert!(matches!(lost, Outcome::Lost { in_use: true, .. }));
    assert_eq!(exchange.holdings_mut().begin(0), Some(Work::TakeAway(set)));
    exchange
        .holdings_mut()
        .taken_away(set, true, Use::Sysram, 0);
    assert_eq!(exchange.holdings_mut().begin(0), Some(Work::GiveBack(set)));
    let returning: Vec<Span> = exchange.holdings().returning(set).collect();
    assert_eq!(returning, [blocks(2, 1)]);
}

#[test]
fn what_was_there_before_becomes_memory_only_if_it_is_known_what_it_is() {
    let extent = |block, number| Extent {
        span: blocks(block, 1),
        tag: tag(number),
        sequence: 0,
    };
    let listed = [extent(0, 1), extent(1, 0), extent(2, 1)];
    for (remembers_tags, sets) in [(false, 1), (true, 2)] {
        let mut exchange = certain();
        let holdings = exchange.holdings_mut();
        holdings.adopt(&listed.iter().copied(), |_| false).unwrap();
        assert_eq!(holdings.begin(0), None);
        holdings.claim(&area(Use::Sysram), remembers_tags, 0);
        let begun = core::iter::from_fn(|| holdings.begin(0)).count();
        assert_eq!(begun, sets, "the device remembers tags: {remembers_tags}");
        assert_eq!(holdings.accepted(), 3);
    }
}

#[test]
fn memory_in_use_is_left_alone_after_some_attempts_until_somebody_asks_again() {
    for (purpose, ends) in [(Use::Sysram, true), (Use::Devdax, false)] {
        let mut exchange = certain();
        tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 0, false));
        exchange.answered(Reply::Done, 0);
        let holdings = exchange.holdings_mut();
        let Some(Work::Surface(set)) = holdings.begin(0) else {
            panic!("what was accepted becomes memory");
        };
        holdings.surfaced(set, true, 0);
        holdings.want_back(blocks(0, 1), 0);
        let mut attempts = 0;
        let mut now = 0;
        while let Some(due) = holdings.next_due() {
            assert!(due >= now);
            now = due;
            assert_eq!(holdings.begin(now), Some(Work::TakeAway(set)));
            holdings.taken_away(set, false, purpose, now);
            attempts += 1;
            if attempts == 100 {
                break;
            }
        }
        assert_eq!(attempts == 8, ends, "{attempts} attempts as {purpose:?}");
        if ends {
            assert_eq!(holdings.find(set).unwrap().state(), "busy");
            assert!(holdings.want_back(blocks(0, 1), now));
            assert_eq!(holdings.begin(now), Some(Work::TakeAway(set)));
        }
    }
}

#[test]
fn what_a_region_leaves_is_there_for_the_next_one() {
    let mut exchange = certain();
    for block in 0..4 {
        tell(&mut exchange, &event(Kind::Add, blocks(block, 1), 0, false));
        exchange.answered(Reply::Done, 0);
    }
    let holdings = exchange.holdings_mut();
    while let Some(Work::Surface(set)) = holdings.begin(0) {
        holdings.surfaced(set, true, 0);
    }
    // One stays memory; one is asked back when the region goes.
    holdings.want_back(blocks(3, 1), 0);
    let stays = |span: Span| span == blocks(2, 1);
    holdings.unclaim(blocks(0, 8), stays, 0);
    let phases: Vec<Phase> = holdings.entries().map(Entry::phase).collect();
    assert_eq!(
        phases,
        [
            Phase::Parked,
            Phase::Parked,
            Phase::Surfaced,
            Phase::Vacated
        ]
    );
    let Some(Work::GiveBack(wanted)) = holdings.begin(0) else {
        panic!("what was asked back is no memory any more");
    };
    holdings.given_back(wanted, Reply::Done, 0);
    assert_eq!(holdings.begin(0), None, "nothing else is to be done");

    holdings.want_back(blocks(1, 1), 0);
    assert!(matches!(holdings.begin(0), Some(Work::GiveBack(set)) if {
        holdings.given_back(set, Reply::Done, 0);
        true
    }));
    holdings.claim(&area(Use::Sysram), false, 0);
    let again = core::iter::from_fn(|| holdings.begin(0)).count();
    assert_eq!(again, 2, "the other two become memory again");
}

#[test]
fn work_that_was_begun_for_a_region_that_is_gone_changes_nothing() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 1), 0, false));
    exchange.answered(Reply::Done, 0);
    let holdings = exchange.holdings_mut();
    let Some(Work::Surface(set)) = holdings.begin(0) else {
        panic!("what was accepted becomes memory");
    };
    holdings.unclaim(blocks(0, 8), |_| false, 0);
    holdings.surfaced(set, false, 0);
    assert_eq!(holdings.find(set).unwrap().phase(), Phase::Parked);
    holdings.taken_away(set, true, Use::Sysram, 0);
    assert_eq!(holdings.find(set).unwrap().phase(), Phase::Parked);
}

/// A device with extents in these blocks, in one group, which are memory.
fn mapped(blocks_of: &[u64]) -> Exchange<Vec<Entry>> {
    let mut exchange = certain();
    let last = blocks_of.len() - 1;
    for (index, block) in blocks_of.iter().enumerate() {
        let offer = event(Kind::Add, blocks(*block, 1), 0, index < last);
        exchange.record(&offer, &[area(Use::Devdax)], |_| false, 0);
    }
    exchange.answered(Reply::Done, 0);
    while let Some(Work::Surface(set)) = exchange.holdings_mut().begin(0) {
        exchange.holdings_mut().surfaced(set, true, 0);
    }
    exchange
}

/// Claims are made once the device was asked, and by then there may be memory.
#[test]
fn what_is_memory_of_a_region_is_not_claimed_by_it_again() {
    let mut exchange = mapped(&[0]);
    let holdings = exchange.holdings_mut();
    let set = holdings.entries().next().unwrap().set();
    holdings.claim(&area(Use::Devdax), true, 0);
    assert_eq!(holdings.find(set).unwrap().phase(), Phase::Surfaced);
    holdings.want_back_set(set, 0);
    holdings.claim(&area(Use::Devdax), true, 0);
    assert_eq!(holdings.begin(0), Some(Work::TakeAway(set)));
    holdings.claim(&area(Use::Devdax), true, 0);
    assert_eq!(holdings.begin(0), None);
}

/// A device may refuse all of a command for a part of it.
#[test]
fn what_the_device_refuses_to_take_back_is_compared_with_its_list() {
    for (reply, looks) in [(Reply::Done, false), (Reply::Refused, true)] {
        let mut exchange = mapped(&[0, 1]);
        // As it was from the beginning.
        assert!(exchange.is_unbalanced());
        let holdings = exchange.holdings_mut();
        holdings.want_back(blocks(0, 1), 0);
        while let Some(work) = holdings.begin(0) {
            match work {
                Work::TakeAway(set) => holdings.taken_away(set, true, Use::Devdax, 0),
                Work::GiveBack(set) => holdings.given_back(set, reply, 0),
                Work::Surface(_) => panic!("nothing comes"),
            }
        }
        assert_eq!(holdings.entries().count(), 0);
        assert_eq!(holdings.has_holes(), looks);
        assert_eq!(exchange.is_unbalanced(), looks);
        assert!(!exchange.is_unbalanced(), "it is asked for once");
    }
}

#[test]
fn what_was_taken_of_an_extent_is_lost_and_what_lies_between() {
    let mut exchange = certain();
    tell(&mut exchange, &event(Kind::Add, blocks(0, 4), 0, false));
    exchange.answered(Reply::Done, 0);
    let holdings = exchange.holdings_mut();
    let Some(Work::Surface(set)) = holdings.begin(0) else {
        panic!("what was accepted becomes memory");
    };
    holdings.surfaced(set, true, 0);
    let page = |number: u64| Span::new(number << 12, 1 << 12).unwrap();
    assert!(holdings.lose(page(5), 0));
    assert_eq!(holdings.find(set).unwrap().lost(), Some(page(5)));
    assert!(holdings.lose(page(8), 0));
    let lost = Span::new(5 << 12, 4 << 12);
    assert_eq!(holdings.find(set).unwrap().lost(), lost);
    // Beyond its end it is somebody else's.
    assert!(holdings.lose(blocks(3, 4), 0));
    let lost = Span::new(5 << 12, 4 * BLOCK - (5 << 12));
    assert_eq!(holdings.find(set).unwrap().lost(), lost);
}

#[test]
fn what_applications_had_together_comes_one_by_one_as_system_ram() {
    let mut exchange = mapped(&[0, 2, 4]);
    let holdings = exchange.holdings_mut();
    assert_eq!(holdings.sets().count(), 1);
    holdings.unclaim(blocks(0, 8), |_| false, 0);
    holdings.claim(&area(Use::Sysram), false, 0);
    let surfacing = core::iter::from_fn(|| holdings.begin(0)).count();
    assert_eq!(surfacing, 3);
}

#[test]
fn a_region_takes_up_only_what_it_can_use() {
    let mut exchange = mapped(&[1]);
    let holdings = exchange.holdings_mut();
    holdings.unclaim(blocks(0, 8), |_| false, 0);
    let coarse = Area {
        alignment: 4 * BLOCK,
        ..area(Use::Sysram)
    };
    holdings.claim(&coarse, false, 0);
    assert_eq!(holdings.begin(0), None);
    assert!(holdings
        .entries()
        .all(|entry| entry.phase() == Phase::Parked));
}

#[test]
fn what_stays_memory_is_not_given_back_before_a_region_took_it_out_of_use() {
    // Left behind by a region, and asked back meanwhile.
    let mut left = mapped(&[0]);
    left.holdings_mut().unclaim(blocks(0, 8), |_| true, 0);
    // Or by one whose memdev came back: the device lists it, and the host forgot it.
    let mut adopted = certain();
    let listed = [Extent {
        span: blocks(0, 1),
        tag: None,
        sequence: 0,
    }];
    adopted
        .holdings_mut()
        .adopt(&listed.iter().copied(), |_| true)
        .unwrap();
    for mut exchange in [left, adopted] {
        let holdings = exchange.holdings_mut();
        holdings.want_back(blocks(0, 1), 0);
        let set = holdings.overlapping(blocks(0, 1)).unwrap().set();
        // There is no region that could.
        assert_eq!(holdings.begin(0), None);
        assert_eq!(holdings.next_due(), None);
        holdings.claim(&area(Use::Sysram), false, 1000);
        holdings.want_back(blocks(0, 1), 1000);
        assert_eq!(holdings.begin(1000), Some(Work::Surface(set)));
        holdings.surfaced(set, true, 1000);
        assert_eq!(holdings.begin(1000), Some(Work::TakeAway(set)));
        holdings.taken_away(set, true, Use::Sysram, 1000);
        assert_eq!(holdings.begin(1000), Some(Work::GiveBack(set)));
    }
}

#[test]
fn what_was_tried_least_is_tried_first() {
    let mut exchange = certain();
    for block in 0..3 {
        tell(&mut exchange, &event(Kind::Add, blocks(block, 1), 0, false));
        exchange.answered(Reply::Done, 0);
    }
    let holdings = exchange.holdings_mut();
    while let Some(Work::Surface(set)) = holdings.begin(0) {
        holdings.surfaced(set, true, 0);
    }
    holdings.want_back(blocks(0, 2), 0);
    for _ in 0..2 {
        let Some(Work::TakeAway(busy)) = holdings.begin(0) else {
            panic!("it is asked back");
        };
        holdings.taken_away(busy, false, Use::Sysram, 0);
    }
    holdings.want_back(blocks(2, 1), 9_000);
    let third = holdings.overlapping(blocks(2, 1)).unwrap().set();
    assert_eq!(holdings.begin(9_000), Some(Work::TakeAway(third)));
}

#[test]
fn what_was_lost_and_stays_is_tried_once_at_each_look() {
    let mut exchange = mapped(&[0]);
    let holdings = exchange.holdings_mut();
    holdings.lose(blocks(0, 1), 0);
    let mut now = 0;
    while let Some(Work::TakeAway(set)) = holdings.begin(now) {
        holdings.taken_away(set, false, Use::Sysram, now);
        now = holdings.next_due().unwrap_or(now);
    }
    for _ in 0..2 {
        holdings.retry_lost(now);
        let Some(Work::TakeAway(set)) = holdings.begin(now) else {
            panic!("its user may be gone");
        };
        holdings.taken_away(set, false, Use::Sysram, now);
        assert_eq!(holdings.begin(now), None);
    }
}
