// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong on the way to a device, and who refused.

use std::io;
use std::path::PathBuf;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PCI function takes a fabric manager's commands.
    #[error("no PCI function below {} is a switch's mailbox (class 0x0c0b)", .0.display())]
    NoSwitch(PathBuf),
    /// A file of the function could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The registers could not be mapped.
    #[error("cannot map {}: {source}", path.display())]
    Map {
        /// The file that stands for them.
        path: PathBuf,
        /// Why not.
        source: vm_memory::mmap::MmapRegionError,
    },
    /// A register lies beyond the end of the block.
    #[error("there is no register at {0:#x}")]
    NoRegister(usize),
    /// The block of registers has no mailbox.
    #[error("the function's registers have no mailbox")]
    NoMailbox,
    /// The command takes more bytes than the mailbox has room for.
    #[error(
        "the command takes {bytes} bytes, and the mailbox has room for {room}: name fewer extents at once"
    )]
    TooLong {
        /// The bytes of the command.
        bytes: usize,
        /// The room.
        room: usize,
    },
    /// The mailbox did not get done with a command.
    #[error("the switch did not finish the command before this one, or this one, in two seconds")]
    Busy,
    /// The switch refused.
    #[error("the switch refuses command {opcode:#06x}: {}", return_code(*.code))]
    Switch {
        /// The command.
        opcode: u16,
        /// Its return code (CXL 3.1, table 8-34).
        code: u16,
    },
    /// The device behind the switch refused.
    #[error("the device behind port {port} refuses command {opcode:#06x}: {}", return_code(*.code))]
    Device {
        /// The port.
        port: u8,
        /// The command.
        opcode: u16,
        /// Its return code (CXL 3.1, table 8-34).
        code: u16,
    },
    /// An answer is not what the specification says.
    #[error("the answer is {0}")]
    Malformed(&'static str),
    /// The device has no such region.
    #[error("the device has no dynamic capacity region {0}")]
    NoRegion(u8),
    /// An extent has no address on the device.
    #[error("an extent at {offset:#x} of {length:#x} bytes has no address on the device")]
    NoAddress {
        /// From the beginning of its region, in bytes.
        offset: u64,
        /// In bytes.
        length: u64,
    },
}

/// The words for the codes that a command for dynamic capacity can meet.
fn return_code(code: u16) -> String {
    let words = match code {
        0x01 => "a background command was started",
        0x02 => "invalid input",
        0x03 => "unsupported",
        0x04 => "internal error",
        0x05 => "retry required",
        0x06 => "busy",
        0x0f => "invalid physical address",
        0x16 => "invalid payload length",
        0x1d => "resources exhausted",
        0x1e => "invalid extent list",
        _ => return format!("return code {code:#x}"),
    };
    format!("{words} (return code {code:#x})")
}
