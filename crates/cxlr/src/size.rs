// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes as people write and read them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes. Written as `512M`, `1G`, `0x20000000` or plain bytes; K, M, G and T are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(text: &str) -> Result<Self, NoSize> {
        let bad = || NoSize(text.to_owned());
        // "512MiB" and "512MB" are what people write as well; both mean the binary unit here, as in cxl(1).
        let trimmed = text
            .strip_suffix("iB")
            .or_else(|| text.strip_suffix('B'))
            .unwrap_or(text);
        let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
        let unit = UNITS
            .iter()
            .find(|(unit, _)| trimmed.ends_with([*unit, unit.to_ascii_lowercase()]));
        let (digits, shift) = match unit {
            Some((_, shift)) if !hexadecimal => (&trimmed[..trimmed.len() - 1], *shift),
            // Without a unit there is nothing that an "iB" could belong to.
            _ => (text, 0),
        };
        let number = cxl_sysfs::text::number(digits)
            .filter(|_| !digits.contains(char::is_whitespace))
            .ok_or_else(bad)?;
        let bytes = number.checked_mul(1 << shift).ok_or_else(bad)?;
        if bytes == 0 {
            Err(bad())
        } else {
            Ok(Self(bytes))
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            let one = 1u64 << shift;
            if self.0 >= one {
                if self.0.is_multiple_of(one) {
                    return write!(formatter, "{} {unit}iB", self.0 / one);
                }
                let whole = self.0 / one;
                let hundredths = u128::from(self.0 % one) * 100 / u128::from(one);
                return write!(formatter, "{whole}.{hundredths:02} {unit}iB");
            }
        }
        write!(formatter, "{} bytes", self.0)
    }
}

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSize(String);

impl fmt::Display for NoSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} is not a size: write 512M, 1G, 0x20000000 or bytes (K, M, G, T are powers of 1024)",
            self.0
        )
    }
}

impl std::error::Error for NoSize {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_written_in_many_ways() {
        for (text, bytes) in [
            ("1", 1),
            ("4k", 4096),
            ("512M", 512 << 20),
            ("512MiB", 512 << 20),
            ("512MB", 512 << 20),
            ("1G", 1 << 30),
            ("2t", 2 << 40),
            ("0x20000000", 512 << 20),
            ("0xB", 11),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_not_guessed() {
        for text in [
            "",
            "0",
            "G",
            "1.5G",
            "-1",
            "1 G",
            "1X",
            "16777216T",
            "0x",
            "1GG",
            "512iB",
            "+1",
            " 1",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!(Size(512 << 20).to_string(), "512 MiB");
        assert_eq!(Size(3 << 29).to_string(), "1.50 GiB");
        assert_eq!(Size(u64::MAX).to_string(), "16777215.99 TiB");
        assert_eq!(Size(17).to_string(), "17 bytes");
    }

    proptest! {
        #[test]
        fn bytes_survive(bytes in 1u64..) {
            prop_assert_eq!(bytes.to_string().parse(), Ok(Size(bytes)));
            prop_assert_eq!(format!("{bytes:#x}").parse(), Ok(Size(bytes)));
        }
    }
}
