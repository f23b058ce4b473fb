// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What a whole device is, told from its blocks, and the two sets of words for it.

use crate::census::BlockCounts;
use crate::online_type::OnlineType;

/// What a device is as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceState {
    /// No block is added.
    Unplugged,
    /// Every block is added and offline.
    Offline,
    /// Every block is online in a kernel zone, and the kernel chose it.
    Online,
    /// Every block is online in a kernel zone, as was asked for.
    OnlineKernel,
    /// Every block is online in the movable zone.
    OnlineMovable,
    /// The blocks differ.
    Mixed,
}

impl DeviceState {
    /// Every state.
    pub const ALL: [Self; 6] = [
        Self::Unplugged,
        Self::Offline,
        Self::Online,
        Self::OnlineKernel,
        Self::OnlineMovable,
        Self::Mixed,
    ];

    /// Tells the state from the blocks. What was last asked for only chooses between two names for
    /// memory in a kernel zone. A device without blocks is unplugged.
    #[must_use]
    pub fn observe(counts: BlockCounts, last_requested: Option<OnlineType>) -> Self {
        let total = counts.total();
        if counts.absent == total {
            Self::Unplugged
        } else if counts.offline == total {
            Self::Offline
        } else if counts.movable == total {
            Self::OnlineMovable
        } else if counts.kernel != total {
            Self::Mixed
        } else if last_requested == Some(OnlineType::OnlineKernel) {
            Self::OnlineKernel
        } else {
            Self::Online
        }
    }
}

/// The words of one of the two attributes in which the same machine is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vocabulary {
    /// `daxX.Y/state`, as mainline has it since 7.3.
    State,
    /// `daxX.Y/hotplug`, as it was first proposed.
    Hotplug,
}

impl Vocabulary {
    /// Both attributes.
    pub const ALL: [Self; 2] = [Self::State, Self::Hotplug];

    /// The name of the attribute.
    #[must_use]
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Hotplug => "hotplug",
        }
    }

    /// What the attribute reads in that state.
    #[must_use]
    pub const fn word(self, state: DeviceState) -> &'static str {
        match state {
            DeviceState::Unplugged => match self {
                Self::State => "unplugged",
                Self::Hotplug => "unplug",
            },
            DeviceState::Offline => "offline",
            DeviceState::Online => "online",
            DeviceState::OnlineKernel => "online_kernel",
            DeviceState::OnlineMovable => "online_movable",
            DeviceState::Mixed => "mixed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceState, Vocabulary};
    use crate::census::BlockCounts;
    use crate::online_type::OnlineType;

    const fn counts(absent: u64, offline: u64, kernel: u64, movable: u64) -> BlockCounts {
        BlockCounts {
            absent,
            offline,
            kernel,
            movable,
        }
    }

    #[test]
    fn a_uniform_device_is_what_its_blocks_are() {
        for (counts, state) in [
            (counts(8, 0, 0, 0), DeviceState::Unplugged),
            (counts(0, 8, 0, 0), DeviceState::Offline),
            (counts(0, 0, 8, 0), DeviceState::Online),
            (counts(0, 0, 0, 8), DeviceState::OnlineMovable),
            (counts(0, 0, 0, 0), DeviceState::Unplugged),
        ] {
            assert_eq!(DeviceState::observe(counts, None), state, "{counts}");
        }
    }

    #[test]
    fn one_differing_block_makes_it_mixed_whatever_was_asked_for() {
        for counts in [
            counts(1, 7, 0, 0),
            counts(1, 0, 7, 0),
            counts(1, 0, 0, 7),
            counts(0, 1, 7, 0),
            counts(0, 1, 0, 7),
            counts(0, 0, 1, 7),
        ] {
            for last_requested in OnlineType::ALL {
                assert_eq!(
                    DeviceState::observe(counts, Some(last_requested)),
                    DeviceState::Mixed,
                    "{counts}"
                );
            }
        }
    }

    #[test]
    fn what_was_asked_for_only_names_a_kernel_zone() {
        let asked = Some(OnlineType::OnlineKernel);
        assert_eq!(
            DeviceState::observe(counts(0, 0, 8, 0), asked),
            DeviceState::OnlineKernel
        );
        assert_eq!(
            DeviceState::observe(counts(0, 0, 0, 8), asked),
            DeviceState::OnlineMovable
        );
        assert_eq!(
            DeviceState::observe(counts(0, 8, 0, 0), asked),
            DeviceState::Offline
        );
    }

    #[test]
    fn the_vocabularies_differ_in_one_word() {
        for state in DeviceState::ALL {
            let words = Vocabulary::ALL.map(|vocabulary| vocabulary.word(state));
            assert_eq!(
                words.first() == words.last(),
                state != DeviceState::Unplugged,
                "{words:?}"
            );
        }
    }
}
