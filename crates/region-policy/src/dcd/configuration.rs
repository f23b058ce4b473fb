// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What a device has of dynamic capacity, as Get Dynamic Capacity Configuration returns it
//! (CXL 3.1, 8.2.9.9.9.1).

use super::event::Malformed;
use super::wire::{u32_at, u64_at, u8_at};
use crate::extent::Span;

/// The most regions that a device can have.
pub const MAXIMUM_REGIONS: usize = 8;

/// The unit of a region's decode length, in bytes.
const DECODE_UNIT_SHIFT: u32 = 28;

/// The bytes before the first region, those of a region, and those after the last one.
const HEADER: usize = 8;
const REGION: usize = 40;
const TRAILER: usize = 16;

/// A range of device addresses in which extents come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DcRegion {
    /// The addresses in which there can be extents.
    pub span: Span,
    /// The bytes that decoders set aside for it; at least its length.
    pub decode_length: u64,
    /// Extents begin and end on multiples of this many bytes; a power of two.
    pub block_size: u64,
}

impl DcRegion {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let length = u64_at(bytes, 0x10)?;
        let units = u64_at(bytes, 0x08)?;
        let decode_length = units.checked_mul(1 << DECODE_UNIT_SHIFT)?;
        let block_size = u64_at(bytes, 0x18)?;
        let span = Span::new(u64_at(bytes, 0x00)?, length)?;
        // What decoders set aside has to be within the address space as well.
        Span::new(span.start(), decode_length)?;
        let offset_in_block = block_size.checked_sub(1)?;
        let aligned = (span.start() | length) & offset_in_block == 0;
        (block_size.is_power_of_two() && aligned && length <= decode_length).then_some(Self {
            span,
            decode_length,
            block_size,
        })
    }
}

/// A device's regions, and how many extents it can keep apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    regions: [Option<DcRegion>; MAXIMUM_REGIONS],
    count: usize,
    extents_supported: u32,
    extents_available: u32,
    tags_supported: u32,
}

impl Configuration {
    /// What to send to learn of the regions that are not known yet.
    #[must_use]
    pub fn request(&self) -> [u8; 2] {
        // There are at most eight.
        let start = u8::try_from(self.count).unwrap_or(u8::MAX);
        [8, start]
    }

    /// The room that an answer of so many regions takes, in bytes.
    #[must_use]
    pub const fn answer_size(regions: usize) -> usize {
        HEADER
            .saturating_add(TRAILER)
            .saturating_add(REGION.saturating_mul(regions))
    }

    /// Takes the device's answer to [`Configuration::request`]. Returns whether there is more to ask.
    ///
    /// # Errors
    /// If it is not what the specification says: regions are in ascending order and apart, made of
    /// whole blocks, and at most eight.
    pub fn take(&mut self, bytes: &[u8]) -> Result<bool, Malformed> {
        const SHORT: Malformed = Malformed::new("a short dynamic capacity configuration");
        const MANY: Malformed = Malformed::new("more dynamic capacity regions than there can be");
        let available = usize::from(u8_at(bytes, 0).ok_or(SHORT)?);
        let returned = usize::from(u8_at(bytes, 1).ok_or(SHORT)?);
        let known = self.count.checked_add(returned).ok_or(MANY)?;
        if available > MAXIMUM_REGIONS || known > available {
            return Err(MANY);
        }
        let length = REGION.checked_mul(returned).ok_or(SHORT)?;
        let body = bytes.get(HEADER..).ok_or(SHORT)?;
        let (regions, trailer) = body.split_at_checked(length).ok_or(SHORT)?;
        for bytes in regions.chunks_exact(REGION) {
            let region = DcRegion::parse(bytes).ok_or(Malformed::new(
                "a dynamic capacity region that is not made of whole blocks",
            ))?;
            let before = self.regions().last();
            if before.is_some_and(|before| before.span.last() >= region.span.start()) {
                return Err(Malformed::new("dynamic capacity regions out of order"));
            }
            *self.regions.get_mut(self.count).ok_or(MANY)? = Some(region);
            self.count = self.count.saturating_add(1);
        }
        self.extents_supported = u32_at(trailer, 0).ok_or(SHORT)?;
        self.extents_available = u32_at(trailer, 4).ok_or(SHORT)?;
        self.tags_supported = u32_at(trailer, 8).ok_or(SHORT)?;
        // A device that returns nothing would be asked for ever.
        Ok(self.count < available && returned > 0)
    }

    /// The regions, in ascending order.
    pub fn regions(&self) -> impl Iterator<Item = DcRegion> + Clone + '_ {
        self.regions.iter().flatten().copied()
    }

    /// How many extents the device can keep apart.
    #[must_use]
    pub const fn extents_supported(&self) -> u32 {
        self.extents_supported
    }

    /// Whether the device remembers the tags of the extents that a host accepted. Where it does not, an
    /// extent without a tag in its list may have had one.
    #[must_use]
    pub const fn remembers_tags(&self) -> bool {
        self.tags_supported > 0
    }

    /// How many extents wait for an answer of the host, when it has accepted so many.
    ///
    /// More may wait than the device supports; QEMU then counts those available below zero.
    #[must_use]
    pub const fn pending(&self, accepted: u32) -> u32 {
        let pending = self
            .extents_supported
            .wrapping_sub(self.extents_available)
            .wrapping_sub(accepted);
        // Below zero itself, that is no count.
        if pending.leading_zeros() == 0 {
            0
        } else {
            pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Configuration, DcRegion, HEADER, REGION};
    use crate::extent::Span;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    fn answer(available: u8, regions: &[(u64, u64, u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[0] = available;
        bytes[1] = u8::try_from(regions.len()).unwrap();
        for (base, decode, length, block) in regions {
            for number in [base, decode, length, block, &0] {
                bytes.extend(number.to_le_bytes());
            }
        }
        for number in [512_u32, 500, 0, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn regions_come_page_by_page() {
        let mut configuration = Configuration::default();
        assert_eq!(configuration.request(), [8, 0]);
        let first = answer(2, &[(0, 4, GIB, 2 * MIB)]);
        assert_eq!(first.len(), Configuration::answer_size(1));
        assert_eq!(configuration.take(&first), Ok(true));
        assert_eq!(configuration.request(), [8, 1]);
        let second = answer(2, &[(GIB, 4, GIB, 2 * MIB)]);
        assert_eq!(configuration.take(&second), Ok(false));
        let regions: Vec<DcRegion> = configuration.regions().collect();
        assert_eq!(regions.len(), 2);
        assert_eq!(
            regions[1],
            DcRegion {
                span: Span::new(GIB, GIB).unwrap(),
                decode_length: GIB,
                block_size: 2 * MIB
            }
        );
        assert_eq!(configuration.extents_supported(), 512);
        assert_eq!(configuration.pending(10), 2);
        assert_eq!(configuration.pending(13), 0);
        assert!(!configuration.remembers_tags());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (why, available, regions) in [
            ("wrong order", 2, vec![(GIB, 4, GIB, MIB), (0, 4, GIB, MIB)]),
            ("overlap", 2, vec![(0, 8, 2 * GIB, MIB), (GIB, 4, GIB, MIB)]),
            ("no length", 1, vec![(0, 4, 0, MIB)]),
            ("no block", 1, vec![(0, 4, GIB, 0)]),
            ("block is no power of two", 1, vec![(0, 4, GIB, 3 * MIB)]),
            ("half a block", 1, vec![(0, 4, GIB - MIB, 2 * MIB)]),
            ("begins within a block", 1, vec![(MIB, 4, GIB, 2 * MIB)]),
            ("more than is decoded", 1, vec![(0, 1, GIB, MIB)]),
            (
                "beyond all addresses",
                1,
                vec![(u64::MAX - MIB + 1, 4, GIB, MIB)],
            ),
            (
                "decode length beyond all numbers",
                1,
                vec![(0, u64::MAX, GIB, MIB)],
            ),
            ("more than it has", 0, vec![(0, 4, GIB, MIB)]),
            ("more than there can be", 9, vec![(0, 4, GIB, MIB)]),
        ] {
            let mut configuration = Configuration::default();
            let taken = configuration.take(&answer(available, &regions));
            assert!(taken.is_err(), "{why}");
        }
    }

    #[test]
    fn more_may_wait_than_the_device_supports() {
        let mut bytes = answer(1, &[(0, 4, GIB, MIB)]);
        let available = bytes.len() - 12;
        bytes[available..available + 4].copy_from_slice(&(-88_i32).to_le_bytes());
        let mut configuration = Configuration::default();
        configuration.take(&bytes).unwrap();
        assert_eq!(configuration.pending(0), 600);
    }

    #[test]
    fn a_device_that_returns_nothing_is_not_asked_for_ever() {
        assert_eq!(Configuration::default().take(&answer(2, &[])), Ok(false));
    }

    #[test]
    fn an_answer_cut_short_is_refused_wherever_it_is_cut() {
        let whole = answer(1, &[(0, 4, GIB, MIB)]);
        assert_eq!(whole.len(), HEADER + REGION + 16);
        for length in 0..whole.len() - 4 {
            let taken = Configuration::default().take(&whole[..length]);
            assert!(taken.is_err(), "{length} bytes");
        }
    }
}
