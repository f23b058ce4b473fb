// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What is fuzzed: by libFuzzer where there is a nightly compiler (`cargo +nightly fuzz run`), and by proptest
//! everywhere (`tests/dcd/bytes.rs`).

use region_policy::dcd::admission::{Area, Use};
use region_policy::dcd::configuration::Configuration;
use region_policy::dcd::event::{Event, Kind, Page};
use region_policy::dcd::exchange::{Duty, Exchange};
use region_policy::dcd::holdings::{Entry, Phase, Reply, Work};
use region_policy::dcd::list;
use region_policy::extent::{Extent, Span, Tag};

/// Reads `bytes` as everything that they could be, and looks at all that was read.
pub fn parsers(bytes: &[u8]) {
    if let Ok(page) = Page::parse(bytes) {
        for record in page.records() {
            let _ = (record.handle(), record.event());
        }
        assert_eq!(page.is_empty(), page.records().next().is_none());
    }
    let mut configuration = Configuration::default();
    if let Ok(more) = configuration.take(bytes) {
        if more {
            let _ = configuration.take(bytes);
        }
        assert!(configuration.regions().count() <= 8);
        let _ = configuration.pending(0);
    }
    if let Ok(page) = list::Page::parse(0, bytes) {
        assert!(page.extents().count() <= list::extents_in(bytes.len()));
    }
}

/// Takes `bytes` for a story of events and replies, six bytes for each event, and checks that the exchange
/// always comes to an end, and never has an extent twice.
pub fn exchange(bytes: &[u8]) {
    let areas = [Area {
        region: 0,
        span: Span::new(0, 4).expect("four bytes"),
        physical: 0,
        alignment: 1,
        purpose: Use::Sysram,
    }];
    let mut exchange = Exchange::new(vec![Entry::UNUSED; 6]);
    let mut now = 0;
    for event in bytes.chunks_exact(6) {
        let [kind, more, start, length, tag, sequence] = *event else {
            return;
        };
        now += u64::from(sequence) * 1000;
        let extent = Span::new(start.into(), length.into()).map(|span| Extent {
            span,
            tag: Tag::from_bytes([tag; 16]),
            sequence: sequence.into(),
        });
        let kind = match kind {
            0 => Kind::Add,
            1 => Kind::Release,
            2 => Kind::ForcedRelease,
            _ => {
                exchange.overflowed();
                Kind::Add
            }
        };
        let more = more & 1 != 0;
        exchange.record(
            &Event::Capacity { kind, extent, more },
            &areas,
            |_| false,
            now,
        );
        duties(&mut exchange, sequence, now);
        if tag == 2 {
            exchange.drained();
            duties(&mut exchange, start, now);
            exchange.expire(now);
            duties(&mut exchange, length, now);
        }
        let held: Vec<&Entry> = exchange
            .holdings()
            .entries()
            .filter(|entry| entry.phase() != Phase::Offered)
            .collect();
        for (position, entry) in held.iter().enumerate() {
            let span = entry.extent().span;
            assert!(held[..position]
                .iter()
                .all(|other| !other.extent().span.overlaps(span)));
        }
        assert!(exchange.holdings().accepted() <= held.len());
        while let Some(work) = exchange.holdings_mut().begin(now) {
            let holdings = exchange.holdings_mut();
            match work {
                Work::Surface(set) => holdings.surfaced(set, sequence != 1, now),
                Work::TakeAway(set) => holdings.taken_away(set, length != 1, Use::Sysram, now),
                Work::GiveBack(set) => holdings.given_back(set, reply(start), now),
            }
        }
    }
}

fn duties(exchange: &mut Exchange<Vec<Entry>>, choice: u8, now: u64) {
    for round in 0..10_000_u32 {
        match exchange.duty() {
            Duty::Nothing => return,
            Duty::ReadLog => {
                exchange.drained();
            }
            Duty::Standing => exchange.standing(u32::from(choice) * 2),
            Duty::Accept => drop(exchange.answered(reply(choice), now)),
            Duty::Refuse => drop(exchange.answered(Reply::Done, now)),
        }
        assert!(round < 9_999, "the duties come to an end");
    }
}

fn reply(choice: u8) -> Reply {
    match choice % 3 {
        0 => Reply::Done,
        1 => Reply::Refused,
        _ => Reply::Failed,
    }
}
