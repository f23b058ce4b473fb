// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random walks in guests: plays a script, finds the step at which something broke, and makes a failing script short.

use std::time::Duration;

use lab_protocol::KernelRecord;
use lab_protocol::Stream;
use walk::Operation;
use walk::generate;
use walk::generate::Ground;

use crate::error::Result;
use crate::guest;
use crate::guest::Guest;
use crate::kernel_log;
use crate::running::Step;

/// Four memdevs of four blocks each.
pub const TOPOLOGY: &str = "x4";

const MEMDEVS: u8 = 4;
const BLOCKS_OF_A_MEMDEV: u8 = 4;

/// A guest walks no further: memory that its kernel took for good leaves less and less to walk on.
pub const LEG: usize = 600;

/// A step that takes longer hangs.
const HANG: Duration = Duration::from_mins(4);

/// How many of the last lines tell what happened.
const TRACE: usize = 80;

/// How each step is announced, on standard output and in the kernel's log.
const STEP: &str = "step ";

/// A walk: what it began with, and how far it goes.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// The seed of everything that is random.
    pub seed: u64,
    /// How many operations.
    pub steps: usize,
    /// What its regions are made of.
    pub ways: Ways,
}

/// Between how many of the topology's memdevs a region alternates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ways {
    /// Each has a region of its own.
    #[default]
    #[value(name = "1")]
    One,
    /// Two regions of two.
    #[value(name = "2")]
    Two,
    /// One region of all.
    #[value(name = "4")]
    Four,
}

impl Ways {
    /// How many.
    #[must_use]
    pub fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    fn ground(self) -> Ground {
        Ground {
            places: MEMDEVS / self.count(),
            blocks: BLOCKS_OF_A_MEMDEV * self.count(),
        }
    }
}

impl Walk {
    /// A walk with regions of so many `ways`. `CXL_WALK_SEED` and `CXL_WALK_STEPS` may ask for another seed and length.
    #[must_use]
    pub fn from_environment(ways: Ways, seed: u64, steps: usize) -> Self {
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        Self {
            seed: number("CXL_WALK_SEED").unwrap_or(seed),
            steps: number("CXL_WALK_STEPS")
                .and_then(|steps| usize::try_from(steps).ok())
                .unwrap_or(steps),
            ways,
        }
    }

    /// One script for each guest: a leg of the walk.
    pub fn legs(self) -> impl Iterator<Item = Vec<Operation>> {
        let legs = self.steps.div_ceil(LEG);
        (0..legs).map(move |leg| {
            let steps = (self.steps - leg * LEG).min(LEG);
            // Seeds that follow each other make walks that have nothing in common.
            let seed = self.seed.wrapping_add((leg as u64) << 32);
            generate::script(self.ways.ground(), seed, steps)
        })
    }
}

/// How a script ended that did not end well.
#[derive(Debug, Clone)]
pub struct Fall {
    /// The step, counted from 0.
    pub step: usize,
    /// What was broken; the same in every script that fails for the same reason.
    pub promise: String,
    /// How that shows.
    pub evidence: String,
}

impl Fall {
    /// Whether it is the same that is broken.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.promise == other.promise
    }
}

/// Plays a script in a guest; `None` if every promise was kept and the kernel has nothing to complain of.
///
/// # Errors
/// When the walk itself cannot go on, which is no fault of the guest's kernel.
pub fn play(guest: &Guest, ways: Ways, script: &[Operation]) -> Result<Option<Fall>> {
    let from = guest.kernel_log()?.len();
    let running = guest.start(guest::program(&["walk", &ways.count().to_string()]))?;
    let control = running.control();
    let text: Vec<String> = script.iter().map(ToString::to_string).collect();
    let mut trace = String::new();
    let end = control
        .input(text.join("\n").as_bytes())
        .and_then(|()| control.close_input())
        .map_err(|error| guest.broken(&format!("took no script ({error})")))
        .and_then(|()| {
            loop {
                match running.next(Some(HANG))? {
                    Step::Output(Stream::Stdout | Stream::Stderr, data) => {
                        trace.push_str(&String::from_utf8_lossy(&data));
                    }
                    Step::Ended(end) => return Ok(end),
                }
            }
        });
    let fall = |promise: &str, evidence: String| {
        Some(Fall {
            step: steps(&trace).saturating_sub(1),
            promise: promise.to_owned(),
            evidence: format!("{}\n{evidence}", tail(&trace)),
        })
    };
    let end = match end {
        Ok(end) => end,
        Err(error) => return Ok(fall("the machine survives", error.to_string())),
    };
    let log = guest.kernel_log()?;
    let log = log.get(from..).unwrap_or_default();
    if let Some(fall) = complaint(log) {
        return Ok(Some(fall));
    }
    match guest::exit_status(&end) {
        0 => Ok(None),
        1 => {
            let broken = trace
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("broken: "));
            let promise = broken.and_then(|broken| broken.split(':').next());
            Ok(fall(promise.unwrap_or("?"), lines(log)))
        }
        status => Err(guest.broken(&format!(
            "cannot walk: exit status {status}\n{}",
            tail(&trace)
        ))),
    }
}

/// The step during which the kernel first logged what a healthy one would not.
fn complaint(log: &[KernelRecord]) -> Option<Fall> {
    let trouble = kernel_log::trouble(log);
    let first = trouble.first()?;
    let position = log.iter().position(|record| std::ptr::eq(record, *first))?;
    let step = log[..position].iter().rev().find_map(|record| {
        let step = record.text.strip_prefix("walk: step ")?;
        step.split(':').next()?.parse().ok()
    });
    let around = &log[position.saturating_sub(TRACE / 2)..(position + TRACE).min(log.len())];
    Some(Fall {
        step: step.unwrap_or_default(),
        promise: "the kernel has nothing to complain of".into(),
        evidence: lines(around),
    })
}

fn lines(log: &[KernelRecord]) -> String {
    let from = log.len().saturating_sub(2 * TRACE);
    let lines: Vec<String> = log[from..].iter().map(kernel_log::line).collect();
    lines.join("\n")
}

fn steps(trace: &str) -> usize {
    trace.lines().filter(|line| line.starts_with(STEP)).count()
}

fn tail(trace: &str) -> String {
    let lines: Vec<&str> = trace.lines().collect();
    lines[lines.len().saturating_sub(TRACE)..].join("\n")
}
