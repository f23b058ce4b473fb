// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a whole dax device shall be: the words of `region-policy`, joined into one question that a user can ask.

use std::fmt;
use std::str::FromStr;

use region_policy::online_type::OnlineType;
use region_policy::request::OnlineTarget;
use region_policy::request::Request;
use region_policy::state::DeviceState;
use region_policy::state::Vocabulary;
use region_policy::zone::ZoneKind;

/// What all blocks of a device shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Goal {
    /// Not there.
    Unplugged,
    /// There, in this way.
    Plugged(OnlineType),
}

impl Goal {
    /// All goals.
    pub const ALL: [Self; 5] = [
        Self::Unplugged,
        Self::Plugged(OnlineType::Offline),
        Self::Plugged(OnlineType::Online),
        Self::Plugged(OnlineType::OnlineKernel),
        Self::Plugged(OnlineType::OnlineMovable),
    ];

    /// The word for it in an attribute that accepts it; `None` where the attribute has none.
    #[must_use]
    pub fn word(self, vocabulary: Vocabulary) -> Option<&'static str> {
        let word = vocabulary.word(self.state());
        vocabulary.parse(word.as_bytes()).is_ok().then_some(word)
    }

    /// The state of a device that has reached the goal.
    fn state(self) -> DeviceState {
        match self {
            Self::Unplugged => DeviceState::Unplugged,
            Self::Plugged(OnlineType::Offline) => DeviceState::Offline,
            Self::Plugged(OnlineType::Online) => DeviceState::Online,
            Self::Plugged(OnlineType::OnlineKernel) => DeviceState::OnlineKernel,
            Self::Plugged(OnlineType::OnlineMovable) => DeviceState::OnlineMovable,
        }
    }

    /// The request that leads there; `None` for `offline`, which can be a policy but is not asked for.
    #[must_use]
    pub fn request(self) -> Option<Request> {
        match self {
            Self::Unplugged => Some(Request::Unplug),
            Self::Plugged(OnlineType::Offline) => None,
            Self::Plugged(OnlineType::Online) => Some(Request::Online(OnlineTarget::Online)),
            Self::Plugged(OnlineType::OnlineKernel) => {
                Some(Request::Online(OnlineTarget::OnlineKernel))
            }
            Self::Plugged(OnlineType::OnlineMovable) => {
                Some(Request::Online(OnlineTarget::OnlineMovable))
            }
        }
    }

    /// Whether a block that is online in `zone` can be part of it.
    #[must_use]
    pub fn accepts(self, zone: ZoneKind) -> bool {
        match self.request() {
            Some(Request::Online(target)) => target.accepts(zone),
            Some(Request::Unplug) | None => false,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Vocabulary::State.word(self.state()))
    }
}

impl FromStr for Goal {
    type Err = UnknownWord;

    /// Takes the words of both attributes (`unplugged` and `unplug`).
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let spelled = |goal: &Self| {
            Vocabulary::ALL
                .iter()
                .any(|vocabulary| vocabulary.word(goal.state()) == text)
        };
        Self::ALL
            .into_iter()
            .find(spelled)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

/// A word that names no goal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one of unplugged, offline, online, online_kernel or online_movable")]
pub struct UnknownWord(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_is_read_as_it_is_printed() {
        for goal in Goal::ALL {
            assert_eq!(goal.to_string().parse(), Ok(goal));
        }
        assert_eq!("unplug".parse(), Ok(Goal::Unplugged));
        assert!("invalid".parse::<Goal>().is_err());
        assert!("mixed".parse::<Goal>().is_err());
    }

    #[test]
    fn no_attribute_is_given_a_word_that_it_refuses() {
        assert_eq!(Goal::Unplugged.word(Vocabulary::Hotplug), Some("unplug"));
        assert_eq!(
            Goal::Plugged(OnlineType::OnlineKernel).word(Vocabulary::Hotplug),
            None
        );
        assert_eq!(
            Goal::Plugged(OnlineType::Offline).word(Vocabulary::State),
            None
        );
    }
}
