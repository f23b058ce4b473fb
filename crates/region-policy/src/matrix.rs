// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Which region driver serves memory of which kind.

use core::fmt;

use crate::errno;

/// What a region's memory is, by the partition of the devices that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartitionMode {
    /// Volatile memory.
    Ram,
    /// Persistent memory.
    Pmem,
    /// Volatile memory that the fabric adds and takes back, extent by extent.
    DynamicCapacity,
}

impl PartitionMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Ram, Self::Pmem, Self::DynamicCapacity];

    /// The spelling on the command line (`create-region -t`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ram => "ram",
            Self::Pmem => "pmem",
            Self::DynamicCapacity => "dc",
        }
    }

    /// The number in the kernel's structures. Mainline has 0 and 1; dynamic capacity takes the next
    /// one, which no mainline code takes for its own.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Ram => 0,
            Self::Pmem => 1,
            Self::DynamicCapacity => 2,
        }
    }

    /// The mode of a number in the kernel's structures; `None` above 2.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Ram),
            1 => Some(Self::Pmem),
            2 => Some(Self::DynamicCapacity),
            _ => None,
        }
    }
}

impl fmt::Display for PartitionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A driver on the cxl bus that binds to regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionDriver {
    /// System RAM under a policy of its own.
    Sysram,
    /// Memory that applications map.
    Devdax,
    /// Memory of a driver, outside the page allocator.
    Private,
    /// The kernel's own driver, for firmware and for persistent memory.
    Stock,
}

impl RegionDriver {
    /// Every driver.
    pub const ALL: [Self; 4] = [Self::Sysram, Self::Devdax, Self::Private, Self::Stock];

    /// The driver's name below `/sys/bus/cxl/drivers`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sysram => "cxl_sysram_region",
            Self::Devdax => "cxl_devdax_region",
            Self::Private => "cxl_private_region",
            Self::Stock => "cxl_region",
        }
    }

    /// The partition modes that the driver serves.
    #[must_use]
    pub const fn modes(self) -> &'static [PartitionMode] {
        match self {
            Self::Sysram | Self::Devdax => &[PartitionMode::Ram, PartitionMode::DynamicCapacity],
            Self::Private => &[PartitionMode::Ram],
            // Never dynamic capacity: the stock driver would online memory that no extent backs.
            Self::Stock => &[PartitionMode::Ram, PartitionMode::Pmem],
        }
    }

    /// Whether the driver may take a region of that mode.
    ///
    /// # Errors
    /// [`Unserved`] if it does not serve such memory.
    pub fn admits(self, mode: PartitionMode) -> Result<(), Unserved> {
        if self.modes().contains(&mode) {
            Ok(())
        } else {
            Err(Unserved { driver: self, mode })
        }
    }
}

impl fmt::Display for RegionDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A driver was asked to take a region whose mode it does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unserved {
    driver: RegionDriver,
    mode: PartitionMode,
}

impl Unserved {
    /// The error number that the binder gets.
    #[must_use]
    pub const fn errno(self) -> i32 {
        errno::EOPNOTSUPP
    }
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} does not serve {} regions; drivers that do:",
            self.driver, self.mode
        )?;
        let mut none = true;
        for driver in RegionDriver::ALL {
            if driver.admits(self.mode).is_ok() {
                write!(f, " {driver}")?;
                none = false;
            }
        }
        if none {
            f.write_str(" none")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{PartitionMode, RegionDriver};
    use crate::errno::EOPNOTSUPP;

    #[test]
    fn each_driver_takes_its_own_modes_only() {
        // ram, pmem, dc
        for (driver, served) in [
            (RegionDriver::Sysram, [true, false, true]),
            (RegionDriver::Devdax, [true, false, true]),
            (RegionDriver::Private, [true, false, false]),
            (RegionDriver::Stock, [true, true, false]),
        ] {
            assert_eq!(
                PartitionMode::ALL.map(|mode| driver.admits(mode).is_ok()),
                served,
                "{driver}"
            );
        }
    }

    #[test]
    fn a_refusal_names_who_would_serve() {
        let unserved = RegionDriver::Sysram
            .admits(PartitionMode::Pmem)
            .unwrap_err();
        assert_eq!(unserved.errno(), EOPNOTSUPP);
        assert_eq!(
            unserved.to_string(),
            "cxl_sysram_region does not serve pmem regions; drivers that do: cxl_region"
        );
        assert_eq!(
            RegionDriver::Stock
                .admits(PartitionMode::DynamicCapacity)
                .unwrap_err()
                .to_string(),
            "cxl_region does not serve dc regions; drivers that do: cxl_sysram_region cxl_devdax_region"
        );
    }

    #[test]
    fn the_kernels_numbers_come_back() {
        for mode in PartitionMode::ALL {
            assert_eq!(PartitionMode::from_number(mode.number()), Some(mode));
        }
        assert_eq!(PartitionMode::from_number(3), None);
    }
}
