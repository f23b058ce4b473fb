// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands go through a mailbox: the payload into a window of registers, the doorbell rung, the answer read from the same
//! window (CXL 3.1, 8.2.8.4).

use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::error::Error;
use crate::error::Result;
use crate::registers::Registers;

/// The number of the mailbox among the capabilities of a block of registers.
const CAPABILITY: u16 = 2;

/// Where the registers of a mailbox are, in bytes from its beginning.
const CAPABILITIES: usize = 0x00;
const CONTROL: usize = 0x04;
const COMMAND: usize = 0x08;
const STATUS: usize = 0x10;
const PAYLOAD: usize = 0x20;

/// Set in [`CONTROL`] while the device is at a command.
const DOORBELL: u32 = 1;

/// How long a command may take at most (CXL 3.1, 8.2.8.4.6).
const PATIENCE: Duration = Duration::from_secs(2);

/// How often one looks at the doorbell, which says nothing by itself.
const LOOK: Duration = Duration::from_millis(1);

/// A mailbox of a device.
pub struct Mailbox<R> {
    registers: R,
    start: usize,
    room: usize,
}

impl<R: Registers> Mailbox<R> {
    /// Finds the mailbox in a device's registers.
    ///
    /// # Errors
    /// [`Error::NoMailbox`] where there is none.
    pub fn find(registers: R) -> Result<Self> {
        let array = registers.read64(0)?;
        let count = usize::from(word_at(array, 32));
        for number in 1..=count {
            let header = registers.read64(number * 0x10)?;
            if word_at(header, 0) == CAPABILITY {
                let start = usize::try_from(header >> 32).map_err(|_| Error::NoMailbox)?;
                let shift = registers.read32(start + CAPABILITIES)? & 0x1f;
                return Ok(Self {
                    registers,
                    start,
                    // The specification allows 256 bytes to 1 MiB.
                    room: 1 << shift.clamp(8, 20),
                });
            }
        }
        Err(Error::NoMailbox)
    }

    /// Has a command executed, and returns its answer.
    ///
    /// # Errors
    /// [`Error::Switch`] where it is refused, and what goes wrong on the way.
    pub fn execute(&self, opcode: u16, payload: &[u8]) -> Result<Vec<u8>> {
        if payload.len() > self.room {
            return Err(Error::TooLong {
                bytes: payload.len(),
                room: self.room,
            });
        }
        self.wait_until_idle()?;
        for (number, piece) in payload.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.write64(PAYLOAD + number * 8, u64::from_le_bytes(word))?;
        }
        // All of the register at once: the device may look at it whenever a part of it is written.
        self.write64(COMMAND, u64::from(opcode) | (payload.len() as u64) << 16)?;
        self.registers.write32(self.start + CONTROL, DOORBELL)?;
        self.wait_until_idle()?;
        match word_at(self.read64(STATUS)?, 32) {
            0 => {}
            code => return Err(Error::Switch { opcode, code }),
        }
        let length = (self.read64(COMMAND)? >> 16) & 0x1f_ffff;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.room)
            .ok_or(Error::Malformed("longer than the mailbox"))?;
        let mut answer = Vec::with_capacity(length + 8);
        for offset in (0..length).step_by(8) {
            answer.extend(self.read64(PAYLOAD + offset)?.to_le_bytes());
        }
        answer.truncate(length);
        Ok(answer)
    }

    fn wait_until_idle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.registers.read32(self.start + CONTROL)? & DOORBELL != 0 {
            if Instant::now() > deadline {
                return Err(Error::Busy);
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn read64(&self, offset: usize) -> Result<u64> {
        self.registers.read64(self.start + offset)
    }

    fn write64(&self, offset: usize, value: u64) -> Result<()> {
        self.registers.write64(self.start + offset, value)
    }
}

/// The 16 bits of a register from `bit` on.
fn word_at(register: u64, bit: u32) -> u16 {
    let [low, high, ..] = (register >> bit).to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Where the model has its mailbox.
    const START: usize = 0x100;

    /// A device that knows one command: it returns the payload backwards.
    struct Model(RefCell<Vec<u8>>);

    impl Model {
        fn new() -> Self {
            let model = Self(RefCell::new(vec![0; START + PAYLOAD + 256]));
            model.set(0, 2 << 32);
            model.set(0x10, 1);
            model.set(0x20, u64::from(CAPABILITY) | (START as u64) << 32);
            // Room for 2^8 bytes.
            model.set(START, 8);
            model
        }

        fn set(&self, offset: usize, value: u64) {
            self.0.borrow_mut()[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        }

        fn execute(&self) {
            let command = (&self).read64(START + COMMAND).unwrap();
            let length = usize::try_from(command >> 16).unwrap();
            let known = word_at(command, 0) == 0x5300;
            self.set(START + STATUS, if known { 0 } else { 3 << 32 });
            let payload = START + PAYLOAD..START + PAYLOAD + length;
            self.0.borrow_mut()[payload].reverse();
        }
    }

    impl Registers for &Model {
        fn read32(&self, offset: usize) -> Result<u32> {
            let [a, b, c, d, ..] = self.read64(offset)?.to_le_bytes();
            Ok(u32::from_le_bytes([a, b, c, d]))
        }

        fn read64(&self, offset: usize) -> Result<u64> {
            let memory = self.0.borrow();
            let bytes = memory.get(offset..).and_then(<[u8]>::first_chunk);
            let bytes = bytes.ok_or(Error::NoRegister(offset))?;
            Ok(u64::from_le_bytes(*bytes))
        }

        fn write32(&self, offset: usize, value: u32) -> Result<()> {
            assert_eq!((offset, value), (START + CONTROL, DOORBELL));
            self.execute();
            Ok(())
        }

        fn write64(&self, offset: usize, value: u64) -> Result<()> {
            assert_ne!(offset, START, "the capabilities are not ours to write");
            self.set(offset, value);
            Ok(())
        }
    }

    #[test]
    fn payloads_of_any_length_go_and_come_back() {
        let model = Model::new();
        let mailbox = Mailbox::find(&model).unwrap();
        for length in 0..=255_u8 {
            let payload: Vec<u8> = (0..length).collect();
            let answer: Vec<u8> = (0..length).rev().collect();
            assert_eq!(mailbox.execute(0x5300, &payload).unwrap(), answer);
        }
    }

    #[test]
    fn a_refusal_tells_its_code_and_what_is_too_long_is_not_sent() {
        let model = Model::new();
        let mailbox = Mailbox::find(&model).unwrap();
        assert!(matches!(
            mailbox.execute(0x5301, &[]),
            Err(Error::Switch {
                opcode: 0x5301,
                code: 3
            })
        ));
        assert!(matches!(
            mailbox.execute(0x5300, &[0; 257]),
            Err(Error::TooLong {
                bytes: 257,
                room: 256
            })
        ));
    }

    #[test]
    fn registers_without_a_mailbox_have_none() {
        let model = Model::new();
        model.set(0x20, 3);
        assert!(matches!(Mailbox::find(&model), Err(Error::NoMailbox)));
    }
}
