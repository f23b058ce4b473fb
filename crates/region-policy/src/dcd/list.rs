// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What a device thinks the host has, as Get Dynamic Capacity Extent List returns it
//! (CXL 3.1, 8.2.9.9.9.2).

use super::event::Malformed;
use super::wire::u32_at;
use crate::extent::Extent;

/// The bytes before the first extent.
const HEADER: usize = 16;

/// What to send for `count` extents from the one with the number `start` on.
#[must_use]
pub fn request(start: u32, count: u32) -> [u8; 8] {
    (u64::from(start) << 32 | u64::from(count)).to_le_bytes()
}

/// How many extents fit into an answer of so many bytes.
#[must_use]
pub const fn extents_in(bytes: usize) -> usize {
    bytes.saturating_sub(HEADER) / Extent::SIZE
}

/// A part of the list.
#[derive(Clone, Copy, Debug)]
pub struct Page<'b> {
    /// How many extents the whole list has.
    pub total: u32,
    /// Which list this is a part of: when it changes between two parts, begin anew.
    pub generation: u32,
    extents: &'b [u8],
}

impl<'b> Page<'b> {
    /// Reads what the device returned for extents from number `start` on.
    ///
    /// Extents beyond the end of the list are left out: QEMU returns some for offers that wait.
    ///
    /// # Errors
    /// If there are fewer bytes than the count of extents takes.
    pub fn parse(start: u32, bytes: &'b [u8]) -> Result<Self, Malformed> {
        const SHORT: Malformed = Malformed::new("fewer extents than it counts");
        let total = u32_at(bytes, 4).ok_or(SHORT)?;
        let generation = u32_at(bytes, 8).ok_or(SHORT)?;
        let count = u32_at(bytes, 0)
            .ok_or(SHORT)?
            .min(total.saturating_sub(start));
        let length = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(Extent::SIZE))
            .ok_or(SHORT)?;
        let extents = bytes
            .get(HEADER..)
            .and_then(|extents| extents.get(..length))
            .ok_or(SHORT)?;
        Ok(Self {
            total,
            generation,
            extents,
        })
    }

    /// The extents of this part; an error stands for one that cannot be.
    pub fn extents(&self) -> impl Iterator<Item = Result<Extent, Malformed>> + Clone + 'b {
        self.extents.chunks_exact(Extent::SIZE).map(|bytes| {
            Extent::parse(bytes).ok_or(Malformed::new("an extent without an address range"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{extents_in, request, Page, HEADER};
    use crate::extent::Extent;

    fn page(count: u32, total: u32, extents: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + extents * Extent::SIZE];
        bytes[..4].copy_from_slice(&count.to_le_bytes());
        bytes[4..8].copy_from_slice(&total.to_le_bytes());
        bytes[8] = 9;
        for extent in bytes[HEADER..].chunks_exact_mut(Extent::SIZE) {
            extent[11] = 1;
        }
        bytes
    }

    #[test]
    fn a_part_of_the_list_tells_how_long_the_list_is() {
        let bytes = page(2, 7, 2);
        let page = Page::parse(5, &bytes).unwrap();
        assert_eq!((page.total, page.generation), (7, 9));
        assert_eq!(page.extents().flatten().count(), 2);
        assert_eq!(extents_in(bytes.len()), 2);
    }

    #[test]
    fn a_count_that_the_bytes_do_not_bear_out_is_refused() {
        assert!(Page::parse(0, &page(2, 7, 1)).is_err());
        assert!(Page::parse(0, &page(u32::MAX, u32::MAX, 1)).is_err());
        assert!(Page::parse(0, &[0; 8]).is_err());
    }

    #[test]
    fn extents_beyond_the_end_of_the_list_are_none() {
        let extents = |start, total| {
            let bytes = page(2, total, 2);
            Page::parse(start, &bytes).unwrap().extents().count()
        };
        assert_eq!(extents(0, 1), 1);
        assert_eq!(extents(6, 7), 1);
        assert_eq!(extents(7, 7), 0);
        assert_eq!(extents(8, 7), 0);
    }

    #[test]
    fn an_extent_that_cannot_be_is_told_from_the_others() {
        let mut bytes = page(2, 2, 2);
        bytes[HEADER + 11] = 0;
        let extents: Vec<bool> = Page::parse(0, &bytes)
            .unwrap()
            .extents()
            .map(|extent| extent.is_ok())
            .collect();
        assert_eq!(extents, [false, true]);
    }

    #[test]
    fn a_request_has_the_count_first() {
        assert_eq!(request(3, 2), [2, 0, 0, 0, 3, 0, 0, 0]);
    }
}
