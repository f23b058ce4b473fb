// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Which memory blocks a range of physical memory holds.

use crate::blocks::Blocks;

/// The part of a range that can be hotplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aligned {
    /// The memory blocks that lie entirely within the range.
    pub blocks: Blocks,
    /// Bytes of the range that are in no such block, at both ends together.
    pub truncated: u64,
}

impl Aligned {
    /// The memory blocks within a range of physical memory, from byte `start` to byte `last`, which
    /// is part of it, as the kernel gives ranges. `block_size` is in bytes.
    ///
    /// `None` if no whole block is within, or if `block_size` is not a power of two.
    #[must_use]
    pub const fn within(start: u64, last: u64, block_size: u64) -> Option<Self> {
        if !block_size.is_power_of_two() || last < start {
            return None;
        }
        let Some(offset_in_block) = block_size.checked_sub(1) else {
            return None;
        };
        let shift = block_size.trailing_zeros();
        let below_first = start.wrapping_neg() & offset_in_block;
        let Some(first_byte) = start.checked_add(below_first) else {
            return None;
        };
        // The highest byte of the last whole block. It is counted from the range's last byte and not
        // from the byte after it, which a range at the end of the address space does not have.
        let above_last = last.wrapping_add(1) & offset_in_block;
        let Some(last_byte) = last.checked_sub(above_last) else {
            return None;
        };
        if last_byte < first_byte {
            return None;
        }
        let first = first_byte >> shift;
        let beyond_first = (last_byte >> shift).saturating_sub(first);
        match Blocks::new(first, beyond_first.saturating_add(1)) {
            Some(blocks) => Some(Self {
                blocks,
                truncated: below_first.saturating_add(above_last),
            }),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Aligned;
    use crate::blocks::Blocks;

    const MIB: u64 = 1 << 20;
    const BLOCK: u64 = 128 * MIB;

    fn within(start: u64, size: u64) -> Option<(u64, u64, u64)> {
        Aligned::within(start, start + (size - 1), BLOCK).map(|aligned| {
            (
                aligned.blocks.first(),
                aligned.blocks.count(),
                aligned.truncated,
            )
        })
    }

    #[test]
    fn an_aligned_range_is_taken_whole() {
        assert_eq!(within(8 * BLOCK, 4 * BLOCK), Some((8, 4, 0)));
        assert_eq!(within(0, BLOCK), Some((0, 1, 0)));
    }

    #[test]
    fn partial_blocks_at_both_ends_are_counted_as_lost() {
        assert_eq!(within(8 * BLOCK - MIB, 4 * BLOCK), Some((8, 3, BLOCK)));
        assert_eq!(within(8 * BLOCK + MIB, 3 * BLOCK), Some((9, 2, BLOCK)));
    }

    #[test]
    fn a_range_without_a_whole_block_has_none() {
        assert_eq!(within(8 * BLOCK, BLOCK - 1), None);
        assert_eq!(within(8 * BLOCK + MIB, 2 * BLOCK - 2 * MIB), None);
        assert_eq!(within(MIB, MIB), None);
        assert_eq!(Aligned::within(BLOCK, BLOCK - 1, BLOCK), None);
    }

    #[test]
    fn a_block_size_is_a_power_of_two() {
        for size in [0, 3, BLOCK - 1] {
            assert_eq!(Aligned::within(0, u64::MAX, size), None);
        }
    }

    #[test]
    fn the_end_of_the_address_space_is_within_reach() {
        let last = u64::MAX / BLOCK;
        assert_eq!(within(last * BLOCK, BLOCK), Some((last, 1, 0)));
        assert_eq!(within(u64::MAX - MIB, MIB), None);
        assert_eq!(
            Aligned::within(0, u64::MAX, 1 << 63).map(|aligned| aligned.blocks),
            Blocks::new(0, 2)
        );
    }
}
