// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a fabric manager does with one device behind a switch.

use region_policy::extent::Extent;
use region_policy::extent::Span;
use region_policy::extent::Tag;

use crate::capacity;
use crate::capacity::Region;
use crate::error::Error;
use crate::error::Result;
use crate::mailbox::Mailbox;
use crate::registers::Registers;
use crate::tunnel;

/// A piece of a region, as a user names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// From the beginning of the region, in bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    /// Its place among the extents of its tag; 0 where nobody shares them.
    pub sequence: u16,
}

/// The manager of the device behind one port of a switch.
pub struct Manager<R> {
    mailbox: Mailbox<R>,
    port: u8,
}

impl<R: Registers> Manager<R> {
    /// Through the registers of a switch, for the device behind `port`.
    ///
    /// # Errors
    /// [`Error::NoMailbox`] where the registers have none.
    pub fn new(registers: R, port: u8) -> Result<Self> {
        Ok(Self {
            mailbox: Mailbox::find(registers)?,
            port,
        })
    }

    /// The device's regions.
    ///
    /// # Errors
    /// Where switch or device refuse.
    pub fn regions(&self) -> Result<Vec<Region>> {
        capacity::regions(&self.tell(capacity::REGIONS, &capacity::regions_request())?)
    }

    /// The extents that the host has, in the order in which it took them.
    ///
    /// # Errors
    /// Where switch or device refuse.
    pub fn extents(&self) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        let mut generation = None;
        loop {
            let start = u32::try_from(extents.len())
                .map_err(|_| Error::Malformed("a list without an end"))?;
            let answer = self.tell(capacity::EXTENTS, &capacity::extents_request(start))?;
            let page = capacity::extents(&answer)?;
            if generation.is_some_and(|generation| generation != page.generation) {
                extents.clear();
                generation = None;
                continue;
            }
            generation = Some(page.generation);
            let empty = page.part.is_empty();
            extents.extend(page.part);
            if empty || extents.len() >= page.total as usize {
                return Ok(extents);
            }
        }
    }

    /// Offers pieces of a region to the host, as one group.
    ///
    /// # Errors
    /// Where switch or device refuse: it offers or gave some of them already, or they are not whole blocks.
    pub fn add(&self, region: u8, tag: Option<Tag>, pieces: &[Piece]) -> Result<()> {
        let extents = self.locate(region, tag, pieces)?;
        self.tell(capacity::ADD, &capacity::add(region, tag, &extents)?)
            .map(drop)
    }

    /// Asks pieces of a region back from the host.
    ///
    /// # Errors
    /// Where switch or device refuse: the host does not have all of them.
    pub fn release(
        &self,
        region: u8,
        tag: Option<Tag>,
        pieces: &[Piece],
        forced: bool,
    ) -> Result<()> {
        let extents = self.locate(region, tag, pieces)?;
        let request = capacity::release(region, tag, &extents, forced)?;
        self.tell(capacity::RELEASE, &request).map(drop)
    }

    /// The pieces as extents, which have the device's addresses.
    fn locate(&self, number: u8, tag: Option<Tag>, pieces: &[Piece]) -> Result<Vec<Extent>> {
        let regions = self.regions()?;
        let region = regions
            .get(usize::from(number))
            .ok_or(Error::NoRegion(number))?;
        let extent = |piece: &Piece| {
            let span = region
                .base
                .checked_add(piece.offset)
                .and_then(|start| Span::new(start, piece.length));
            Ok(Extent {
                span: span.ok_or(Error::NoAddress {
                    offset: piece.offset,
                    length: piece.length,
                })?,
                tag,
                sequence: piece.sequence,
            })
        };
        pieces.iter().map(extent).collect()
    }

    fn tell(&self, opcode: u16, payload: &[u8]) -> Result<Vec<u8>> {
        let request = tunnel::wrap(self.port, opcode, payload)?;
        let answer = self.mailbox.execute(tunnel::OPCODE, &request)?;
        tunnel::unwrap(self.port, opcode, &answer).map(<[u8]>::to_vec)
    }
}
