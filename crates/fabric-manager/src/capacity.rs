// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands for dynamic capacity, in bytes (CXL 3.1, 7.6.7.6).

use region_policy::extent::Extent;
use region_policy::extent::Tag;
use serde::Serialize;

use crate::error::Error;
use crate::error::Result;

/// Get Host DC Region Configuration.
pub const REGIONS: u16 = 0x5601;
/// Get DC Region Extent Lists.
pub const EXTENTS: u16 = 0x5603;
/// Initiate Dynamic Capacity Add.
pub const ADD: u16 = 0x5604;
/// Initiate Dynamic Capacity Release.
pub const RELEASE: u16 = 0x5605;

/// How many regions a device can have.
const REGIONS_OF_A_DEVICE: u8 = 8;

/// The extents that are asked for at once: what 2048 bytes have room for, in a tunnel.
const EXTENTS_AT_ONCE: u32 = 48;

/// Exactly these extents, neither more nor others: for addition and for removal.
const ADD_PRESCRIPTIVE: u8 = 2;
const RELEASE_PRESCRIPTIVE: u8 = 1;

/// Take it, whether the host gives it back or not.
const FORCED: u8 = 1 << 4;

/// A dynamic capacity region of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Its first address on the device.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// Bytes of a block: extents are made of whole ones.
    pub block_size: u64,
}

/// What to send to learn of all regions.
#[must_use]
pub fn regions_request() -> [u8; 4] {
    [0, 0, REGIONS_OF_A_DEVICE, 0]
}

/// The regions that a device tells of.
///
/// # Errors
/// [`Error::Malformed`] where there are fewer bytes than regions.
pub fn regions(answer: &[u8]) -> Result<Vec<Region>> {
    const HEADER: usize = 4;
    const REGION: usize = 0x28;
    const SHORT: Error = Error::Malformed("shorter than its regions");
    let count = usize::from(*answer.get(3).ok_or(SHORT)?);
    let regions = answer.get(HEADER..HEADER + count * REGION).ok_or(SHORT)?;
    regions
        .chunks_exact(REGION)
        .map(|bytes| {
            Ok(Region {
                base: u64_at(bytes, 0).ok_or(SHORT)?,
                length: u64_at(bytes, 0x10).ok_or(SHORT)?,
                block_size: u64_at(bytes, 0x18).ok_or(SHORT)?,
            })
        })
        .collect()
}

/// What to send to learn of the extents that the host has, from number `start` on.
#[must_use]
pub fn extents_request(start: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(EXTENTS_AT_ONCE.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes
}

/// A part of the list of extents that the host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extents {
    /// How many the whole list has.
    pub total: u32,
    /// Which list this is a part of: when it changes between two parts, begin anew.
    pub generation: u32,
    /// Those of this part.
    pub part: Vec<Extent>,
}

/// The extents that a device tells of.
///
/// # Errors
/// [`Error::Malformed`] where there are fewer bytes than extents, or one has no address range.
pub fn extents(answer: &[u8]) -> Result<Extents> {
    const HEADER: usize = 0x18;
    const SHORT: Error = Error::Malformed("shorter than its extents");
    let count = u32_at(answer, 8).ok_or(SHORT)?;
    let length = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(Extent::SIZE)?.checked_add(HEADER))
        .ok_or(SHORT)?;
    let extents = answer.get(HEADER..length).ok_or(SHORT)?;
    Ok(Extents {
        total: u32_at(answer, 0xc).ok_or(SHORT)?,
        generation: u32_at(answer, 0x10).ok_or(SHORT)?,
        part: extents
            .chunks_exact(Extent::SIZE)
            .map(|bytes| {
                Extent::parse(bytes).ok_or(Error::Malformed("an extent without an address range"))
            })
            .collect::<Result<_>>()?,
    })
}

/// What to send to offer extents of a region to the host, as one group.
///
/// # Errors
/// [`Error::TooLong`] where there are more of them than can be counted.
pub fn add(region: u8, tag: Option<Tag>, extents: &[Extent]) -> Result<Vec<u8>> {
    request(ADD_PRESCRIPTIVE, region, tag, extents)
}

/// What to send to ask extents of a region back.
///
/// # Errors
/// [`Error::TooLong`] where there are more of them than can be counted.
pub fn release(region: u8, tag: Option<Tag>, extents: &[Extent], forced: bool) -> Result<Vec<u8>> {
    let forced = if forced { FORCED } else { 0 };
    request(RELEASE_PRESCRIPTIVE | forced, region, tag, extents)
}

/// Both have the same layout.
fn request(policy: u8, region: u8, tag: Option<Tag>, extents: &[Extent]) -> Result<Vec<u8>> {
    let count = u32::try_from(extents.len()).map_err(|_| Error::TooLong {
        bytes: extents.len().saturating_mul(Extent::SIZE),
        room: usize::from(u16::MAX),
    })?;
    let all = extents.iter().map(|extent| extent.span.length());
    let all = all.fold(0_u64, u64::saturating_add);
    let mut bytes = vec![0, 0, policy, region];
    bytes.extend(all.to_le_bytes());
    bytes.extend(tag_bytes(tag));
    bytes.extend(count.to_le_bytes());
    for extent in extents {
        bytes.extend(extent.span.start().to_le_bytes());
        bytes.extend(extent.span.length().to_le_bytes());
        bytes.extend(tag_bytes(extent.tag));
        bytes.extend(extent.sequence.to_le_bytes());
        bytes.extend([0; 6]);
    }
    Ok(bytes)
}

fn tag_bytes(tag: Option<Tag>) -> [u8; 16] {
    tag.map_or([0; 16], Tag::bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use region_policy::extent::Span;

    use super::*;

    fn tag() -> Tag {
        Tag::parse(b"5be13bce-ae34-4a77-b6c3-16df975fcf1a").unwrap()
    }

    fn extent(start: u64, sequence: u16) -> Extent {
        Extent {
            span: Span::new(start, 0x1000_0000).unwrap(),
            tag: Some(tag()),
            sequence,
        }
    }

    #[test]
    fn an_offer_names_each_extent_as_the_host_will_read_it() {
        let extents = [extent(0x4000_0000, 2), extent(0, 1)];
        let bytes = add(1, Some(tag()), &extents).unwrap();
        assert_eq!(bytes.len(), 32 + 2 * Extent::SIZE);
        assert_eq!(bytes[..4], [0, 0, 2, 1]);
        assert_eq!(bytes[4..12], 0x2000_0000_u64.to_le_bytes());
        assert_eq!(bytes[12..28], tag().bytes());
        assert_eq!(bytes[28..32], [2, 0, 0, 0]);
        let read: Vec<Option<Extent>> = bytes[32..]
            .chunks(Extent::SIZE)
            .map(Extent::parse)
            .collect();
        assert_eq!(read, extents.map(Some));
    }

    #[test]
    fn a_request_for_memory_says_whether_it_is_forced() {
        assert_eq!(release(0, None, &[], false).unwrap()[2], 1);
        assert_eq!(release(0, None, &[], true).unwrap()[2], 0x11);
    }

    #[test]
    fn regions_are_read_and_what_is_cut_short_is_not() {
        let mut answer = vec![0, 0, 2, 2];
        for number in 0..2_u64 {
            answer.extend((number << 30).to_le_bytes());
            answer.extend(4_u64.to_le_bytes());
            answer.extend((1_u64 << 30).to_le_bytes());
            answer.extend((2_u64 << 20).to_le_bytes());
            answer.extend([0; 8]);
        }
        let read = regions(&answer).unwrap();
        let second = Region {
            base: 1 << 30,
            length: 1 << 30,
            block_size: 2 << 20,
        };
        assert_eq!(read.len(), 2);
        assert_eq!(read[1], second);
        for length in 0..answer.len() {
            assert!(regions(&answer[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn extents_are_read_and_what_is_cut_short_is_not() {
        let mut answer = vec![0; 8];
        for number in [2_u32, 7, 9, 0] {
            answer.extend(number.to_le_bytes());
        }
        let extents = [extent(0, 0), extent(0x1000_0000, 3)];
        answer.extend(&add(0, None, &extents).unwrap()[32..]);
        let read = super::extents(&answer).unwrap();
        assert_eq!((read.total, read.generation), (7, 9));
        assert_eq!(read.part, extents);
        for length in 0..answer.len() {
            assert!(super::extents(&answer[..length]).is_err(), "{length}");
        }
    }
}
