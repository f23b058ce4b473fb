// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the text of an attribute to a value. Nothing here opens a file.

use std::cmp::Ordering;

use region_policy::extent::Tag;

/// A number as sysfs prints it: decimal, or hexadecimal behind `0x`.
///
/// ```
/// assert_eq!(cxl_sysfs::text::number("0x10\n"), Some(16));
/// assert_eq!(cxl_sysfs::text::number("2097152\n"), Some(2_097_152));
/// assert_eq!(cxl_sysfs::text::number("many"), None);
/// ```
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => hexadecimal(digits),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// A number that sysfs prints in hexadecimal without a prefix (`block_size_bytes`).
#[must_use]
pub fn hexadecimal(text: &str) -> Option<u64> {
    let text = text.trim();
    // from_str_radix would accept a sign, which no attribute prints.
    if text.starts_with('+') {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// A NUMA node, where the kernel says "none" as `-1`.
///
/// Outer `None`: not a node at all. Inner `None`: no node.
#[must_use]
pub fn node(text: &str) -> Option<Option<u32>> {
    match text.trim() {
        "-1" => Some(None),
        text => number(text)
            .and_then(|node| u32::try_from(node).ok())
            .map(Some),
    }
}

/// A tag, where the kernel says "none" with zeros.
///
/// Outer `None`: not a tag at all. Inner `None`: no tag.
///
/// ```
/// let none = "00000000-0000-0000-0000-000000000000\n";
/// assert_eq!(cxl_sysfs::text::tag(none), Some(None));
/// assert_eq!(cxl_sysfs::text::tag("none"), None);
/// ```
#[must_use]
pub fn tag(text: &str) -> Option<Option<Tag>> {
    const NONE: &str = "00000000-0000-0000-0000-000000000000";
    match text.trim() {
        NONE => Some(None),
        text => Tag::parse(text.as_bytes()).map(Some),
    }
}

/// `0` or `1`.
#[must_use]
pub fn flag(text: &str) -> Option<bool> {
    match text.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// A comma separated list of numbers (`target_list`); an empty line is an empty list.
#[must_use]
pub fn list(text: &str) -> Option<Vec<u32>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',')
        .map(|part| number(part).and_then(|n| u32::try_from(n).ok()))
        .collect()
}

/// The trimmed text, or `None` when the attribute is an empty line (`region`, `targetN`).
#[must_use]
pub fn name(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The number behind a kind's name: `id("mem12", "mem") == Some(12)`.
#[must_use]
pub fn id(name: &str, kind: &str) -> Option<u32> {
    let digits = name.strip_prefix(kind)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The two numbers of `decoder3.0` or `dax0.1`.
#[must_use]
pub fn id_pair(name: &str, kind: &str) -> Option<(u32, u32)> {
    let (first, second) = name.strip_prefix(kind)?.split_once('.')?;
    Some((id(first, "")?, id(second, "")?))
}

/// Orders names as people do: `mem2` before `mem10`, `decoder1.9` before `decoder1.10`.
#[must_use]
pub fn natural_order(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left, right);
    loop {
        match (left.is_empty(), right.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let (left_run, left_rest) = run(left);
        let (right_run, right_rest) = run(right);
        let order = match (left_run.parse::<u64>(), right_run.parse::<u64>()) {
            (Ok(left_number), Ok(right_number)) => left_number
                .cmp(&right_number)
                .then_with(|| left_run.cmp(right_run)),
            _ => left_run.cmp(right_run),
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
}

/// Splits off the longest prefix that is all digits or has no digit.
fn run(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_the_kernel_prints_them() {
        assert_eq!(number("0x0000000020000000\n"), Some(0x2000_0000));
        assert_eq!(number("0xffffffffffffffff\n"), Some(u64::MAX));
        assert_eq!(number("8192\n"), Some(8192));
        assert_eq!(hexadecimal("8000000\n"), Some(128 << 20));
    }

    #[test]
    fn what_is_no_number_is_not_guessed() {
        for text in ["", "0x", "-1", "+1", "1 2", "12k", "0x+1"] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_node_is_not_an_error() {
        assert_eq!(node("-1\n"), Some(None));
        assert_eq!(node("1\n"), Some(Some(1)));
        assert_eq!(node("one"), None);
    }

    #[test]
    fn target_lists_keep_their_order() {
        assert_eq!(list("12,44\n"), Some(vec![12, 44]));
        assert_eq!(list("\n"), Some(vec![]));
        assert_eq!(list("12,\n"), None);
    }

    #[test]
    fn names_split_into_their_numbers() {
        assert_eq!(id("mem12", "mem"), Some(12));
        assert_eq!(id("memory1", "mem"), None);
        assert_eq!(id("mem", "mem"), None);
        assert_eq!(id_pair("decoder3.10", "decoder"), Some((3, 10)));
        assert_eq!(id_pair("decoder3", "decoder"), None);
    }

    #[test]
    fn ten_comes_after_two() {
        let mut names = vec!["mem10", "mem2", "decoder1.10", "decoder1.9", "mem1"];
        names.sort_by(|left, right| natural_order(left, right));
        assert_eq!(
            names,
            ["decoder1.9", "decoder1.10", "mem1", "mem2", "mem10"]
        );
    }

    proptest! {
        #[test]
        fn natural_order_is_an_order(mut names in prop::collection::vec("[a-z]{0,3}[0-9]{0,3}[.]?[0-9]{0,3}", 0..12)) {
            names.sort_by(|left, right| natural_order(left, right));
            for pair in names.windows(2) {
                prop_assert_ne!(natural_order(&pair[0], &pair[1]), Ordering::Greater);
            }
        }

        #[test]
        fn any_number_survives_both_spellings(value: u64) {
            prop_assert_eq!(number(&format!("{value:#x}")), Some(value));
            prop_assert_eq!(number(&format!("{value}")), Some(value));
        }
    }
}
