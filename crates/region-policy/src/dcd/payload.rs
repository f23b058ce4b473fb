// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What the host sends: answers to offers, memory given back, events that were read.

use core::iter::Peekable;

use super::event;
use super::wire::Writer;
use crate::extent::Span;

/// The bytes before the first range, and those of a range.
const HEADER: usize = 8;
const RANGE: usize = 24;

/// Writes the ranges that are accepted (Add Dynamic Capacity Response, CXL 3.1, 8.2.9.9.9.3) or given back
/// (Release Dynamic Capacity, 8.2.9.9.9.4); both have the same layout. Returns how many bytes were written.
///
/// Where not all ranges fit, those that do are taken and the payload says that more will follow: call
/// again for the rest. Without ranges it is the answer that refuses an offer.
///
/// `None` if there is not even room for one range.
pub fn ranges(
    spans: &mut Peekable<impl Iterator<Item = Span>>,
    buffer: &mut [u8],
) -> Option<usize> {
    let (header, body) = buffer.split_at_mut_checked(HEADER)?;
    let mut writer = Writer::new(body);
    let mut count = 0_u32;
    while writer.room() >= RANGE {
        let Some(span) = spans.next() else {
            break;
        };
        writer.put(&span.start().to_le_bytes())?;
        writer.put(&span.length().to_le_bytes())?;
        writer.put(&[0; 8])?;
        count = count.checked_add(1)?;
    }
    let more = spans.peek().is_some();
    if more && count == 0 {
        return None;
    }
    let length = writer.written().checked_add(HEADER)?;
    let mut writer = Writer::new(header);
    writer.put(&count.to_le_bytes())?;
    writer.put(&[u8::from(more), 0, 0, 0])?;
    Some(length)
}

/// Writes which event records were read (Clear Event Records, CXL 3.1, 8.2.9.2.3). Returns how many bytes
/// were written.
///
/// Takes as many handles as fit, at most 255: call again until it returns `None`, which is when there are
/// none left, or no room for one.
pub fn clear(
    handles: &mut Peekable<impl Iterator<Item = u16>>,
    buffer: &mut [u8],
) -> Option<usize> {
    const HEADER: usize = 6;
    const HANDLE: usize = 2;
    let (header, body) = buffer.split_at_mut_checked(HEADER)?;
    let mut writer = Writer::new(body);
    let mut count = 0_u8;
    while writer.room() >= HANDLE && count < u8::MAX {
        let Some(handle) = handles.next() else {
            break;
        };
        writer.put(&handle.to_le_bytes())?;
        count = count.saturating_add(1);
    }
    if count == 0 {
        return None;
    }
    let length = writer.written().checked_add(HEADER)?;
    Writer::new(header).put(&[event::LOG, 0, count, 0, 0, 0])?;
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::{clear, ranges};
    use crate::extent::Span;

    fn spans(count: u64) -> impl Iterator<Item = Span> {
        (0..count).map(|number| Span::new(number << 28, 1 << 28).unwrap())
    }

    #[test]
    fn a_refusal_is_an_answer_without_ranges() {
        let mut buffer = [0xff; 64];
        assert_eq!(ranges(&mut spans(0).peekable(), &mut buffer), Some(8));
        assert_eq!(buffer[..8], [0; 8]);
    }

    #[test]
    fn what_does_not_fit_follows() {
        let mut buffer = [0xff; 8 + 24 * 2 + 23];
        let mut three = spans(3).peekable();
        assert_eq!(ranges(&mut three, &mut buffer), Some(8 + 48));
        assert_eq!(buffer[..8], [2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(ranges(&mut three, &mut buffer), Some(8 + 24));
        assert_eq!(buffer[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(buffer[8..16], (2_u64 << 28).to_le_bytes());
        assert_eq!(buffer[16..24], (1_u64 << 28).to_le_bytes());
        assert_eq!(buffer[24..32], [0; 8]);
    }

    #[test]
    fn without_room_nothing_is_said() {
        assert_eq!(ranges(&mut spans(1).peekable(), &mut [0; 31]), None);
        assert_eq!(ranges(&mut spans(0).peekable(), &mut [0; 7]), None);
        assert_eq!(clear(&mut (1..2).peekable(), &mut [0; 7]), None);
    }

    #[test]
    fn handles_are_cleared_in_the_order_of_the_log() {
        let mut buffer = [0xff; 6 + 2 * 300];
        let mut handles = (1..=256_u16).peekable();
        assert_eq!(clear(&mut handles, &mut buffer), Some(6 + 2 * 255));
        assert_eq!(buffer[..10], [4, 0, 255, 0, 0, 0, 1, 0, 2, 0]);
        assert_eq!(clear(&mut handles, &mut buffer), Some(8));
        assert_eq!(buffer[..8], [4, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(clear(&mut handles, &mut buffer), None);
    }
}
