// SPDX-License-Identifier: MIT OR Apache-2.0
//! How memory comes online, in the kernel's words.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// How memory blocks come online. There is no "not configured" here: that is an [`Option`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnlineType {
    /// The blocks are there, and no page of them is used.
    Offline,
    /// Online in the zone that the kernel chooses.
    Online,
    /// Online in a kernel zone: usable for everything, and it may never come back.
    OnlineKernel,
    /// Online in the movable zone: only movable pages, so that it can be unplugged.
    OnlineMovable,
}

impl OnlineType {
    /// All of them, in the kernel's order.
    pub const ALL: [Self; 4] = [
        Self::Offline,
        Self::Online,
        Self::OnlineKernel,
        Self::OnlineMovable,
    ];

    /// The kernel's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Online => "online",
            Self::OnlineKernel => "online_kernel",
            Self::OnlineMovable => "online_movable",
        }
    }

    /// Whether a block in `zone` (as `valid_zones` names it) keeps this policy.
    #[must_use]
    pub fn permits_zone(self, zone: &str) -> bool {
        match self {
            Self::Offline => false,
            Self::Online => true,
            Self::OnlineKernel => zone != "Movable" && zone != "none",
            Self::OnlineMovable => zone == "Movable",
        }
    }
}

impl fmt::Display for OnlineType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for OnlineType {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|online_type| online_type.word() == text)
            .ok_or_else(|| {
                UnknownWord::new(text, "offline, online, online_kernel or online_movable")
            })
    }
}

/// What a whole dax device is, or shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceState {
    /// The device has no memory blocks.
    Unplugged,
    /// All its blocks are there, in this way.
    Plugged(OnlineType),
}

impl DeviceState {
    /// The word of `daxN.M/state`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unplugged => "unplugged",
            Self::Plugged(online_type) => online_type.word(),
        }
    }

    /// The word of `daxN.M/hotplug`, the older spelling of the same machine; it has none for `offline` and `online_kernel`.
    #[must_use]
    pub fn hotplug_word(self) -> Option<&'static str> {
        match self {
            Self::Unplugged => Some("unplug"),
            Self::Plugged(OnlineType::Online) => Some("online"),
            Self::Plugged(OnlineType::OnlineMovable) => Some("online_movable"),
            Self::Plugged(OnlineType::Offline | OnlineType::OnlineKernel) => None,
        }
    }
}

impl fmt::Display for DeviceState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl FromStr for DeviceState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        if text == "unplugged" || text == "unplug" {
            return Ok(Self::Unplugged);
        }
        text.parse().map(Self::Plugged).map_err(|_| {
            UnknownWord::new(
                text,
                "unplugged, offline, online, online_kernel or online_movable",
            )
        })
    }
}

/// A word that the kernel does not know here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not one of {words}")]
pub struct UnknownWord {
    word: String,
    words: &'static str,
}

impl UnknownWord {
    fn new(word: &str, words: &'static str) -> Self {
        Self {
            word: word.to_owned(),
            words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_round_trip() {
        for online_type in OnlineType::ALL {
            assert_eq!(online_type.word().parse(), Ok(online_type));
            assert_eq!(
                online_type.word().parse(),
                Ok(DeviceState::Plugged(online_type))
            );
        }
        assert_eq!("unplugged".parse(), Ok(DeviceState::Unplugged));
        assert_eq!("unplug".parse(), Ok(DeviceState::Unplugged));
        assert!("invalid".parse::<OnlineType>().is_err());
    }

    #[test]
    fn only_the_movable_zone_is_movable() {
        assert!(OnlineType::OnlineMovable.permits_zone("Movable"));
        assert!(!OnlineType::OnlineMovable.permits_zone("Normal"));
        assert!(OnlineType::OnlineKernel.permits_zone("Normal"));
        assert!(!OnlineType::OnlineKernel.permits_zone("Movable"));
        assert!(
            OnlineType::Online.permits_zone("Movable") && OnlineType::Online.permits_zone("Normal")
        );
    }
}
