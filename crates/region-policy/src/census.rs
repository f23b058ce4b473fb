// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! How many memory blocks of a device are what.

use core::fmt;

use crate::blocks::BlockState;
use crate::zone::ZoneKind;

/// The number of a device's memory blocks in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BlockCounts {
    /// Not added.
    pub absent: u64,
    /// Added and offline.
    pub offline: u64,
    /// Online in a kernel zone.
    pub kernel: u64,
    /// Online in the movable zone.
    pub movable: u64,
}

impl BlockCounts {
    /// Counts one more block.
    pub fn add(&mut self, state: BlockState) {
        let count = match state {
            BlockState::Absent => &mut self.absent,
            BlockState::Offline => &mut self.offline,
            BlockState::Online(ZoneKind::Kernel) => &mut self.kernel,
            BlockState::Online(ZoneKind::Movable) => &mut self.movable,
        };
        *count = count.saturating_add(1);
    }

    /// Blocks online in zones of this kind.
    #[must_use]
    pub const fn in_zone(self, zone: ZoneKind) -> u64 {
        match zone {
            ZoneKind::Kernel => self.kernel,
            ZoneKind::Movable => self.movable,
        }
    }

    /// Blocks that are online.
    #[must_use]
    pub const fn online(self) -> u64 {
        self.kernel.saturating_add(self.movable)
    }

    /// Blocks that are not online: absent or offline.
    #[must_use]
    pub const fn missing(self) -> u64 {
        self.absent.saturating_add(self.offline)
    }

    /// All blocks.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.missing().saturating_add(self.online())
    }
}

impl FromIterator<BlockState> for BlockCounts {
    fn from_iter<I: IntoIterator<Item = BlockState>>(states: I) -> Self {
        let mut counts = Self::default();
        for state in states {
            counts.add(state);
        }
        counts
    }
}

impl fmt::Display for BlockCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} blocks: {} movable, {} kernel, {} offline, {} absent",
            self.total(),
            self.movable,
            self.kernel,
            self.offline,
            self.absent
        )
    }
}

#[cfg(test)]
mod tests {
    use super::BlockCounts;
    use crate::blocks::BlockState;
    use crate::zone::ZoneKind;

    #[test]
    fn each_block_is_counted_once() {
        let counts: BlockCounts = [
            BlockState::Absent,
            BlockState::Offline,
            BlockState::Offline,
            BlockState::Online(ZoneKind::Kernel),
            BlockState::Online(ZoneKind::Movable),
            BlockState::Online(ZoneKind::Movable),
        ]
        .into_iter()
        .collect();
        assert_eq!(counts.total(), 6);
        assert_eq!(counts.missing(), 3);
        assert_eq!(counts.online(), 3);
        assert_eq!(
            counts.to_string(),
            "6 blocks: 2 movable, 1 kernel, 2 offline, 1 absent"
        );
    }
}
