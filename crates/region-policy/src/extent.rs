// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Extents: the pieces in which a device with dynamic capacity gives memory and takes it back.
//!
//! An extent is a range of *device* physical addresses. Extents with the same [`Tag`] belong together;
//! where several hosts share them, a sequence number tells their order.

use core::fmt;

use crate::dcd::wire::{array_at, u16_at, u64_at};

/// A range of device physical addresses, in bytes. Never empty, and within the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    start: u64,
    length: u64,
}

impl Span {
    /// For storage that holds nothing yet: there is no empty span.
    pub(crate) const FIRST_BYTE: Self = Self {
        start: 0,
        length: 1,
    };

    /// `length` bytes from `start` on; `None` if there is none, or if they leave the address space.
    #[must_use]
    pub const fn new(start: u64, length: u64) -> Option<Self> {
        let Some(beyond_first) = length.checked_sub(1) else {
            return None;
        };
        match start.checked_add(beyond_first) {
            Some(_) => Some(Self { start, length }),
            None => None,
        }
    }

    /// The lowest address.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// How many bytes; at least 1.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.length
    }

    /// The highest address, which is part of it.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.start.saturating_add(self.length.saturating_sub(1))
    }

    /// Whether all of `other` is within.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.last() <= self.last()
    }

    /// Whether any byte is in both.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.last() && other.start <= self.last()
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        let (start, last) = (self.start.max(other.start), self.last().min(other.last()));
        Self::between(start, last)
    }

    /// The least that covers both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        let (start, last) = (self.start.min(other.start), self.last().max(other.last()));
        // Only all of the address space is longer than can be said.
        Self::between(start, last).unwrap_or(Self {
            start,
            length: u64::MAX,
        })
    }

    fn between(start: u64, last: u64) -> Option<Self> {
        let length = last.checked_sub(start)?.checked_add(1)?;
        Self::new(start, length)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dpa {:#x}-{:#x}", self.start, self.last())
    }
}

/// What extents that belong together have in common; never all zero, which stands for "no tag".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; 16]);

impl Tag {
    /// The tag of 16 bytes as the device gives them; `None` if all are zero.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The bytes, in the order in which they are written as text.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The tag of a text such as `5be13bce-ae34-4a77-b6c3-16df975fcf1a`, in either case; `None` for
    /// anything else, and for the one that is all zeros.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0_u8; 16];
        let mut digits = 0_usize;
        for (position, character) in text.iter().enumerate() {
            if HYPHENS.contains(&position) {
                if *character != b'-' {
                    return None;
                }
                continue;
            }
            let digit = u8::try_from(char::from(*character).to_digit(16)?).ok()?;
            let byte = bytes.get_mut(digits >> 1)?;
            *byte = *byte << 4 | digit;
            digits = digits.checked_add(1)?;
        }
        (digits == 32 && text.len() == 36)
            .then_some(bytes)
            .and_then(Self::from_bytes)
    }
}

/// Where the text of a tag has hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OrZeros(Some(*self)).fmt(f)
    }
}

/// Prints a tag where there may be none; then all digits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OrZeros(pub Option<Tag>);

impl fmt::Display for OrZeros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.map_or([0; 16], Tag::bytes);
        for (position, byte) in bytes.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A piece of memory that a device offers, or asks back (CXL 3.1, 8.2.9.2.1.6, table 8-51).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Where it is on the device.
    pub span: Span,
    /// With which others it belongs together.
    pub tag: Option<Tag>,
    /// Its place among the extents of its tag, where hosts share them; 0 elsewhere.
    pub sequence: u16,
}

impl Extent {
    /// The bytes that an extent takes in what a device sends.
    pub const SIZE: usize = 40;

    /// Reads an extent from the beginning of `bytes`; `None` if they are too few, or if the range is
    /// empty or leaves the address space.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let sequence = u16_at(bytes, 0x20)?;
        // The reserved bytes at the end have to be there.
        bytes.get(..Self::SIZE)?;
        Some(Self {
            span: Span::new(u64_at(bytes, 0)?, u64_at(bytes, 8)?)?,
            tag: Tag::from_bytes(array_at(bytes, 0x10)?),
            sequence,
        })
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.span.fmt(f)?;
        if let Some(tag) = self.tag {
            write!(f, " tag {tag}")?;
        }
        if self.sequence != 0 {
            write!(f, " sequence {}", self.sequence)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Extent, OrZeros, Span, Tag};

    #[test]
    fn there_is_no_empty_span_and_none_beyond_the_address_space() {
        assert_eq!(Span::new(5, 0), None);
        assert_eq!(Span::new(u64::MAX, 2), None);
        assert_eq!(Span::new(1, u64::MAX).map(Span::last), Some(u64::MAX));
        assert_eq!(Span::new(u64::MAX, 1).map(Span::last), Some(u64::MAX));
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let span = |start, length| Span::new(start, length).unwrap();
        assert!(!span(0, 8).overlaps(span(8, 8)));
        assert!(!span(8, 8).overlaps(span(0, 8)));
        assert!(span(0, 9).overlaps(span(8, 8)));
        assert!(span(0, 16).covers(span(8, 8)));
        assert!(!span(0, 15).covers(span(8, 8)));
    }

    #[test]
    fn a_tag_reads_as_it_is_written() {
        let text = "5be13bce-ae34-4a77-b6c3-16df975fcf1a";
        let tag = Tag::parse(text.as_bytes()).unwrap();
        assert_eq!(tag.to_string(), text);
        assert_eq!(
            OrZeros(None).to_string(),
            "00000000-0000-0000-0000-000000000000"
        );
        assert_eq!(Tag::parse(text.to_uppercase().as_bytes()), Some(tag));
        assert_eq!(tag.bytes()[..3], [0x5b, 0xe1, 0x3b]);
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for text in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "5be13bce-ae34-4a77-b6c3-16df975fcf1",
            "5be13bce-ae34-4a77-b6c3-16df975fcf1a0",
            "5be13bceaae34-4a77-b6c3-16df975fcf1a",
            "5be13bce-ae34-4a77-b6c3-16df975fcf1g",
            "5be13bceae344a77b6c316df975fcf1a",
            "-5be13bc-ae34-4a77-b6c3-16df975fcf1a",
        ] {
            assert_eq!(Tag::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn an_extent_is_forty_bytes() {
        let mut bytes = [0; Extent::SIZE];
        bytes[3] = 0x10;
        bytes[11] = 0x08;
        bytes[16] = 0xab;
        bytes[32] = 7;
        let extent = Extent::parse(&bytes).unwrap();
        assert_eq!(
            extent.to_string(),
            "dpa 0x10000000-0x17ffffff tag ab000000-0000-0000-0000-000000000000 sequence 7"
        );
        assert_eq!(Extent::parse(&bytes[..39]), None);
    }
}
