// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses, runs, reports.

use std::process::ExitCode;

use clap::Parser;
use cxlr::cli::Cli;
use cxlr::command;
use cxlr::problem;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_level(false)
        .init();
    match command::run(&cli) {
        Ok(()) => ExitCode::from(problem::OK),
        Err(problem) => {
            eprintln!("cxlr: {problem}");
            ExitCode::from(problem.exit_status())
        }
    }
}
