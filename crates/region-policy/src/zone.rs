// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Which zone a block of a region may enter, whoever asks.

use crate::census::BlockCounts;
use crate::online_type::OnlineType;

/// The two kinds of zone between which hotplugged memory is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZoneKind {
    /// Any zone that the kernel allocates its own data from. Such memory may never come back.
    Kernel,
    /// The movable zone: only pages that can be moved elsewhere.
    Movable,
}

impl ZoneKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Kernel, Self::Movable];
}

/// The zone guard of a device: what its memory notifier enforces for each block that goes online.
///
/// Offlining is never refused, and neither is onlining again within the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZoneRule {
    /// Any zone, for each block on its own.
    Any,
    /// Only a kernel zone.
    KernelOnly,
    /// Only the movable zone.
    MovableOnly,
    /// The first block decides, all others follow it.
    OneZone,
}

impl ZoneRule {
    /// Every rule.
    pub const ALL: [Self; 4] = [
        Self::Any,
        Self::KernelOnly,
        Self::MovableOnly,
        Self::OneZone,
    ];

    /// The rule that follows from a region's policy. A device without one was not made by a region
    /// driver; it keeps the freedom that it always had.
    #[must_use]
    pub const fn from_policy(policy: Option<OnlineType>) -> Self {
        match policy {
            None | Some(OnlineType::Offline) => Self::Any,
            Some(OnlineType::Online) => Self::OneZone,
            Some(OnlineType::OnlineKernel) => Self::KernelOnly,
            Some(OnlineType::OnlineMovable) => Self::MovableOnly,
        }
    }

    /// Whether a block may go online in `zone`, given what the device's other blocks are now.
    #[must_use]
    pub const fn admits(self, current: BlockCounts, zone: ZoneKind) -> bool {
        match self {
            Self::Any => true,
            Self::KernelOnly => matches!(zone, ZoneKind::Kernel),
            Self::MovableOnly => matches!(zone, ZoneKind::Movable),
            Self::OneZone => current.online() == 0 || current.in_zone(zone) != 0,
        }
    }

    /// The rule as a number, to be kept in an atomic. [`ZoneRule::decode`] is its inverse.
    #[must_use]
    pub const fn encode(self) -> u8 {
        match self {
            Self::Any => 0,
            Self::KernelOnly => 1,
            Self::MovableOnly => 2,
            Self::OneZone => 3,
        }
    }

    /// The rule of a number that [`ZoneRule::encode`] gave; `None` for any other.
    #[must_use]
    pub const fn decode(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Any),
            1 => Some(Self::KernelOnly),
            2 => Some(Self::MovableOnly),
            3 => Some(Self::OneZone),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ZoneKind, ZoneRule};
    use crate::census::BlockCounts;
    use crate::online_type::OnlineType;

    const NONE_ONLINE: BlockCounts = BlockCounts {
        absent: 1,
        offline: 7,
        kernel: 0,
        movable: 0,
    };
    const SOME_KERNEL: BlockCounts = BlockCounts {
        kernel: 1,
        ..NONE_ONLINE
    };
    const SOME_MOVABLE: BlockCounts = BlockCounts {
        movable: 1,
        ..NONE_ONLINE
    };

    fn admitted(policy: Option<OnlineType>, current: BlockCounts) -> [bool; 2] {
        ZoneKind::ALL.map(|zone| ZoneRule::from_policy(policy).admits(current, zone))
    }

    #[test]
    fn a_zone_policy_holds_whatever_is_online() {
        for current in [NONE_ONLINE, SOME_KERNEL, SOME_MOVABLE] {
            assert_eq!(
                admitted(Some(OnlineType::OnlineKernel), current),
                [true, false]
            );
            assert_eq!(
                admitted(Some(OnlineType::OnlineMovable), current),
                [false, true]
            );
            assert_eq!(admitted(Some(OnlineType::Offline), current), [true, true]);
            assert_eq!(admitted(None, current), [true, true]);
        }
    }

    #[test]
    fn the_kernels_choice_is_made_once_for_the_whole_device() {
        let policy = Some(OnlineType::Online);
        assert_eq!(admitted(policy, NONE_ONLINE), [true, true]);
        assert_eq!(admitted(policy, SOME_KERNEL), [true, false]);
        assert_eq!(admitted(policy, SOME_MOVABLE), [false, true]);
    }

    #[test]
    fn a_rule_survives_its_atomic() {
        for rule in ZoneRule::ALL {
            assert_eq!(ZoneRule::decode(rule.encode()), Some(rule));
        }
        assert_eq!(ZoneRule::decode(4), None);
    }
}
