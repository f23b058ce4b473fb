// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Numbers in what devices send: little-endian, at fixed places, and never trusted to be there.

/// The `N` bytes from `offset` on.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The byte at `offset`.
pub(crate) fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

/// The 16-bit number at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

/// The 32-bit number at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

/// The 64-bit number at `offset`.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

/// Writes one thing after the other into a buffer.
pub(crate) struct Writer<'b> {
    buffer: &'b mut [u8],
    written: usize,
}

impl<'b> Writer<'b> {
    /// Starts at the beginning of `buffer`.
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, written: 0 }
    }

    /// Writes `bytes`, or nothing if there is no room for all of them.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.written.checked_add(bytes.len())?;
        self.buffer
            .get_mut(self.written..end)?
            .copy_from_slice(bytes);
        self.written = end;
        Some(())
    }

    /// How many bytes could still be written.
    pub(crate) fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.written)
    }

    /// How many bytes were written.
    pub(crate) fn written(&self) -> usize {
        self.written
    }
}
