// SPDX-License-Identifier: MIT OR Apache-2.0
//! The function of a switch that takes commands, and its registers.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rustix::fs::FlockOperation;
use vm_memory::Bytes;
use vm_memory::FileOffset;
use vm_memory::MmapRegion;
use vm_memory::VolatileMemory;

use crate::error::Error;
use crate::error::Result;
use crate::registers::Registers;

/// Where the machine's PCI functions are.
const FUNCTIONS: &str = "/sys/bus/pci/devices";

/// The class of a switch's mailbox, without the interface (CXL 3.1, 8.1.13).
const CLASS: &str = "0x0c0b";

/// The registers of a switch's mailbox, mapped. While it lives nobody else of this kind uses them.
pub struct Switch {
    registers: MmapRegion<()>,
    // Closing the file gives the lock back.
    _locked: File,
}

impl Switch {
    /// The names of all functions that take a fabric manager's commands, in order.
    ///
    /// # Errors
    /// [`Error::File`] where the machine's functions cannot be listed.
    pub fn all() -> Result<Vec<String>> {
        let failed = |source| Error::File {
            action: "list",
            path: FUNCTIONS.into(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(FUNCTIONS).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A function that vanishes meanwhile is none.
            let class = fs::read_to_string(entry.path().join("class")).unwrap_or_default();
            if class.starts_with(CLASS) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Takes the registers of the function with this name, as `0000:0d:00.1`, or of the first one that takes commands.
    ///
    /// # Errors
    /// Where there is none, or its registers cannot be had.
    pub fn open(name: Option<&str>) -> Result<Self> {
        let found = match name {
            Some(name) => Some(name.to_owned()),
            None => Self::all()?.into_iter().next(),
        };
        let folder = Path::new(FUNCTIONS);
        let function = folder.join(found.ok_or_else(|| Error::NoSwitch(folder.to_owned()))?);
        let path = function.join("resource0");
        let file = at(
            "open",
            &path,
            File::options().read(true).write(true).open(&path),
        )?;
        // A command takes several steps, and the answer lies where the next command goes.
        let locked = at("lock", &path, file.try_clone())?;
        at(
            "lock",
            &path,
            rustix::fs::flock(&locked, FlockOperation::LockExclusive).map_err(Into::into),
        )?;
        enable(&function.join("enable"))?;
        let bytes = at("measure", &path, file.metadata())?.len();
        let bytes = usize::try_from(bytes).map_err(|_| Error::NoMailbox)?;
        let registers = MmapRegion::from_file(FileOffset::new(file, 0), bytes)
            .map_err(|source| Error::Map { path, source })?;
        Ok(Self {
            registers,
            _locked: locked,
        })
    }
}

/// Without a driver nobody has switched the function's registers on.
fn enable(path: &Path) -> Result<()> {
    let enabled = at("read", path, fs::read_to_string(path))?;
    if enabled.trim() == "0" {
        at("write", path, fs::write(path, "1"))?;
    }
    Ok(())
}

fn at<T>(action: &'static str, path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::File {
        action,
        path: PathBuf::from(path),
        source,
    })
}

/// What was written to registers is there before what is written next, and what is read now was read before what follows: the
/// orders say so. Plain instructions of the right width are all that a device understands.
impl Registers for Switch {
    fn read32(&self, offset: usize) -> Result<u32> {
        let registers = self.registers.as_volatile_slice();
        registers
            .load(offset, Ordering::Acquire)
            .map_err(|_| Error::NoRegister(offset))
    }

    fn read64(&self, offset: usize) -> Result<u64> {
        let registers = self.registers.as_volatile_slice();
        registers
            .load(offset, Ordering::Acquire)
            .map_err(|_| Error::NoRegister(offset))
    }

    fn write32(&self, offset: usize, value: u32) -> Result<()> {
        let registers = self.registers.as_volatile_slice();
        registers
            .store(value, offset, Ordering::Release)
            .map_err(|_| Error::NoRegister(offset))
    }

    fn write64(&self, offset: usize, value: u64) -> Result<()> {
        let registers = self.registers.as_volatile_slice();
        registers
            .store(value, offset, Ordering::Release)
            .map_err(|_| Error::NoRegister(offset))
    }
}
