// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Memory blocks: the unit in which memory is added, brought online and removed.

use core::fmt;

use crate::online_type::OnlineType;
use crate::zone::ZoneKind;

/// What one memory block is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockState {
    /// Not added: the kernel has no such memory block.
    Absent,
    /// Added, with no page in use.
    Offline,
    /// In use, in a zone of this kind.
    Online(ZoneKind),
}

impl BlockState {
    /// The online type with which adding an absent block makes it this; `None` for an absent one.
    #[must_use]
    pub const fn online_type(self) -> Option<OnlineType> {
        match self {
            Self::Absent => None,
            Self::Offline => Some(OnlineType::Offline),
            Self::Online(zone) => Some(OnlineType::in_zone(zone)),
        }
    }

    /// Whether the block is online, in any zone.
    #[must_use]
    pub const fn is_online(self) -> bool {
        matches!(self, Self::Online(_))
    }

    /// Whether the kernel has the block, online or not.
    #[must_use]
    pub const fn is_present(self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl fmt::Display for BlockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Offline => "offline",
            Self::Online(ZoneKind::Kernel) => "online in a kernel zone",
            Self::Online(ZoneKind::Movable) => "online in the movable zone",
        })
    }
}

/// At least one memory block, and all that follow it without a gap. The numbers are those of
/// `/sys/devices/system/memory/memoryN`: physical address divided by the block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocks {
    first: u64,
    last: u64,
}

impl Blocks {
    /// `count` blocks from `first` on; `None` if there is none, or if they leave the number space.
    #[must_use]
    pub const fn new(first: u64, count: u64) -> Option<Self> {
        // A count of u64::MAX + 1 is not expressible, so that the count below never overflows.
        let Some(beyond_first) = count.checked_sub(1) else {
            return None;
        };
        match first.checked_add(beyond_first) {
            Some(last) => Some(Self { first, last }),
            None => None,
        }
    }

    /// One block.
    #[must_use]
    pub const fn single(block: u64) -> Self {
        Self {
            first: block,
            last: block,
        }
    }

    /// The lowest block.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The highest block, which is part of it.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// How many blocks these are; at least 1.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// Whether `block` is one of them.
    #[must_use]
    pub const fn contains(self, block: u64) -> bool {
        self.first <= block && block <= self.last
    }

    /// Whether every block of `other` is one of them.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Each block, ascending.
    pub fn iter(self) -> impl Iterator<Item = u64> + Clone {
        self.first..=self.last
    }

    /// These and the block after them, if that is `block`.
    pub(crate) fn followed_by(self, block: u64) -> Option<Self> {
        (self.last.checked_add(1) == Some(block)).then_some(Self {
            first: self.first,
            last: block,
        })
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "memory{}", self.first)
        } else {
            write!(f, "memory{}-memory{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Blocks;

    #[test]
    fn there_is_no_empty_run_and_none_beyond_the_number_space() {
        assert_eq!(Blocks::new(5, 0), None);
        assert_eq!(Blocks::new(u64::MAX, 2), None);
        assert_eq!(Blocks::new(u64::MAX, 1), Some(Blocks::single(u64::MAX)));
        assert_eq!(Blocks::new(0, u64::MAX).map(Blocks::count), Some(u64::MAX));
    }

    #[test]
    fn a_run_grows_only_by_its_neighbour() {
        let run = Blocks::single(8);
        assert_eq!(run.followed_by(10), None);
        assert_eq!(run.followed_by(8), None);
        assert_eq!(run.followed_by(9), Blocks::new(8, 2));
        assert_eq!(Blocks::single(u64::MAX).followed_by(0), None);
    }

    #[test]
    fn a_run_is_named_by_its_ends() {
        assert_eq!(Blocks::single(8).to_string(), "memory8");
        assert_eq!(Blocks::new(8, 3).unwrap().to_string(), "memory8-memory10");
        assert_eq!(
            Blocks::new(8, 3).unwrap().iter().collect::<Vec<_>>(),
            [8, 9, 10]
        );
    }
}
