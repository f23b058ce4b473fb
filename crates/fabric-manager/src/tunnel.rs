// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command for a device behind a port of a switch travels in a command to the switch (Tunnel Management Command,
//! CXL 3.1, 7.6.7.3.1), as a message (7.6.3).

use crate::error::Error;
use crate::error::Result;

/// Tunnel Management Command.
pub const OPCODE: u16 = 0x5300;

/// The bytes before a message in a tunnel.
const TUNNEL: usize = 4;

/// The bytes of a message before its payload.
const HEADER: usize = 12;

/// The categories of a message.
const REQUEST: u8 = 0;
const RESPONSE: u8 = 1;

/// By which the answer is known.
const TAG: u8 = 0x5a;

/// The payload of the tunnel that carries a command to the device behind `port`.
///
/// # Errors
/// [`Error::TooLong`] where its length cannot be written.
pub fn wrap(port: u8, opcode: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let too_long = |_| Error::TooLong {
        bytes: payload.len(),
        room: usize::from(u16::MAX) - HEADER,
    };
    let message = u16::try_from(payload.len() + HEADER).map_err(too_long)?;
    let length = u16::try_from(payload.len()).map_err(too_long)?;
    let mut bytes = Vec::with_capacity(TUNNEL + HEADER + payload.len());
    bytes.extend([port, 0]);
    bytes.extend(message.to_le_bytes());
    bytes.extend([REQUEST, TAG, 0]);
    bytes.extend(opcode.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    // The third byte of the length, the return code and the vendor's word.
    bytes.extend([0; 5]);
    bytes.extend(payload);
    Ok(bytes)
}

/// The payload of the device's answer.
///
/// # Errors
/// [`Error::Device`] where it refused, [`Error::Malformed`] where the bytes are no answer to the command.
pub fn unwrap(port: u8, opcode: u16, bytes: &[u8]) -> Result<&[u8]> {
    const SHORT: Error = Error::Malformed("shorter than an answer from a tunnel");
    let message = bytes.get(TUNNEL..).ok_or(SHORT)?;
    let (header, payload) = message.split_first_chunk::<HEADER>().ok_or(SHORT)?;
    let [
        category,
        tag,
        _,
        command,
        command_set,
        low,
        middle,
        high,
        code_low,
        code_high,
        ..,
    ] = *header;
    if (category & 0xf, tag) != (RESPONSE, TAG)
        || u16::from_le_bytes([command, command_set]) != opcode
    {
        return Err(Error::Malformed("to another command"));
    }
    match u16::from_le_bytes([code_low, code_high]) {
        0 => {}
        code => return Err(Error::Device { port, opcode, code }),
    }
    // Only the five lowest bits of the last byte are of the length.
    let length = u32::from_le_bytes([low, middle, high & 0x1f, 0]);
    usize::try_from(length)
        .ok()
        .and_then(|length| payload.get(..length))
        .ok_or(SHORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_wrapped_with_both_lengths() {
        let bytes = wrap(3, 0x5604, &[0xaa, 0xbb]).unwrap();
        let expected = [
            3, 0, 14, 0, // the tunnel
            0, TAG, 0, 0x04, 0x56, 2, 0, 0, 0, 0, 0, 0, // the message
            0xaa, 0xbb,
        ];
        assert_eq!(bytes, expected);
    }

    fn answer(code: u8) -> Vec<u8> {
        let mut bytes = vec![14, 0, 0, 0];
        bytes.extend([1, TAG, 0, 0x01, 0x56, 2, 0, 0, code, 0, 0, 0]);
        bytes.extend([0xaa, 0xbb, 0xcc]);
        bytes
    }

    #[test]
    fn an_answer_gives_its_payload_or_its_code() {
        assert_eq!(unwrap(0, 0x5601, &answer(0)).unwrap(), [0xaa, 0xbb]);
        let error = unwrap(0, 0x5601, &answer(0x1e)).unwrap_err().to_string();
        assert!(error.contains("invalid extent list"), "{error}");
    }

    #[test]
    fn what_is_no_answer_to_the_command_is_not_taken_for_one() {
        assert!(matches!(
            unwrap(0, 0x5600, &answer(0)),
            Err(Error::Malformed(_))
        ));
        let whole = answer(0);
        for length in 0..whole.len() - 1 {
            assert!(
                matches!(
                    unwrap(0, 0x5601, &whole[..length]),
                    Err(Error::Malformed(_))
                ),
                "{length}"
            );
        }
    }
}
