// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
#![no_main]

#[allow(dead_code)] // The other target uses the rest.
#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::parsers(bytes));
