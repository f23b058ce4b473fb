// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab bench`: the stock drivers and ours side by side, on one machine, in one run.
//!
//! For each device two guests of the same kind are booted, one stock and one with our modules, and asked in turn: whatever
//! slows this machine down for a while slows both. All is booted again for each round, since a guest may be lucky with its
//! memory. Times are taken in the guest, around one `write` call or one program, and udev has settled before each.

mod capacity;
mod device;
mod machine;
mod pair;
mod report;
mod tools;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use lab::Error;
use lab::Lab;
use lab::Result;
use lab::event::Event;
use lab::topology::Topology;
use lab::topology::catalogue;

use super::Voice;
use machine::Machine;
use report::Report;

/// How many rounds there are, each with guests of its own.
const ROUNDS: usize = 2;

/// Where the published numbers are, below the repository.
const PUBLISHED: &str = "docs";
/// Where others are.
const UNPUBLISHED: &str = "target";
/// Every sample, and a table with what it means.
const FILES: [&str; 2] = ["benchmarks.json", "benchmarks.md"];

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// A topology with one memory device, which is measured as a whole; may be given several times. sparse-256g wants
    /// 16 GiB of this machine's memory.
    #[arg(long, value_name = "NAME", default_values = ["one", "sparse-16g", "sparse-64g"])]
    topology: Vec<String>,
    /// How often each step is measured in each round, after one time that does not count; a device of 1 GiB four times
    /// as often, since its steps are short, and one of 256 GiB and more once.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repetitions: u16,
    /// Leave the tools out: cxlr beside cxl.
    #[arg(long)]
    no_tools: bool,
    /// Leave dynamic capacity out.
    #[arg(long)]
    no_capacity: bool,
    /// Put benchmarks.json, which has every sample, and the table benchmarks.md into docs/, and not into target/.
    #[arg(long)]
    write: bool,
}

impl Options {
    /// The devices to measure; a wrong name is told before anything is made.
    ///
    /// # Errors
    /// When a topology does not exist, or has more than one memory device.
    pub fn topologies(&self) -> Result<Vec<Topology>> {
        let one = |name: &String| {
            let topology = catalogue::find(name)?;
            if topology.memory_devices().count() == 1 {
                Ok(topology)
            } else {
                Err(Error::Host {
                    what: format!("'{name}' has not exactly one memory device"),
                    remedy: "choose one of one, sparse-16g, sparse-64g, sparse-256g".into(),
                })
            }
        };
        self.topology.iter().map(one).collect()
    }
}

/// Measures and reports.
///
/// # Errors
/// When the lab fails, or memory did not come or go as it was asked to.
pub fn run(
    lab: &Lab,
    options: &Options,
    topologies: &[Topology],
    voice: &Voice,
) -> Result<ExitCode> {
    let repetitions = usize::from(options.repetitions);
    let mut machine = Machine::look(lab)?;
    let devices = topologies
        .iter()
        .map(|topology| device::measure(lab, topology, repetitions))
        .collect::<Result<_>>()?;
    let tools = if options.no_tools {
        Vec::new()
    } else {
        tools::measure(lab, ROUNDS, repetitions)?
    };
    let capacity = if options.no_capacity {
        Vec::new()
    } else {
        capacity::measure(lab, ROUNDS, repetitions)?
    };
    machine.note_load_at_end();
    let report = Report {
        machine,
        rounds: ROUNDS,
        repetitions,
        devices,
        tools,
        capacity,
    };
    let event = Event::Report {
        name: "bench",
        content: serde_json::json!(report),
    };
    voice.say(&event, report.markdown().trim_end())?;
    let folder = if options.write {
        PUBLISHED
    } else {
        UNPUBLISHED
    };
    let folder = lab::lab::repository().join(folder);
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let [json, markdown] = FILES.map(|name| folder.join(name));
    write(&json, &report.json())?;
    write(&markdown, &report.markdown())?;
    voice.events.emit(&Event::Notice {
        text: format!("every sample is in {}", json.display()),
    });
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}
