// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests on the real kernel, one file for each subject.

mod agent;
mod stock;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [agent::tests(), stock::tests()];
    lab::suite::run(tests.into_iter().flatten().collect())
}
