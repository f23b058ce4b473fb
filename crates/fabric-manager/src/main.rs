// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;
use fabric_manager::Manager;
use fabric_manager::Result;
use fabric_manager::manager::Piece;
use fabric_manager::switch::Switch;
use region_policy::extent::Tag;
use serde_json::json;

/// Gives the dynamic capacity of a device behind a switch to this host, and asks it back
///
/// What another machine does in a data centre: the commands go to the device through the mailbox of its switch (CXL 3.1,
/// 7.6.7.6). For tests, since nobody manages the fabric that he lives on.
#[derive(Debug, Parser)]
#[command(name = "fabric-manager", version)]
struct Cli {
    /// The switch's function that takes commands, as 0000:0d:00.1 [default: the first there is]
    #[arg(long)]
    switch: Option<String>,

    /// The downstream port that the device is behind
    #[arg(long, default_value_t = 0)]
    port: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the device's dynamic capacity regions, as JSON
    Regions,
    /// Show the extents that the host has, as JSON
    Extents,
    /// Offer extents to the host, as one group
    Add(Extents),
    /// Ask the host for extents back
    Release {
        #[command(flatten)]
        extents: Extents,
        /// Take them, whether the host gives them back or not
        #[arg(long)]
        forced: bool,
    },
}

/// Some extents of a region.
#[derive(Debug, clap::Args)]
struct Extents {
    /// The number of the device's dynamic capacity region
    region: u8,

    /// With which other extents they belong together
    #[arg(long, value_parser = tag)]
    tag: Option<Tag>,

    /// From the beginning of the region, in bytes, with a place in a shared sequence where they have one
    #[arg(required = true, value_parser = piece, value_name = "OFFSET+LENGTH[#SEQUENCE]")]
    pieces: Vec<Piece>,
}

fn tag(text: &str) -> std::result::Result<Tag, &'static str> {
    Tag::parse(text.as_bytes())
        .ok_or("a tag looks like 5be13bce-ae34-4a77-b6c3-16df975fcf1a, and is not all zeros")
}

fn piece(text: &str) -> std::result::Result<Piece, &'static str> {
    let parse = || {
        let (range, sequence) = match text.split_once('#') {
            Some((range, sequence)) => (range, sequence.parse().ok()?),
            None => (text, 0),
        };
        let (offset, length) = range.split_once('+')?;
        Some(Piece {
            offset: number(offset)?,
            length: number(length)?,
            sequence,
        })
    };
    parse().ok_or("an extent looks like 0x10000000+0x8000000 or 0+134217728#1")
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fabric-manager: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let manager = Manager::new(Switch::open(cli.switch.as_deref())?, cli.port)?;
    match &cli.command {
        Command::Regions => println!("{}", json!(manager.regions()?)),
        Command::Extents => {
            let extents: Vec<_> = manager
                .extents()?
                .iter()
                .map(|extent| {
                    json!({
                        "dpa": extent.span.start(),
                        "length": extent.span.length(),
                        "tag": extent.tag.map(|tag| tag.to_string()),
                        "sequence": extent.sequence,
                    })
                })
                .collect();
            println!("{}", json!(extents));
        }
        Command::Add(add) => manager.add(add.region, add.tag, &add.pieces)?,
        Command::Release { extents, forced } => {
            manager.release(extents.region, extents.tag, &extents.pieces, *forced)?;
        }
    }
    Ok(())
}
