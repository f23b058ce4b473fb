// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! How memory comes online: the kernel's four online types and their spellings.

use core::fmt;

use crate::zone::ZoneKind;

/// How a memory block is brought up when it is added.
///
/// "Not configured" is not one of them: a policy that was not chosen yet is `None` in an
/// `Option<OnlineType>`, and only [`Configured`] gives that a spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnlineType {
    /// Added, but no page of it is in use.
    Offline,
    /// Online, in the zone that the kernel chooses.
    Online,
    /// Online, in a kernel zone.
    OnlineKernel,
    /// Online, in the movable zone, from which it can be taken away again.
    OnlineMovable,
}

impl OnlineType {
    /// Every online type, in the order of the kernel's numbers.
    pub const ALL: [Self; 4] = [
        Self::Offline,
        Self::Online,
        Self::OnlineKernel,
        Self::OnlineMovable,
    ];

    /// The kernel's spelling, as in `/sys/devices/system/memory/auto_online_blocks`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Online => "online",
            Self::OnlineKernel => "online_kernel",
            Self::OnlineMovable => "online_movable",
        }
    }

    /// The kernel's number (`MMOP_*`), 0 to 3.
    #[must_use]
    pub const fn mmop(self) -> u8 {
        match self {
            Self::Offline => 0,
            Self::Online => 1,
            Self::OnlineKernel => 2,
            Self::OnlineMovable => 3,
        }
    }

    /// The online type of one of the kernel's numbers (`MMOP_*`); `None` outside 0 to 3.
    #[must_use]
    pub const fn from_mmop(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Offline),
            1 => Some(Self::Online),
            2 => Some(Self::OnlineKernel),
            3 => Some(Self::OnlineMovable),
            _ => None,
        }
    }

    /// The online type that was written to an attribute; `None` for anything else, which includes
    /// `invalid`: a policy can be chosen, not taken back.
    #[must_use]
    pub fn parse(written: &[u8]) -> Option<Self> {
        let word = word(written);
        Self::ALL
            .into_iter()
            .find(|online_type| online_type.as_str().as_bytes() == word)
    }

    /// Whether memory may come into a kernel zone under it, from which it may never come back: by itself, or, with
    /// [`OnlineType::Offline`], by whoever brings it online.
    #[must_use]
    pub const fn admits_kernel_zones(self) -> bool {
        !matches!(self, Self::OnlineMovable)
    }

    /// The online type that puts a block into that zone, whatever the kernel would choose.
    #[must_use]
    pub const fn in_zone(zone: ZoneKind) -> Self {
        match zone {
            ZoneKind::Kernel => Self::OnlineKernel,
            ZoneKind::Movable => Self::OnlineMovable,
        }
    }
}

impl fmt::Display for OnlineType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Prints a choice that may not have been made yet; then it reads `invalid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Configured<T>(pub Option<T>);

impl<T: fmt::Display> fmt::Display for Configured<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(choice) => choice.fmt(f),
            None => f.write_str("invalid"),
        }
    }
}

/// The word in what was written to an attribute: up to the zero byte that ends a C string, which
/// libraries write with it, and without the newline that `echo` appends, of which there may be one.
/// Nothing else is forgiven, as in the kernel's own attributes (`sysfs_streq()`).
pub(crate) fn word(written: &[u8]) -> &[u8] {
    let text = written.split(|byte| *byte == 0).next().unwrap_or(written);
    text.strip_suffix(b"\n").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::{Configured, OnlineType};
    use crate::zone::ZoneKind;

    #[test]
    fn every_spelling_and_number_comes_back() {
        for online_type in OnlineType::ALL {
            let spelling = online_type.as_str();
            assert_eq!(OnlineType::parse(spelling.as_bytes()), Some(online_type));
            assert_eq!(
                OnlineType::parse(format!("{online_type}\n").as_bytes()),
                Some(online_type)
            );
            assert_eq!(OnlineType::from_mmop(online_type.mmop()), Some(online_type));
        }
        assert_eq!(OnlineType::from_mmop(4), None);
    }

    #[test]
    fn only_one_newline_is_forgiven() {
        for bad in [
            "",
            "\n",
            "invalid",
            "invalid\n",
            "online\n\n",
            " online",
            "online ",
            "Online",
            "\0online",
            "online \0",
            "online_",
            "onlin",
            "1",
            "\nonline",
        ] {
            assert_eq!(OnlineType::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_policy_that_was_not_chosen_reads_invalid() {
        assert_eq!(Configured::<OnlineType>(None).to_string(), "invalid");
        assert_eq!(
            Configured(Some(OnlineType::OnlineMovable)).to_string(),
            "online_movable"
        );
    }

    #[test]
    fn a_zone_names_its_online_type() {
        assert_eq!(OnlineType::in_zone(ZoneKind::Kernel).mmop(), 2);
        assert_eq!(OnlineType::in_zone(ZoneKind::Movable).mmop(), 3);
    }
}
