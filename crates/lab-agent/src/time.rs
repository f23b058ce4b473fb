// SPDX-License-Identifier: MIT OR Apache-2.0
//! `time write FILE VALUE` and `time run PROGRAM…`: how long one `write` call or a whole program takes, in nanoseconds of
//! the guest's monotonic clock.

use std::fs::File;
use std::io;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

/// Writes `value` to `file` in one call, and says how long that call took.
pub fn write(file: &str, value: &str) -> io::Result<()> {
    let mut file = File::options().write(true).open(file)?;
    let started = Instant::now();
    let written = file.write(value.as_bytes());
    let took = started.elapsed();
    written?;
    say(took)
}

/// Runs a program that must succeed, and says how long it took. What it prints on standard output is dropped.
pub fn run(argv: &[&str]) -> io::Result<()> {
    let [program, arguments @ ..] = argv else {
        return Err(io::Error::other("there is no program to run"));
    };
    let started = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()?;
    let took = started.elapsed();
    if !status.success() {
        return Err(io::Error::other(format!("{program}: {status}")));
    }
    say(took)
}

fn say(took: std::time::Duration) -> io::Result<()> {
    writeln!(io::stdout(), "{}", took.as_nanos())
}
