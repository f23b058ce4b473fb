// SPDX-License-Identifier: MIT OR Apache-2.0
//! The alphabet: what somebody may do to a region.
//!
//! Regions, decoders and dax devices get new numbers as they come and go, so operations name a *place*: memdevs of the
//! topology that a region takes together, and whatever region there is on them at that moment.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// Memdevs of the topology between which a region alternates, one at least, and the region on them, if there is one.
pub type Place = u8;

/// One thing that somebody does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Writes to an attribute, in one call.
    Write(File, String),
    /// Runs a program to its end.
    Run(Program),
    /// Starts a process that has its memory on the node of the regions, and the kernel's memory for it as well.
    Occupy,
    /// Puts data into memory of that node, which is to be the same whenever it is looked at.
    Store,
    /// Opens the character device `/dev/daxN.0` and keeps it open.
    Open(Place),
    /// Ends the processes, forgets the data and closes the devices.
    Vacate,
    /// Removes and loads our modules, as far as they let themselves be removed.
    Reload,
    /// Ends all meddling and takes everything down in good order: the way back that there always is.
    GoHome,
}

/// An attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum File {
    /// `bind` of the driver; what is written to it is the device that the driver is for.
    Bind(Driver, Place),
    /// `unbind` of the driver.
    Unbind(Driver, Place),
    /// `sysram_regionN/online_type`.
    OnlineType(Place),
    /// `dax_regionN/dax_mode`.
    DaxMode(Place),
    /// `daxN.0/state`.
    State(Place),
    /// `daxN.0/hotplug`.
    Hotplug(Place),
    /// `memoryM/state` of a block of the region, counted from its first.
    Block(Place, u8),
    /// `regionN/commit`.
    Commit(Place),
    /// `decoder0.0/delete_region`; what is written to it is the region.
    Delete(Place),
    /// `auto_online_blocks`.
    SystemDefault,
    /// The errno with which `memory-notifier-error-inject` refuses every block that is to go online.
    OnlineFault,
    /// The same, for blocks that are to go offline.
    OfflineFault,
}

/// A driver that devices of a place can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// `cxl_sysram_region`, for `regionN`.
    Sysram,
    /// `cxl_dax_kmem_region`, for `sysram_regionN`.
    DaxKmem,
    /// `cxl_devdax_region`, for `regionN`.
    Devdax,
    /// `cxl_dax_device_region`, for `dax_regionN`.
    DaxDevice,
    /// `cxl_region`, the stock driver, for `regionN`.
    Stock,
    /// `kmem`, for `daxN.0`.
    Kmem,
    /// `device_dax`, for `daxN.0`.
    DeviceDax,
    /// `fsdev_dax`, for `daxN.0`.
    FsdevDax,
    /// `cxl_mem`, for `memN`: of several, one that can be unbound or bound.
    Memdev,
    /// `cxl_pci`, for the PCI function of a memdev.
    Pci,
    /// `cxl_acpi`, for the root of everything.
    Acpi,
}

impl Driver {
    /// Every driver.
    pub const ALL: [Self; 11] = [
        Self::Sysram,
        Self::DaxKmem,
        Self::Devdax,
        Self::DaxDevice,
        Self::Stock,
        Self::Kmem,
        Self::DeviceDax,
        Self::FsdevDax,
        Self::Memdev,
        Self::Pci,
        Self::Acpi,
    ];

    /// Its folder in `/sys/bus`.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Sysram => "cxl/drivers/cxl_sysram_region",
            Self::DaxKmem => "cxl/drivers/cxl_dax_kmem_region",
            Self::Devdax => "cxl/drivers/cxl_devdax_region",
            Self::DaxDevice => "cxl/drivers/cxl_dax_device_region",
            Self::Stock => "cxl/drivers/cxl_region",
            Self::Kmem => "dax/drivers/kmem",
            Self::DeviceDax => "dax/drivers/device_dax",
            Self::FsdevDax => "dax/drivers/fsdev_dax",
            Self::Memdev => "cxl/drivers/cxl_mem",
            Self::Pci => "pci/drivers/cxl_pci",
            Self::Acpi => "platform/drivers/cxl_acpi",
        }
    }
}

/// A program and what it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// `cxlr create-region … --driver sysram --online-type WORD`.
    Create(Place, String),
    /// `cxlr create-region … --driver devdax --dax-mode WORD`.
    CreateDevdax(Place, String),
    /// `cxlr create-region … --driver none`.
    Commit(Place),
    /// `cxlr create-region … --driver auto`.
    CreateStock(Place),
    /// `cxlr bind REGION --driver sysram --online-type WORD`.
    HandToSysram(Place, String),
    /// `cxlr bind REGION --driver devdax --dax-mode WORD`.
    HandToDevdax(Place, String),
    /// `cxlr bind REGION --driver auto`.
    HandBack(Place),
    /// `cxlr hotplug REGION WORD`.
    Plug(Place, String),
    /// `cxlr destroy-region REGION`.
    Destroy(Place),
    /// `cxl create-region`.
    CxlCreate(Place),
    /// `cxl disable-region`.
    CxlDisable(Place),
    /// `cxl enable-region`.
    CxlEnable(Place),
    /// `cxl destroy-region -f`.
    CxlDestroy(Place),
    /// `daxctl offline-memory`.
    DaxctlOffline(Place),
    /// `daxctl online-memory`, in the movable zone or as the kernel likes.
    DaxctlOnline(Place, bool),
    /// `daxctl reconfigure-device -m MODE`: `system-ram` or `devdax`.
    DaxctlMode(Place, String),
}

impl Program {
    /// Whether it is ours: then it does all or nothing.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Create(..)
                | Self::CreateDevdax(..)
                | Self::Commit(..)
                | Self::CreateStock(..)
                | Self::HandToSysram(..)
                | Self::HandToDevdax(..)
                | Self::HandBack(..)
                | Self::Plug(..)
                | Self::Destroy(..)
        )
    }

    /// Where it works.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Create(place, _)
            | Self::CreateDevdax(place, _)
            | Self::Commit(place)
            | Self::CreateStock(place)
            | Self::HandToSysram(place, _)
            | Self::HandToDevdax(place, _)
            | Self::HandBack(place)
            | Self::Plug(place, _)
            | Self::Destroy(place)
            | Self::CxlCreate(place)
            | Self::CxlDisable(place)
            | Self::CxlEnable(place)
            | Self::CxlDestroy(place)
            | Self::DaxctlOffline(place)
            | Self::DaxctlOnline(place, _)
            | Self::DaxctlMode(place, _) => *place,
        }
    }

    /// Whether it changes blocks one by one, in whatever order, and may leave a device half done.
    #[must_use]
    pub fn goes_block_by_block(&self) -> bool {
        matches!(
            self,
            Self::DaxctlOffline(..)
                | Self::DaxctlOnline(..)
                | Self::DaxctlMode(..)
                | Self::CxlDisable(..)
                | Self::CxlDestroy(..)
        )
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What it is about is not there, so that nothing was tried.
    Absent,
    /// The kernel took it.
    Done,
    /// The kernel refused it with this errno.
    Refused(i32),
    /// The program ended with this status, 0 apart.
    Failed(i32),
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => formatter.write_str("nothing there"),
            Self::Done => formatter.write_str("done"),
            Self::Refused(errno) => {
                write!(formatter, "{}", std::io::Error::from_raw_os_error(*errno))
            }
            Self::Failed(status) => write!(formatter, "exit status {status}"),
        }
    }
}

impl Operation {
    /// Whether it takes the decoders of that place away without asking whether memory is online behind them. Under a stock
    /// driver, which does not lock them, the machine dies of it; that is known, and nothing to try.
    #[must_use]
    pub fn tears_decoders_of(&self, place: Place) -> bool {
        match self {
            Self::Write(
                File::Commit(at)
                | File::Delete(at)
                | File::Unbind(Driver::Memdev | Driver::Pci, at),
                _,
            )
            | Self::Run(Program::CxlDestroy(at)) => *at == place,
            Self::Write(File::Unbind(Driver::Acpi, _), _) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Operation {
    /// One line, which [`Operation::parse`] understands.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        formatter.write_str(&line)
    }
}

impl Operation {
    /// The operation of a line of a script.
    ///
    /// # Errors
    /// What is wrong with the line, and where.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }
}
