// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! How applications reach the memory of a region that they map themselves.

use core::fmt;

use crate::online_type::word;

/// Which of the kernel's drivers the DAX devices of a region are for.
///
/// "Not chosen yet" is not one of them; [`Configured`](crate::online_type::Configured) spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DaxMode {
    /// A character device that is mapped.
    Devdax,
    /// A device that a file system such as famfs lies on.
    Fsdev,
}

impl DaxMode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::Devdax, Self::Fsdev];

    /// The spelling in the attribute `dax_mode`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Devdax => "devdax",
            Self::Fsdev => "fsdev",
        }
    }

    /// The driver's name below `/sys/bus/dax/drivers`, which is its module's as well.
    #[must_use]
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Devdax => "device_dax",
            Self::Fsdev => "fsdev_dax",
        }
    }

    /// The mode that was written to an attribute; `None` for anything else, which includes
    /// `invalid`: a mode can be chosen, not taken back.
    #[must_use]
    pub fn parse(written: &[u8]) -> Option<Self> {
        let word = word(written);
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str().as_bytes() == word)
    }

    /// The mode that a driver on the DAX bus stands for.
    #[must_use]
    pub fn of_driver(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.driver() == name)
    }
}

impl fmt::Display for DaxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::DaxMode;
    use crate::online_type::Configured;

    #[test]
    fn every_spelling_and_driver_comes_back() {
        for mode in DaxMode::ALL {
            assert_eq!(DaxMode::parse(mode.as_str().as_bytes()), Some(mode));
            assert_eq!(DaxMode::parse(format!("{mode}\n").as_bytes()), Some(mode));
            assert_eq!(DaxMode::of_driver(mode.driver()), Some(mode));
        }
        assert_eq!(DaxMode::of_driver("kmem"), None);
    }

    #[test]
    fn nothing_else_is_a_mode() {
        for bad in [
            "",
            "\n",
            "invalid",
            "devdax ",
            "Devdax",
            "fsdev\n\n",
            "kmem",
        ] {
            assert_eq!(DaxMode::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Configured::<DaxMode>(None).to_string(), "invalid");
        assert_eq!(Configured(Some(DaxMode::Fsdev)).to_string(), "fsdev");
    }
}
