// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A device with dynamic capacity, in bytes, as the host sees it: an event log of a few records, offers that
//! wait in a queue without names, extents that the host has.
//!
//! It does what the specification says of devices and not more; where a real one crashes on what a host must
//! not do, it panics.

use std::collections::VecDeque;

use region_policy::extent::{Extent, Span, Tag};

/// A record type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Add = 0,
    Release = 1,
    ForcedRelease = 2,
}

/// The device refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

const IDENTIFIER: [u8; 16] = [
    0xca, 0x95, 0xaf, 0xa7, 0xf1, 0x83, 0x40, 0x18, 0x8c, 0x2f, 0x95, 0x26, 0x8e, 0x10, 0x1a, 0x2a,
];

/// How many extents it keeps apart.
pub const SUPPORTED: usize = 24;

/// An extent as it is sent, which may be one that cannot be.
pub type Raw = (u64, u64, Option<Tag>, u16);

/// The device, and the fabric's ways to it.
#[derive(Debug)]
pub struct Device {
    log: VecDeque<(u16, Vec<u8>)>,
    log_capacity: usize,
    overflow: bool,
    next_handle: u16,
    /// Offers that wait for an answer, oldest first.
    pub pending: VecDeque<Vec<Raw>>,
    /// What the host has.
    pub accepted: Vec<Span>,
    /// How many offers there were that the host could not see.
    pub overflows: usize,
    /// Somebody wants a reset; it comes when no memory is in use.
    pub reset_requested: bool,
    /// Whether the host's region goes, and another comes.
    pub rebind_requested: bool,
}

impl Device {
    pub fn new(log_capacity: usize) -> Self {
        Self {
            log: VecDeque::new(),
            log_capacity,
            overflow: false,
            next_handle: 1,
            pending: VecDeque::new(),
            accepted: Vec::new(),
            overflows: 0,
            reset_requested: false,
            rebind_requested: false,
        }
    }

    /// The fabric offers a group. Refused if the fabric manager's command would be.
    pub fn offer(&mut self, group: &[Raw]) -> Result<(), Refused> {
        let waiting = self.pending.iter().flatten().copied();
        let taken = self
            .accepted
            .iter()
            .map(|span| (span.start(), span.length()));
        let overlaps = |start: u64, length: u64| {
            move |(other, other_length): (u64, u64)| {
                start < other + other_length && other < start + length
            }
        };
        for (start, length, ..) in group {
            let mut others = waiting
                .clone()
                .map(|(start, length, ..)| (start, length))
                .chain(taken.clone());
            if others.any(overlaps(*start, *length)) {
                return Err(Refused);
            }
        }
        if self.extents() + group.len() > SUPPORTED {
            return Err(Refused);
        }
        self.pending.push_back(group.to_vec());
        self.tell(Type::Add, group);
        Ok(())
    }

    /// The fabric asks for memory back.
    pub fn ask_back(&mut self, span: Span) {
        self.tell(Type::Release, &[(span.start(), span.length(), None, 0)]);
    }

    /// The fabric takes memory back: what the host has of it, if anything.
    pub fn take_back(&mut self, span: Span) {
        self.take(span);
        self.tell(
            Type::ForcedRelease,
            &[(span.start(), span.length(), None, 0)],
        );
    }

    /// Whether the host can know that `span` is not its own any more.
    pub fn was_taken(&self, span: Span) -> bool {
        let has_it = self.accepted.iter().any(|accepted| accepted.covers(span));
        // The record of that may not have been read, or was lost.
        let tells = |(_, record): &(u16, Vec<u8>)| record[0x30] == Type::ForcedRelease as u8;
        !has_it && self.overflows == 0 && !self.log.iter().any(tells)
    }

    /// The device is reset: it forgets everything.
    pub fn reset(&mut self) {
        self.log.clear();
        self.overflow = false;
        self.pending.clear();
        self.accepted.clear();
    }

    fn extents(&self) -> usize {
        self.accepted.len() + self.pending.iter().map(Vec::len).sum::<usize>()
    }

    fn tell(&mut self, record_type: Type, extents: &[Raw]) {
        for (position, (start, length, tag, sequence)) in extents.iter().enumerate() {
            if self.log.len() == self.log_capacity {
                self.overflow = true;
                self.overflows += 1;
                continue;
            }
            let handle = self.next_handle;
            self.next_handle += 1;
            let mut record = vec![0; 0x80];
            record[..16].copy_from_slice(&IDENTIFIER);
            record[0x14..0x16].copy_from_slice(&handle.to_le_bytes());
            record[0x30] = record_type as u8;
            record[0x35] = u8::from(position + 1 < extents.len());
            record[0x38..0x40].copy_from_slice(&start.to_le_bytes());
            record[0x40..0x48].copy_from_slice(&length.to_le_bytes());
            record[0x48..0x58].copy_from_slice(&tag.map_or([0; 16], Tag::bytes));
            record[0x58..0x5a].copy_from_slice(&sequence.to_le_bytes());
            self.log.push_back((handle, record));
        }
    }

    /// Get Event Records.
    pub fn get_events(&self, at_most: usize) -> Vec<u8> {
        let records: Vec<&Vec<u8>> = self.log.iter().map(|(_, record)| record).collect();
        let count = records.len().min(at_most);
        let mut bytes = vec![0; 0x20];
        bytes[0] = u8::from(self.overflow);
        bytes[0x14] = u8::try_from(count).unwrap();
        for record in &records[..count] {
            bytes.extend_from_slice(record);
        }
        bytes
    }

    /// Clear Event Records.
    pub fn clear_events(&mut self, payload: &[u8]) {
        assert_eq!(payload[0], 4, "the log of dynamic capacity");
        for handle in payload[6..6 + 2 * usize::from(payload[2])].chunks_exact(2) {
            let handle = u16::from_le_bytes([handle[0], handle[1]]);
            assert_eq!(
                self.log.pop_front().map(|(oldest, _)| oldest),
                Some(handle),
                "records are cleared in the order of the log"
            );
            self.overflow = false;
        }
    }

    /// Get Dynamic Capacity Configuration: one region of 1 TiB at zero.
    pub fn configuration(&self) -> Vec<u8> {
        let mut bytes = vec![1, 1, 0, 0, 0, 0, 0, 0];
        for number in [0, 4096, 1 << 40, 1 << 21, 0] {
            bytes.extend(u64::to_le_bytes(number));
        }
        let supported = u32::try_from(SUPPORTED).unwrap();
        let available = supported - u32::try_from(self.extents()).unwrap();
        for number in [supported, available, 0, 0] {
            bytes.extend(u32::to_le_bytes(number));
        }
        bytes
    }

    /// Get Dynamic Capacity Extent List.
    pub fn list(&self, request: [u8; 8]) -> Vec<u8> {
        let number = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        let (count, start) = (number(0), number(4));
        let part: Vec<Span> = self
            .accepted
            .iter()
            .copied()
            .skip(start as usize)
            .take(count as usize)
            .collect();
        let total = u32::try_from(self.accepted.len()).unwrap();
        let mut bytes = Vec::new();
        for number in [u32::try_from(part.len()).unwrap(), total, 0, 0] {
            bytes.extend(number.to_le_bytes());
        }
        for span in part {
            bytes.extend(span.start().to_le_bytes());
            bytes.extend(span.length().to_le_bytes());
            bytes.extend([0; Extent::SIZE - 16]);
        }
        bytes
    }

    /// Add Dynamic Capacity Response.
    pub fn answer(&mut self, payload: &[u8]) -> Result<(), Refused> {
        let group = self
            .pending
            .front()
            .expect("an answer is given only to somebody who waits for it");
        let spans = ranges(payload);
        for span in &spans {
            let offered = group.iter().any(|(start, length, ..)| {
                Span::new(*start, *length).is_some_and(|offered| offered.covers(*span))
            });
            let taken = self.accepted.iter().any(|taken| taken.overlaps(*span));
            if !offered || taken {
                return Err(Refused);
            }
        }
        self.accepted.extend(spans);
        self.pending.pop_front();
        Ok(())
    }

    /// Release Dynamic Capacity.
    pub fn release(&mut self, payload: &[u8]) -> Result<(), Refused> {
        let spans = ranges(payload);
        assert!(!spans.is_empty(), "something is given back");
        for span in &spans {
            if !self.accepted.iter().any(|taken| taken.covers(*span)) {
                return Err(Refused);
            }
        }
        for span in spans {
            self.take(span);
        }
        Ok(())
    }

    fn take(&mut self, span: Span) {
        let mut left = Vec::new();
        for taken in self.accepted.drain(..) {
            if !taken.overlaps(span) {
                left.push(taken);
                continue;
            }
            let before = span.start().saturating_sub(taken.start());
            left.extend(Span::new(taken.start(), before));
            let behind = taken.last().saturating_sub(span.last());
            left.extend(Span::new(span.last() + 1, behind));
        }
        self.accepted = left;
    }
}

fn ranges(payload: &[u8]) -> Vec<Span> {
    let count = u32::from_le_bytes(payload[..4].try_into().unwrap()) as usize;
    assert_eq!(payload.len(), 8 + 24 * count);
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    payload[8..]
        .chunks_exact(24)
        .map(|range| Span::new(number(&range[..8]), number(&range[8..16])).unwrap())
        .collect()
}
