// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab walk`: a random walk, guest after guest, and a short script of what it fell over.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use lab::Boot;
use lab::Error;
use lab::Install;
use lab::Lab;
use lab::Result;
use lab::event::Event;
use lab::topology::catalogue;
use lab::walk;
use lab::walk::Fall;
use lab::walk::Walk;
use lab::walk::Ways;

use super::Voice;

/// What to walk.
#[derive(clap::Args)]
pub struct Options {
    /// Where everything that is random begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many operations.
    #[arg(long, default_value_t = 2000)]
    steps: usize,
    /// Between how many of the four memdevs each region alternates.
    #[arg(long, value_enum, default_value_t)]
    ways: Ways,
    /// How many guests may be booted to make a failing script short.
    #[arg(long, default_value_t = 40)]
    tries: usize,
    /// Play this script instead of a random one: a line for each operation.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "steps"])]
    script: Option<PathBuf>,
}

/// Walks; the exit status 1 tells that something was broken.
///
/// # Errors
/// When the lab fails, or the script cannot be read.
pub fn run(lab: &Lab, options: &Options, voice: &Voice) -> Result<ExitCode> {
    let say = |line: String| voice.say(&Event::Notice { text: line.clone() }, line);
    let walk = Walk {
        seed: options.seed,
        steps: options.steps,
        ways: options.ways,
    };
    let legs = match &options.script {
        Some(file) => vec![read(file)?],
        None => walk.legs().collect(),
    };
    let started = Instant::now();
    let mut steps = 0;
    for (number, script) in legs.iter().enumerate() {
        let played = Instant::now();
        if let Some(fall) = play(lab, walk.ways, script)? {
            say(format!(
                "seed {} leg {number} step {}: {}\n{}",
                walk.seed, fall.step, fall.promise, fall.evidence
            ))?;
            shorten(lab, walk.ways, script, &fall, options.tries, &say)?;
            return Ok(ExitCode::FAILURE);
        }
        steps += script.len();
        say(format!(
            "seed {} leg {number}: {} steps in {:.0} s, every promise kept",
            walk.seed,
            script.len(),
            played.elapsed().as_secs_f64()
        ))?;
    }
    say(format!(
        "{steps} steps in {:.0} s, every promise kept",
        started.elapsed().as_secs_f64()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn play(lab: &Lab, ways: Ways, script: &[::walk::Operation]) -> Result<Option<Fall>> {
    let boot = Boot::new(catalogue::find(walk::TOPOLOGY)?).modules(Install::Loaded);
    let guest = lab.boot(boot)?;
    let fall = walk::play(&guest, ways, script)?;
    // One that fell may not be able to go by itself.
    if fall.is_none() {
        guest.poweroff()?;
    }
    Ok(fall)
}

fn shorten(
    lab: &Lab,
    ways: Ways,
    script: &[::walk::Operation],
    fall: &Fall,
    tries: usize,
    say: &impl Fn(String) -> Result<()>,
) -> Result<()> {
    let failing = &script[..script.len().min(fall.step + 1)];
    let short = ::walk::shrink::shrink(failing, tries, |script| {
        let again = play(lab, ways, script)?;
        Ok::<bool, Error>(again.is_some_and(|again| again.is_like(fall)))
    })?;
    say(format!(
        "{} of {} steps are enough; 'lab walk --ways {} --script FILE' plays them:",
        short.len(),
        failing.len(),
        ways.count()
    ))?;
    short.iter().try_for_each(|step| say(step.to_string()))
}

fn read(file: &PathBuf) -> Result<Vec<::walk::Operation>> {
    let text = std::fs::read_to_string(file).map_err(Error::file("read", file))?;
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            ::walk::Operation::parse(line)
                .map_err(|error| Error::file("understand", file)(error.into()))
        })
        .collect()
}
