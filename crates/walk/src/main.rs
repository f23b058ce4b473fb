// SPDX-License-Identifier: MIT OR Apache-2.0
//! `walk WAYS`: plays the script that comes on standard input on the machine that it runs on, with so many memdevs to each
//! region, and ends at the first broken promise.
//!
//! Each step is one line on standard output: its number, its operation, what came of it. A broken promise is one line more,
//! with what there was before and after it, and the exit status 1.

mod eyes;
mod hands;
mod home;

use std::env;
use std::fs;
use std::io;
use std::io::Write;
use std::num::NonZeroU8;
use std::process::ExitCode;

use walk::Operation;
use walk::Scene;
use walk::operation::Answer;
use walk::promise::Judge;
use walk::promise::Step;

use eyes::Eyes;
use hands::Hands;

fn main() -> ExitCode {
    match play() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("walk: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all promises were kept.
fn play() -> Result<bool, Box<dyn std::error::Error>> {
    let script: Vec<Operation> = io::read_to_string(io::stdin())?
        .lines()
        .map(Operation::parse)
        .collect::<Result<_, _>>()?;
    let ways: NonZeroU8 = env::args().nth(1).ok_or("how many memdevs?")?.parse()?;
    let mut eyes = Eyes::open(usize::from(ways.get()))?;
    let mut hands = Hands::new()?;
    let mut judge = Judge::default();
    let mut before = eyes.look(&mut hands)?;
    for (number, operation) in script.iter().enumerate() {
        let line = format!("step {number}: {operation}");
        // In the kernel's log, too: what it complains of belongs to a step. It takes no long lines.
        fs::write("/dev/kmsg", format!("walk: {line:.200}\n"))?;
        say(&line)?;
        let answer = match operation {
            Operation::GoHome => {
                if let Err(broken) = home::go(&mut eyes, &mut hands)? {
                    say(&format!("broken: {broken}"))?;
                    return Ok(false);
                }
                Answer::Done
            }
            other if kills_under_stock_drivers(other, &before) => Answer::Absent,
            other => hands.perform(other, &eyes)?,
        };
        let after = eyes.look(&mut hands)?;
        say(&format!("  {answer}"))?;
        let step = Step {
            operation,
            answer: &answer,
            disturbed: false,
        };
        if let Err(broken) = judge.judge(&before, step, &after) {
            say(&format!(
                "broken: {broken}\n  before: {before:?}\n  after: {after:?}"
            ))?;
            return Ok(false);
        }
        before = after;
    }
    Ok(true)
}

/// That a region driver locks the decoders under its memory is a promise, and judged.
fn kills_under_stock_drivers(operation: &Operation, before: &Scene) -> bool {
    (0..).zip(&before.places).any(|(place, spot)| {
        let locked = spot.region.as_ref().is_some_and(|region| region.locked);
        operation.tears_decoders_of(place) && !locked && spot.counts().online() > 0
    })
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
