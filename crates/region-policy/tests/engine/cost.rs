// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What a transition costs: pieces of work, and zone scans.

use region_policy::blocks::{BlockState, Blocks};
use region_policy::engine::{plug, unplug, Machine, Purpose, Rollback};
use region_policy::journal::{Entry, Journal, WORTH_A_HOLE};
use region_policy::online_type::OnlineType;
use region_policy::zone::{ZoneKind, ZoneRule};

use crate::fate::Fate;
use crate::model::{Call, Kind, Model};

const MOVABLE: BlockState = BlockState::Online(ZoneKind::Movable);

/// The sizes from 1 GiB to 512 GiB in blocks of 128 MiB.
const SIZES: [u64; 10] = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Those of them that are worth a hole.
const LARGE: [u64; 7] = [64, 128, 256, 512, 1024, 2048, 4096];

fn blocks(first: u64, count: u64) -> Blocks {
    Blocks::new(first, count).unwrap()
}

fn model<'f>(ranges: &[Blocks], state: BlockState, fate: &'f mut dyn Fate) -> Model<'f> {
    let states: Vec<BlockState> = ranges
        .iter()
        .flat_map(|range| range.iter())
        .map(|_| state)
        .collect();
    Model::new(ranges, &states, ZoneRule::Any, usize::MAX, fate)
}

fn storage(model: &Model<'_>) -> Vec<Entry> {
    vec![Entry::UNUSED; Journal::entries_for(model.ranges())]
}

fn come_online(model: &mut Model<'_>) -> bool {
    let mut storage = storage(model);
    let journal = Journal::read(model, &mut storage).unwrap();
    match plug(model, journal, OnlineType::OnlineMovable) {
        Ok(counts) => counts.movable == counts.total(),
        Err(failure) => {
            assert_eq!(failure.rollback, Rollback::RolledBack);
            false
        }
    }
}

fn go_away(model: &mut Model<'_>) {
    let mut storage = storage(model);
    let journal = Journal::read(model, &mut storage).unwrap();
    let counts = unplug(model, journal).unwrap();
    assert_eq!(counts.absent, counts.total());
}

fn pieces_of_additions(model: &Model<'_>) -> Vec<Blocks> {
    model
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Add(piece, _) => Some(piece),
            Call::Remove(..) => None,
        })
        .collect()
}

fn pieces_of_removal(model: &Model<'_>) -> Vec<Blocks> {
    let calls = model.calls();
    let [Call::Remove(pieces, Purpose::Transition)] = calls.as_slice() else {
        panic!("one call removes a device, not {calls:?}");
    };
    pieces.clone()
}

#[test]
fn the_second_block_comes_online_last_and_goes_offline_first() {
    let range = blocks(32, 512);
    let mut fate = Kind;
    let mut coming = model(&[range], BlockState::Absent, &mut fate);
    assert!(come_online(&mut coming));
    assert_eq!(
        pieces_of_additions(&coming),
        [blocks(32, 1), blocks(34, 510), blocks(33, 1)]
    );
    let mut fate = Kind;
    let mut going = model(&[range], MOVABLE, &mut fate);
    go_away(&mut going);
    assert_eq!(
        pieces_of_removal(&going),
        [blocks(33, 1), blocks(34, 510), blocks(32, 1)]
    );
}

#[test]
fn the_hole_stays_open_until_all_ranges_are_done() {
    // The ranges of a dax device are in the order of its offsets, not of its addresses.
    let ranges = [blocks(128, 40), blocks(32, 8), blocks(40, 4)];
    let mut fate = Kind;
    let mut coming = model(&ranges, BlockState::Absent, &mut fate);
    assert!(come_online(&mut coming));
    assert_eq!(
        pieces_of_additions(&coming),
        [
            blocks(32, 1),
            blocks(128, 40),
            blocks(34, 6),
            blocks(40, 4),
            blocks(33, 1)
        ]
    );
    let mut fate = Kind;
    let mut going = model(&ranges, MOVABLE, &mut fate);
    go_away(&mut going);
    assert_eq!(
        pieces_of_removal(&going),
        [
            blocks(33, 1),
            blocks(128, 40),
            blocks(34, 6),
            blocks(40, 4),
            blocks(32, 1)
        ]
    );
}

#[test]
fn a_small_device_is_one_piece_and_a_larger_one_is_three() {
    let worth_a_hole = u64::try_from(WORTH_A_HOLE).unwrap();
    for (count, pieces) in [
        (1, 1),
        (2, 1),
        (worth_a_hole - 1, 1),
        (worth_a_hole, 3),
        (worth_a_hole + 1, 3),
    ] {
        let range = blocks(8, count);
        let mut fate = Kind;
        let mut coming = model(&[range], BlockState::Absent, &mut fate);
        assert!(come_online(&mut coming));
        assert_eq!(pieces_of_additions(&coming).len(), pieces, "{count}");
        let mut fate = Kind;
        let mut going = model(&[range], MOVABLE, &mut fate);
        go_away(&mut going);
        assert_eq!(pieces_of_removal(&going).len(), pieces, "{count}");
    }
}

/// Scans per block must not grow with the device. The factor leaves room for devices too small for a
/// hole, half of which a scan covers on average, and none for a second factor of the size.
fn assert_linear(what: &str, costs: &[(u64, u64)]) {
    println!("{what}: {costs:?}");
    for (size, scanned) in costs {
        assert!(
            *scanned <= WORTH_A_HOLE as u64 / 2 * size,
            "{what}: {scanned} scans for {size} blocks"
        );
    }
}

#[test]
fn coming_online_and_going_away_are_linear() {
    let online = SIZES.map(|size| {
        let mut fate = Kind;
        let mut model = model(&[blocks(8, size)], BlockState::Absent, &mut fate);
        assert!(come_online(&mut model));
        (size, model.scanned())
    });
    assert_linear("online", &online);
    let away = SIZES.map(|size| {
        let mut fate = Kind;
        let mut model = model(&[blocks(8, size)], MOVABLE, &mut fate);
        go_away(&mut model);
        (size, model.scanned())
    });
    assert_linear("unplug", &away);
}

#[test]
fn bringing_an_offline_device_online_is_linear() {
    let costs = SIZES.map(|size| {
        let mut fate = Kind;
        let mut model = model(&[blocks(8, size)], BlockState::Offline, &mut fate);
        assert!(come_online(&mut model));
        (size, model.scanned())
    });
    assert_linear("offline to online", &costs);
}

#[test]
fn blocks_that_others_took_offline_do_not_make_an_unplug_quadratic() {
    for offline in [[0, 7], [1, 2], [0, 1]] {
        let costs = SIZES.map(|size| {
            let mut fate = Kind;
            let states: Vec<BlockState> = (0..size)
                .map(|block| {
                    if offline.contains(&block) {
                        BlockState::Offline
                    } else {
                        MOVABLE
                    }
                })
                .collect();
            let mut model = Model::new(
                &[blocks(8, size)],
                &states,
                ZoneRule::Any,
                usize::MAX,
                &mut fate,
            );
            go_away(&mut model);
            (size, model.scanned())
        });
        assert_linear("unplug with blocks offline", &costs);
    }
}

/// Lets everything go well but for the last block of the second piece, which stays offline.
struct LastOfSecondPiece {
    size: u64,
    asked: u64,
}

impl Fate for LastOfSecondPiece {
    fn choose(&mut self, options: usize) -> usize {
        // The second piece is all but two blocks; its choices are to go well, to be refused, or to
        // fail from some block on.
        let second_piece = usize::try_from(self.size).unwrap();
        if options == second_piece && self.asked == 0 {
            self.asked += 1;
            return options - 1;
        }
        0
    }
}

#[test]
fn a_failure_at_the_end_is_undone_in_linear_time() {
    let costs = LARGE.map(|size| {
        let mut fate = LastOfSecondPiece { size, asked: 0 };
        let mut model = model(&[blocks(8, size)], BlockState::Absent, &mut fate);
        assert!(!come_online(&mut model));
        assert_eq!(model.counts().absent, size);
        assert_eq!(model.calls().len(), 3, "two additions and the rollback");
        (size, model.scanned())
    });
    assert_linear("rollback", &costs);
}

#[test]
fn the_same_work_in_ascending_order_is_quadratic() {
    let quarter = |size: u64| size * size / 4;
    for size in [64, 512, 1024] {
        let range = blocks(8, size);
        let mut fate = Kind;
        let mut coming = model(&[range], BlockState::Absent, &mut fate);
        coming.add(range, OnlineType::OnlineMovable).unwrap();
        assert!(coming.scanned() > quarter(size), "{}", coming.scanned());
        let mut fate = Kind;
        let mut going = model(&[range], MOVABLE, &mut fate);
        going
            .offline_and_remove([range].into_iter(), Purpose::Transition)
            .unwrap();
        assert!(going.scanned() > quarter(size), "{}", going.scanned());
    }
}
