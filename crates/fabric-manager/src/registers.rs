// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers, whoever has them.

use crate::error::Result;

/// A block of memory-mapped registers. Offsets are bytes, and multiples of the width.
pub trait Registers {
    /// Reads 32 bits.
    ///
    /// # Errors
    /// [`crate::Error::NoRegister`] beyond the end of the block.
    fn read32(&self, offset: usize) -> Result<u32>;

    /// Reads 64 bits at once.
    ///
    /// # Errors
    /// [`crate::Error::NoRegister`] beyond the end of the block.
    fn read64(&self, offset: usize) -> Result<u64>;

    /// Writes 32 bits.
    ///
    /// # Errors
    /// [`crate::Error::NoRegister`] beyond the end of the block.
    fn write32(&self, offset: usize, value: u32) -> Result<()>;

    /// Writes 64 bits at once.
    ///
    /// # Errors
    /// [`crate::Error::NoRegister`] beyond the end of the block.
    fn write64(&self, offset: usize, value: u64) -> Result<()>;
}
