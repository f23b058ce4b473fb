// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The device's event log of dynamic capacity, as Get Event Records returns it (CXL 3.1, 8.2.9.2.2).

use core::fmt;

use super::wire::{array_at, u16_at, u8_at};
use crate::extent::Extent;

/// The number of the log in Get Event Records and Clear Event Records.
pub const LOG: u8 = 4;

/// The bytes before the first record.
const HEADER: usize = 0x20;

/// The bytes of a record.
const RECORD: usize = 0x80;

/// What a dynamic capacity event record is known by: ca95afa7-f183-4018-8c2f-95268e101a2a.
const IDENTIFIER: [u8; 16] = [
    0xca, 0x95, 0xaf, 0xa7, 0xf1, 0x83, 0x40, 0x18, 0x8c, 0x2f, 0x95, 0x26, 0x8e, 0x10, 0x1a, 0x2a,
];

/// What a device sent is not what the specification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed(&'static str);

impl Malformed {
    /// What it is, as the object of a sentence.
    #[must_use]
    pub const fn new(what: &'static str) -> Self {
        Self(what)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the device sent {}", self.0)
    }
}

/// What one call of Get Event Records returned.
#[derive(Clone, Copy, Debug)]
pub struct Page<'b> {
    overflow: bool,
    records: &'b [u8],
}

impl<'b> Page<'b> {
    /// Reads what the device returned, all of it.
    ///
    /// # Errors
    /// If there are fewer bytes than the count of records takes.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, Malformed> {
        const SHORT: Malformed = Malformed::new("fewer event records than it counts");
        let flags = u8_at(bytes, 0).ok_or(SHORT)?;
        let count = usize::from(u16_at(bytes, 0x14).ok_or(SHORT)?);
        let length = count.checked_mul(RECORD).ok_or(SHORT)?;
        let records = bytes
            .get(HEADER..)
            .and_then(|records| records.get(..length))
            .ok_or(SHORT)?;
        Ok(Self {
            overflow: flags & 1 != 0,
            records,
        })
    }

    /// Whether events were lost because the log was full. They are later ones than those in the log.
    #[must_use]
    pub const fn overflow(&self) -> bool {
        self.overflow
    }

    /// Whether the log was empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = Record<'b>> + Clone {
        self.records.chunks_exact(RECORD).map(Record)
    }
}

/// One record, whatever it says: it can be cleared even if it cannot be understood.
#[derive(Clone, Copy, Debug)]
pub struct Record<'b>(&'b [u8]);

impl Record<'_> {
    /// By which the record is cleared.
    #[must_use]
    pub fn handle(&self) -> u16 {
        u16_at(self.0, 0x14).unwrap_or(0)
    }

    /// What happened (CXL 3.1, 8.2.9.2.1.6, table 8-50).
    ///
    /// # Errors
    /// If it is another kind of record.
    pub fn event(&self) -> Result<Event, Malformed> {
        const SHORT: Malformed = Malformed::new("a short event record");
        if array_at(self.0, 0) != Some(IDENTIFIER) {
            return Err(Malformed::new("an event record of another kind"));
        }
        let kind = match u8_at(self.0, 0x30).ok_or(SHORT)? {
            0 => Kind::Add,
            1 => Kind::Release,
            2 => Kind::ForcedRelease,
            3 => return Ok(Event::Reconfigured),
            _ => return Err(Malformed::new("an event type that is not for hosts")),
        };
        Ok(Event::Capacity {
            kind,
            extent: self.0.get(0x38..).and_then(Extent::parse),
            more: u8_at(self.0, 0x35).ok_or(SHORT)? & 1 != 0,
        })
    }
}

/// What happened to the device's dynamic capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The fabric gives memory, or wants it back.
    Capacity {
        /// Which of the two.
        kind: Kind,
        /// The memory; `None` if it has no address range that could be.
        extent: Option<Extent>,
        /// The next record belongs to the same group.
        more: bool,
    },
    /// The configuration of a dynamic capacity region changed: read it again.
    Reconfigured,
}

/// What the fabric wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It offers memory, and waits for an answer.
    Add,
    /// It asks for memory back.
    Release,
    /// It took memory back; there is nothing behind the addresses any more.
    ForcedRelease,
}

#[cfg(test)]
mod tests {
    use super::{Event, Kind, Page, HEADER, IDENTIFIER, RECORD};

    fn page(count: u8, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + usize::from(count) * RECORD];
        bytes[0] = flags;
        bytes[0x14] = count;
        for number in 0..count {
            let record = &mut bytes[HEADER + usize::from(number) * RECORD..];
            record[..16].copy_from_slice(&IDENTIFIER);
            record[0x14] = number + 1;
            record[0x30] = number;
            record[0x35] = 1;
            record[0x38 + 3] = 0x10;
            record[0x38 + 11] = 0x08;
        }
        bytes
    }

    #[test]
    fn records_come_in_order_with_what_they_say() {
        let bytes = page(5, 1);
        let page = Page::parse(&bytes).unwrap();
        assert!(page.overflow());
        let handles: Vec<u16> = page.records().map(|record| record.handle()).collect();
        assert_eq!(handles, [1, 2, 3, 4, 5]);
        let kinds: Vec<Option<Kind>> = page
            .records()
            .map(|record| match record.event() {
                Ok(Event::Capacity { kind, more, extent }) => {
                    assert!(more);
                    assert_eq!(extent.unwrap().to_string(), "dpa 0x10000000-0x17ffffff");
                    Some(kind)
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            kinds,
            [
                Some(Kind::Add),
                Some(Kind::Release),
                Some(Kind::ForcedRelease),
                None,
                None
            ]
        );
        let last: Vec<String> = page
            .records()
            .skip(3)
            .map(|record| format!("{:?}", record.event()))
            .collect();
        assert_eq!(last[0], "Ok(Reconfigured)");
        assert!(last[1].contains("not for hosts"), "{}", last[1]);
    }

    #[test]
    fn an_extent_that_cannot_be_still_belongs_to_its_group() {
        let mut bytes = page(1, 0);
        bytes[HEADER + 0x38 + 11] = 0;
        let page = Page::parse(&bytes).unwrap();
        assert_eq!(
            page.records().next().unwrap().event(),
            Ok(Event::Capacity {
                kind: Kind::Add,
                extent: None,
                more: true
            })
        );
    }

    #[test]
    fn a_page_cut_short_is_none() {
        let bytes = page(2, 0);
        assert!(Page::parse(&bytes[..bytes.len() - 1]).is_err());
        assert!(Page::parse(&bytes[..HEADER - 1]).is_err());
        assert!(Page::parse(&[]).is_err());
        assert!(Page::parse(&page(0, 0)).unwrap().is_empty());
    }

    #[test]
    fn a_record_of_another_kind_can_still_be_cleared() {
        let mut bytes = page(1, 0);
        bytes[HEADER] = 0;
        let page = Page::parse(&bytes).unwrap();
        let record = page.records().next().unwrap();
        assert_eq!(record.handle(), 1);
        assert!(record.event().is_err());
    }
}
