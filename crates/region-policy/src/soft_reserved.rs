// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Soft-reserved memory: ranges that firmware sets aside for a purpose, and that two drivers may want.
//!
//! Memory behind a CXL window may be soft-reserved as well. Then a CXL region may have it, or `dax_hmem`,
//! which serves whatever else is soft-reserved. The kernel gives a soft-reserved range to CXL where one
//! region contains all of it, and to `dax_hmem` otherwise. Whoever decides by that rule, and by nothing
//! that depends on who came first, comes to the same answer in every order of events.

use core::ops::Range;

/// Whether the soft-reserved range `reserved` keeps `region` from having its memory: they share some, and
/// not all of `reserved` is the region's. Both are physical addresses.
#[must_use]
pub const fn keeps_from(reserved: &Range<u64>, region: &Range<u64>) -> bool {
    let shared = reserved.start < region.end && region.start < reserved.end;
    let contained = region.start <= reserved.start && reserved.end <= region.end;
    shared && !contained
}

#[cfg(test)]
mod tests {
    use super::keeps_from;
    use std::ops::Range;

    fn ranges() -> impl Iterator<Item = Range<u64>> + Clone {
        (0..6).flat_map(|start| (start + 1..=6).map(move |end| start..end))
    }

    #[test]
    fn every_byte_of_a_reserved_range_has_one_owner_and_the_whole_range_the_same() {
        // The kernel's rule, byte by byte: the range is the region's if all of its bytes are.
        for reserved in ranges() {
            for region in ranges() {
                let mut bytes = reserved.clone();
                let regions = bytes.clone().filter(|byte| region.contains(byte)).count();
                let all = bytes.all(|byte| region.contains(&byte));
                assert_eq!(
                    keeps_from(&reserved, &region),
                    regions > 0 && !all,
                    "{reserved:?} and {region:?}"
                );
            }
        }
    }

    #[test]
    fn of_two_regions_at_most_one_has_a_byte_of_a_reserved_range() {
        for reserved in ranges() {
            for (one, other) in
                ranges().flat_map(|one| ranges().map(move |other| (one.clone(), other)))
            {
                if one.end > other.start {
                    continue;
                }
                let has = |region: &Range<u64>| {
                    !keeps_from(&reserved, region)
                        && reserved.clone().any(|byte| region.contains(&byte))
                };
                assert!(
                    !(has(&one) && has(&other)),
                    "{reserved:?}, {one:?}, {other:?}"
                );
            }
        }
    }
}
