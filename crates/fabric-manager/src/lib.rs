// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fabric manager for one switch: it gives the dynamic capacity of the devices behind it to the host, and asks it back.
//!
//! - [`registers`] is the seam: a block of registers that is read and written. [`switch`] finds the real one, the function of
//!   a switch that takes commands, and maps it.
//! - [`mailbox`] executes one command through it (CXL 3.1, 8.2.8.4).
//! - [`tunnel`] wraps a command for a device behind a port of the switch (7.6.7.3.1).
//! - [`capacity`] is the commands for dynamic capacity (7.6.7.6), in bytes.
//! - [`manager`] is what a user calls.

pub mod capacity;
pub mod error;
pub mod mailbox;
pub mod manager;
pub mod registers;
pub mod switch;
pub mod tunnel;

pub use error::Error;
pub use error::Result;
pub use manager::Manager;
