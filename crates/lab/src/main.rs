// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab`: the lab for people.

mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(commands::Arguments::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::from(commands::LAB_FAILED)
        }
    }
}
