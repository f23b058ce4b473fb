// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab`: the lab for people.

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::run(commands::Arguments::parse())
}
