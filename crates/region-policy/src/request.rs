// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What a user may ask of a whole device.

use core::fmt;

use crate::errno;
use crate::online_type::{word, OnlineType};
use crate::state::Vocabulary;
use crate::zone::ZoneKind;

/// How a device is to come online.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnlineTarget {
    /// In the zone that the kernel chooses, the same for all blocks.
    Online,
    /// In a kernel zone.
    OnlineKernel,
    /// In the movable zone.
    OnlineMovable,
}

impl OnlineTarget {
    /// Every target.
    pub const ALL: [Self; 3] = [Self::Online, Self::OnlineKernel, Self::OnlineMovable];

    /// Whether a block that is online in `zone` is what this target asks for.
    #[must_use]
    pub const fn accepts(self, zone: ZoneKind) -> bool {
        match self {
            Self::Online => true,
            Self::OnlineKernel => matches!(zone, ZoneKind::Kernel),
            Self::OnlineMovable => matches!(zone, ZoneKind::Movable),
        }
    }
}

impl From<OnlineTarget> for OnlineType {
    fn from(target: OnlineTarget) -> Self {
        match target {
            OnlineTarget::Online => Self::Online,
            OnlineTarget::OnlineKernel => Self::OnlineKernel,
            OnlineTarget::OnlineMovable => Self::OnlineMovable,
        }
    }
}

impl fmt::Display for OnlineTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        OnlineType::from(*self).fmt(f)
    }
}

/// A change of a whole device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Take every block offline and remove it.
    Unplug,
    /// Have every block online.
    Online(OnlineTarget),
}

/// What was written is not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Invalid(Vocabulary);

impl Invalid {
    /// The error number that the writer gets.
    #[must_use]
    pub const fn errno(self) -> i32 {
        errno::EINVAL
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no such request; {} takes one of:", self.0.attribute())?;
        for (word, _) in self.0.requests() {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

impl Vocabulary {
    /// The words that may be written. `offline` is not among them although it can be read: mainline
    /// refuses it, since nothing could be done with such a device but to unplug it.
    #[must_use]
    pub const fn requests(self) -> &'static [(&'static str, Request)] {
        match self {
            Self::State => &[
                ("unplugged", Request::Unplug),
                ("online", Request::Online(OnlineTarget::Online)),
                ("online_kernel", Request::Online(OnlineTarget::OnlineKernel)),
                (
                    "online_movable",
                    Request::Online(OnlineTarget::OnlineMovable),
                ),
            ],
            Self::Hotplug => &[
                ("unplug", Request::Unplug),
                ("online", Request::Online(OnlineTarget::Online)),
                (
                    "online_movable",
                    Request::Online(OnlineTarget::OnlineMovable),
                ),
            ],
        }
    }

    /// The request that was written to the attribute.
    ///
    /// # Errors
    /// [`Invalid`] for anything but one of [`Vocabulary::requests`] with at most one newline after it.
    pub fn parse(self, written: &[u8]) -> Result<Request, Invalid> {
        let written = word(written);
        self.requests()
            .iter()
            .find(|(word, _)| word.as_bytes() == written)
            .map(|(_, request)| *request)
            .ok_or(Invalid(self))
    }
}

#[cfg(test)]
mod tests {
    use super::{OnlineTarget, Request};
    use crate::errno::EINVAL;
    use crate::state::{DeviceState, Vocabulary};

    #[test]
    fn each_vocabulary_takes_its_own_words() {
        for vocabulary in Vocabulary::ALL {
            for (word, request) in vocabulary.requests() {
                assert_eq!(vocabulary.parse(word.as_bytes()), Ok(*request));
                assert_eq!(
                    vocabulary.parse(format!("{word}\n").as_bytes()),
                    Ok(*request)
                );
                assert!(vocabulary.parse(format!("{word} ").as_bytes()).is_err());
                assert!(vocabulary.parse(format!("{word}\n\n").as_bytes()).is_err());
            }
        }
        assert_eq!(
            Vocabulary::State.parse(b"online_kernel"),
            Ok(Request::Online(OnlineTarget::OnlineKernel))
        );
        for (vocabulary, bad) in [
            (Vocabulary::State, "unplug"),
            (Vocabulary::State, "offline"),
            (Vocabulary::Hotplug, "unplugged"),
            (Vocabulary::Hotplug, "online_kernel"),
            (Vocabulary::Hotplug, "offline"),
        ] {
            assert!(vocabulary.parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_can_be_written_can_be_read() {
        for vocabulary in Vocabulary::ALL {
            for (word, _) in vocabulary.requests() {
                assert!(
                    DeviceState::ALL
                        .iter()
                        .any(|state| vocabulary.word(*state) == *word),
                    "{word}"
                );
            }
        }
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        let invalid = Vocabulary::Hotplug.parse(b"bogus").unwrap_err();
        assert_eq!(invalid.errno(), EINVAL);
        assert_eq!(
            invalid.to_string(),
            "no such request; hotplug takes one of: unplug online online_movable"
        );
    }
}
