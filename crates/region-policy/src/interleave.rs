// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Interleaving: a region's addresses go round its targets, so many bytes to each.

/// Where a byte of a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The position of the target that has it.
    pub position: u32,
    /// How far into the target's share of the region it is, in bytes.
    pub offset: u64,
}

/// Where the byte `offset` of a region is that interleaves `ways` targets by `granularity` bytes.
///
/// `None` unless both are powers of two: other regions (of 3, 6 or 12 ways) are not known here.
#[must_use]
pub fn place(offset: u64, ways: u32, granularity: u32) -> Option<Place> {
    if !ways.is_power_of_two() || !granularity.is_power_of_two() {
        return None;
    }
    let within = offset & u64::from(granularity.saturating_sub(1));
    let granule = offset.wrapping_shr(granularity.trailing_zeros());
    let round = granule.wrapping_shr(ways.trailing_zeros());
    Some(Place {
        position: u32::try_from(granule & u64::from(ways.saturating_sub(1))).ok()?,
        offset: round.wrapping_shl(granularity.trailing_zeros()) | within,
    })
}

#[cfg(test)]
mod tests {
    use super::{place, Place};

    #[test]
    fn bytes_are_dealt_out_like_cards() {
        for ways in [1, 2, 4, 8, 16] {
            for granularity in [256, 512, 4096, 16384] {
                let size = u64::from(granularity);
                for round in 0..5 {
                    for position in 0..ways {
                        let first = (round * u64::from(ways) + u64::from(position)) * size;
                        for within in [0, 1, 255, size - 1] {
                            assert_eq!(
                                place(first + within, ways, granularity),
                                Some(Place {
                                    position,
                                    offset: round * size + within,
                                })
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_byte_of_all_has_a_place() {
        let last = place(u64::MAX, 16, 16384).map(|place| place.position);
        assert_eq!(last, Some(15));
    }

    #[test]
    fn other_ways_are_not_known() {
        for (ways, granularity) in [(0, 256), (3, 256), (6, 256), (12, 256), (2, 0), (2, 384)] {
            assert_eq!(place(0, ways, granularity), None);
        }
    }
}
