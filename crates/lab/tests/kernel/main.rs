// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests on the real kernel, one file for each subject.

mod agent;
mod fault;
mod policy;
mod stock;
mod support;
mod witness;

use std::process::ExitCode;

fn main() -> ExitCode {
    let tests = [agent::tests(), policy::tests(), stock::tests()];
    lab::suite::run(tests.into_iter().flatten().collect())
}
