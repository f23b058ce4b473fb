// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Extended linear caches: memory of the processors' own that is a cache of a region.
//!
//! The cache and what it caches share the region's addresses: the cache comes first, and each byte of it
//! belongs to one byte behind it. What is wrong with one of the two is wrong with the other.

use core::ops::Range;

/// The address that shares its fate with `address`, in a region at `region` whose first `cache` bytes are
/// the cache.
///
/// `None` where `address` is not the region's, or has no partner.
#[must_use]
pub fn alias(address: u64, region: &Range<u64>, cache: u64) -> Option<u64> {
    if cache == 0 || !region.contains(&address) {
        return None;
    }
    let offset = address.checked_sub(region.start)?;
    let alias = if offset < cache {
        address.checked_add(cache)?
    } else {
        address.checked_sub(cache)?
    };
    region.contains(&alias).then_some(alias)
}

#[cfg(test)]
mod tests {
    use super::alias;

    #[test]
    fn the_partner_of_the_partner_is_oneself() {
        let region = 100..120;
        for address in 0..200 {
            let expected = match address {
                100..110 => Some(address + 10),
                110..120 => Some(address - 10),
                _ => None,
            };
            assert_eq!(alias(address, &region, 10), expected, "{address}");
            assert_eq!(
                expected.and_then(|partner| alias(partner, &region, 10)),
                expected.map(|_| address)
            );
        }
    }

    #[test]
    fn without_a_cache_nobody_has_a_partner() {
        assert!((0..200).all(|address| alias(address, &(100..120), 0).is_none()));
    }

    #[test]
    fn a_partner_is_in_the_region() {
        for cache in 0..40 {
            for address in 0..200 {
                let partner = alias(address, &(100..120), cache);
                assert!(partner.is_none_or(|partner| (100..120).contains(&partner)));
            }
        }
        let all = 1..u64::MAX;
        assert_eq!(alias(u64::MAX - 1, &all, u64::MAX), None);
    }
}
