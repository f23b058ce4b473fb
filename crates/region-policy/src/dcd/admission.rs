// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Which extents the host takes, decided before it answers: what was accepted and then cannot be used would
//! have to be given back.

use core::fmt;

use crate::extent::{Extent, Span, Tag};

/// What the memory of a region is used for, which decides what makes up one device of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// System RAM. Extents without a tag come and go one by one; those of a tag together.
    Sysram,
    /// Memory that applications map: whatever is offered together stays together.
    Devdax,
}

impl Use {
    /// Whether each extent without a tag is a device of its own.
    #[must_use]
    pub const fn takes_single_extents(self) -> bool {
        matches!(self, Self::Sysram)
    }
}

/// A region over dynamic capacity that a driver of ours holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// The number of the region.
    pub region: u32,
    /// The device addresses that the region maps.
    pub span: Span,
    /// The physical address of the first of them.
    pub physical: u64,
    /// Memory can be added in multiples of this many bytes, by physical address; a power of two.
    pub alignment: u64,
    /// What the memory is used for.
    pub purpose: Use,
}

impl Area {
    /// The physical address of a device address in the area; `None` outside of it.
    #[must_use]
    pub const fn physical(&self, address: u64) -> Option<u64> {
        match address.checked_sub(self.span.start()) {
            Some(offset) if offset < self.span.length() => self.physical.checked_add(offset),
            _ => None,
        }
    }

    /// Whether an extent can be used as memory of the region.
    ///
    /// # Errors
    /// [`Refusal::Misaligned`].
    pub const fn admits(&self, span: Span) -> Result<(), Refusal> {
        let misaligned = Refusal::Misaligned {
            span,
            alignment: self.alignment,
        };
        let Some(offset_in_block) = self.alignment.checked_sub(1) else {
            return Err(misaligned);
        };
        let (Some(start), Some(_)) = (self.physical(span.start()), self.physical(span.last()))
        else {
            return Err(misaligned);
        };
        if (start | span.length()) & offset_in_block == 0 {
            Ok(())
        } else {
            Err(misaligned)
        }
    }
}

/// Why an offer was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No region of ours maps the extent.
    NoRegion(Span),
    /// The extents belong together and lie in several regions.
    SeveralRegions,
    /// The extent is not made of whole units of memory.
    Misaligned {
        /// The extent.
        span: Span,
        /// The unit, in bytes.
        alignment: u64,
    },
    /// The host already has some of it.
    Overlap {
        /// The extent.
        span: Span,
        /// What of it the host has, or what was offered together with it.
        other: Span,
    },
    /// The extents of the group have different tags.
    TagsMixed,
    /// There are extents of this tag already.
    TagInUse(Tag),
    /// Two extents of the tag claim the same place.
    SequenceTaken(u16),
    /// The group has, or with it the host would have, more extents than it has room to remember.
    NoRoom,
    /// Events were lost, and some of the group may have been among them.
    EventsLost,
    /// The end of the group did not come in time.
    Stalled,
    /// The fabric took some of it back before the group was complete.
    Withdrawn(Span),
    /// A record of the group cannot be understood.
    Unreadable,
    /// The answer was lost, or the device did not take it.
    NotConfirmed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRegion(span) => write!(f, "no region over dynamic capacity holds {span}"),
            Self::SeveralRegions => f.write_str("the group lies in several regions"),
            Self::Misaligned { span, alignment } => {
                write!(
                    f,
                    "{span} is not made of whole units of {alignment:#x} bytes"
                )
            }
            Self::Overlap { span, other } => write!(f, "{span} overlaps {other}"),
            Self::TagsMixed => f.write_str("the group has several tags"),
            Self::TagInUse(tag) => write!(f, "tag {tag} is in use"),
            Self::SequenceTaken(number) => {
                write!(f, "two extents of the tag have sequence number {number}")
            }
            Self::NoRoom => f.write_str("there is no room for so many extents"),
            Self::EventsLost => f.write_str("the event log overflowed, some of it may be lost"),
            Self::Stalled => f.write_str("the end of the group did not come in time"),
            Self::Withdrawn(span) => {
                write!(f, "{span} was taken back before the group was complete")
            }
            Self::Unreadable => f.write_str("a record of the group cannot be understood"),
            Self::NotConfirmed => f.write_str("the device did not confirm it"),
        }
    }
}

/// The area that holds all of an extent.
///
/// # Errors
/// [`Refusal::NoRegion`].
pub fn area_of(areas: &[Area], extent: &Extent) -> Result<Area, Refusal> {
    areas
        .iter()
        .find(|area| area.span.covers(extent.span))
        .copied()
        .ok_or(Refusal::NoRegion(extent.span))
}

#[cfg(test)]
mod tests {
    use super::{area_of, Area, Refusal, Use};
    use crate::extent::{Extent, Span};

    const MIB: u64 = 1 << 20;
    const BLOCK: u64 = 128 * MIB;

    fn area() -> Area {
        Area {
            region: 0,
            span: Span::new(4 * MIB, 8 * BLOCK).unwrap(),
            physical: 32 * BLOCK,
            alignment: BLOCK,
            purpose: Use::Sysram,
        }
    }

    #[test]
    fn alignment_is_that_of_the_physical_address() {
        let admits = |start, length| area().admits(Span::new(start, length).unwrap()).is_ok();
        assert!(admits(4 * MIB, BLOCK));
        assert!(admits(4 * MIB + BLOCK, 7 * BLOCK));
        assert!(!admits(BLOCK, BLOCK));
        assert!(!admits(4 * MIB, BLOCK - MIB));
        assert!(!admits(4 * MIB + BLOCK, 8 * BLOCK), "beyond the area");
        assert!(!admits(0, BLOCK), "before the area");
    }

    #[test]
    fn an_extent_that_leaves_its_area_has_none() {
        let inside = |start, length| {
            let extent = Extent {
                span: Span::new(start, length).unwrap(),
                tag: None,
                sequence: 0,
            };
            area_of(&[area()], &extent).is_ok()
        };
        assert!(inside(4 * MIB, 8 * BLOCK));
        assert!(!inside(4 * MIB, 8 * BLOCK + 1));
        assert!(!inside(0, BLOCK));
    }

    #[test]
    fn a_refusal_says_why() {
        let span = Span::new(0x1000_0000, 0x20_0000).unwrap();
        assert_eq!(
            Refusal::Misaligned {
                span,
                alignment: BLOCK
            }
            .to_string(),
            "dpa 0x10000000-0x101fffff is not made of whole units of 0x8000000 bytes"
        );
    }
}
