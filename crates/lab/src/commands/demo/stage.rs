// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the demo is shown: sentences, commands as they were typed, what the guest answered, and at the end a table.

use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use anstyle::AnsiColor;
use anstyle::Style;
use lab::Error;
use lab::Events;
use lab::Guest;
use lab::Output;
use lab::Result;
use lab::event::Event;
use lab::guest;
use serde::Serialize;

const TITLE: Style = AnsiColor::Cyan.on_default().bold();
const COMMAND: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const QUIET: Style = Style::new().dimmed();

/// Prints words. Nobody may read any more; the demo goes on to its end all the same.
macro_rules! words {
    ($($word:tt)*) => {{ let _ = write!(anstream::stdout(), $($word)*); }};
}

/// Prints words and ends the line.
macro_rules! line {
    ($($word:tt)*) => {{ let _ = writeln!(anstream::stdout(), $($word)*); }};
}

/// The stage. On a terminal it has colours; in a pipe it is plain text.
pub struct Stage {
    /// Only the report is wanted, as an event.
    json: bool,
    events: Events,
    chapters: usize,
    shown: Vec<Shown>,
    compared: Vec<Compared>,
}

/// A promise that was checked in this run.
#[derive(Debug, Serialize)]
struct Shown {
    promise: String,
    measured: String,
    holds: bool,
    seconds: Option<f64>,
}

/// One step on both kernels.
#[derive(Debug, Serialize)]
struct Compared {
    step: String,
    stock: Answer,
    ours: Answer,
}

/// What one kernel did.
#[derive(Debug, Serialize)]
struct Answer {
    told: String,
    seconds: f64,
}

impl From<(String, Duration)> for Answer {
    fn from((told, took): (String, Duration)) -> Self {
        Self {
            told,
            seconds: took.as_secs_f64(),
        }
    }
}

/// A guest, and the prompt that commands in it are shown with.
#[derive(Clone, Copy)]
pub struct Side<'guest> {
    /// Where commands run.
    pub guest: &'guest Guest,
    /// What is shown in front of them.
    pub prompt: &'static str,
}

/// What a command answered, and how long that took as seen from the host.
pub struct Take {
    /// Its output; standard error is in standard output, where it was printed.
    pub output: Output,
    /// How long it took.
    pub took: Duration,
}

impl Take {
    /// What it printed, of a command that must succeed.
    ///
    /// # Errors
    /// When it failed.
    pub fn success(self) -> Result<Self> {
        if self.output.succeeded() {
            return Ok(self);
        }
        Err(Error::test(format!(
            "'{}' failed, but must succeed",
            self.output.command
        )))
    }
}

impl Stage {
    /// An empty stage.
    pub fn new(json: bool, events: &Events) -> Self {
        Self {
            json,
            events: events.clone(),
            chapters: 0,
            shown: Vec::new(),
            compared: Vec::new(),
        }
    }

    /// Begins a chapter.
    pub fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        if !self.json {
            line!("\n{TITLE}{}. {title}{TITLE:#}", self.chapters);
        }
    }

    /// Says why the next step is worth a look.
    pub fn say(&self, sentence: &str) {
        if !self.json {
            line!("\n{sentence}");
        }
    }

    /// Runs a command in a guest, and shows it with what it answers.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn run(&self, side: Side<'_>, command: &str) -> Result<Take> {
        let Side { guest, prompt } = side;
        let started = Instant::now();
        let output = guest.sh(&format!("exec 2>&1; set -o pipefail\n{command}"))?;
        let took = started.elapsed();
        if !self.json {
            line!("  {QUIET}{prompt}{QUIET:#} {COMMAND}{command}{COMMAND:#}");
            for line in output.stdout.lines() {
                // A script names itself and its line in front of what the shell complains about.
                let line = line.strip_prefix("bash: line 2: ").unwrap_or(line);
                line!("  {line}");
            }
            if !output.succeeded() {
                let status = guest::exit_status(&output.end);
                line!("  {QUIET}(exit status {status}){QUIET:#}");
            }
        }
        Ok(Take { output, took })
    }

    /// Notes what was measured about a promise.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn promise(
        &mut self,
        holds: bool,
        promise: &str,
        measured: impl Into<String>,
        took: Option<Duration>,
    ) -> Result<()> {
        let measured = measured.into();
        let broken = Error::test(format!("not so: {promise}; measured: {measured}"));
        self.shown.push(Shown {
            promise: promise.into(),
            measured,
            holds,
            seconds: took.map(|took| took.as_secs_f64()),
        });
        if holds { Ok(()) } else { Err(broken) }
    }

    /// Notes what one step did on both kernels.
    pub fn compare(&mut self, step: &str, stock: (String, Duration), ours: (String, Duration)) {
        self.compared.push(Compared {
            step: step.into(),
            stock: stock.into(),
            ours: ours.into(),
        });
    }

    /// Shows what was shown, in tables or as an event.
    pub fn finish(&self, times: &[(&str, Duration)], evidence: Option<&str>) {
        if self.json {
            let times: serde_json::Map<_, _> = times
                .iter()
                .map(|(what, took)| ((*what).to_owned(), took.as_secs_f64().into()))
                .collect();
            self.events.emit(&Event::Report {
                name: "demo",
                content: serde_json::json!({
                    "shown": self.shown,
                    "compared": self.compared,
                    "seconds": times,
                    "failure": evidence,
                }),
            });
            return;
        }
        line!("\n{TITLE}What was shown, as measured in this run{TITLE:#}\n");
        let promise = width(self.shown.iter().map(|shown| &shown.promise));
        let measured = width(self.shown.iter().map(|shown| &shown.measured));
        for shown in &self.shown {
            if shown.holds {
                words!("  {GOOD}yes{GOOD:#}");
            } else {
                words!("  {BAD}NO {BAD:#}");
            }
            words!("  {:promise$}  ", shown.promise);
            match shown.seconds {
                Some(seconds) => line!("{:measured$}  {seconds:5.1} s", shown.measured),
                None => line!("{}", shown.measured),
            }
        }
        if !self.compared.is_empty() {
            line!("\n{TITLE}The same steps on both kernels{TITLE:#}\n");
            for compared in &self.compared {
                line!("  {COMMAND}{}{COMMAND:#}", compared.step);
                for (kernel, answer) in [("stock", &compared.stock), ("ours", &compared.ours)] {
                    line!("    {kernel:5}  {:4.1} s  {}", answer.seconds, answer.told);
                }
            }
        }
        line!();
        let what = width(times.iter().map(|(what, _)| *what));
        for (name, took) in times {
            line!(
                "  {QUIET}{name:what$}  {:5.1} s{QUIET:#}",
                took.as_secs_f64()
            );
        }
        if let Some(evidence) = evidence {
            line!("\n{BAD}The demo failed.{BAD:#} {evidence}");
        }
    }
}

fn width<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> usize {
    texts
        .map(|text| text.as_ref().chars().count())
        .max()
        .unwrap_or(0)
}
