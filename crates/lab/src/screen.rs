// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows the stream of events to people (on standard error) or to programs (as JSON lines on standard output).

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;

use crate::event::Event;
use crate::event::Sink;

/// How often a step that runs long is mentioned where nothing can be redrawn.
const REMINDER: Duration = Duration::from_secs(10);

/// From when on a test is slow enough that people want to know, in seconds.
const SLOW_TEST: f64 = 5.0;

/// A sink for people: one line that moves for every step under way on a terminal, plain lines elsewhere.
#[must_use]
pub fn for_people() -> Arc<dyn Sink> {
    if std::io::stderr().is_terminal() {
        Arc::new(Terminal::default())
    } else {
        Lines::new()
    }
}

/// A sink for programs.
#[must_use]
pub fn for_programs() -> Arc<dyn Sink> {
    Arc::new(Json)
}

/// What people read about a boot, wherever they read it.
fn sentence(event: &Event) -> Option<String> {
    match event {
        Event::Notice { text } => Some(text.clone()),
        Event::BootStarted {
            topology,
            accelerator,
            ..
        } => Some(format!("booting '{topology}' ({accelerator})")),
        Event::BootEnded { seconds, .. } => Some(format!("the guest is ready ({seconds:.1} s)")),
        Event::TestEnded { test, seconds, .. } if *seconds >= SLOW_TEST => {
            Some(format!("{seconds:.0} s: {test}"))
        }
        _ => None,
    }
}

#[derive(Default)]
struct Terminal {
    bars: MultiProgress,
    steps: Mutex<BTreeMap<u64, (String, ProgressBar)>>,
}

impl Terminal {
    fn say(&self, line: &str) {
        self.bars.suspend(|| eprintln!("{line}"));
    }
}

impl Sink for Terminal {
    fn take(&self, event: &Event) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StepStarted { step, name } => {
                let bar = self.bars.add(ProgressBar::new_spinner());
                if let Ok(style) =
                    ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}")
                {
                    bar.set_style(style);
                }
                bar.set_prefix(name.clone());
                bar.enable_steady_tick(Duration::from_millis(200));
                steps.insert(*step, (name.clone(), bar));
            }
            Event::StepOutput { step, line } => {
                if let Some((_, bar)) = steps.get(step) {
                    bar.set_message(line.clone());
                }
            }
            Event::StepEnded {
                step,
                name,
                success,
                seconds,
            } => {
                if let Some((_, bar)) = steps.remove(step) {
                    bar.finish_and_clear();
                }
                if let Some(line) = ended(name, *success, *seconds) {
                    self.say(&line);
                }
            }
            event => {
                if let Some(line) = sentence(event) {
                    self.say(&line);
                }
            }
        }
    }
}

/// Quick steps that succeed are not worth a line.
fn ended(name: &str, success: bool, seconds: f64) -> Option<String> {
    match (success, seconds) {
        (false, _) => Some(format!("failed: {name} ({seconds:.1} s)")),
        (true, 1.0..) => Some(format!("{name} ({seconds:.1} s)")),
        _ => None,
    }
}

struct Lines {
    steps: Mutex<BTreeMap<u64, (String, Instant, String)>>,
}

impl Lines {
    fn new() -> Arc<Self> {
        let lines = Arc::new(Self {
            steps: Mutex::default(),
        });
        let weak = Arc::downgrade(&lines);
        thread::spawn(move || Self::remind(&weak));
        lines
    }

    fn remind(lines: &Weak<Self>) {
        loop {
            thread::park_timeout(REMINDER);
            let Some(lines) = lines.upgrade() else { return };
            let steps = lines.steps.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, started, line) in steps
                .values()
                .filter(|(_, started, _)| started.elapsed() >= REMINDER)
            {
                let seconds = started.elapsed().as_secs();
                let line: String = line.chars().take(100).collect();
                eprintln!("... {name} ({seconds} s): {line}");
            }
        }
    }
}

impl Sink for Lines {
    fn take(&self, event: &Event) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StepStarted { step, name } => {
                steps.insert(*step, (name.clone(), Instant::now(), String::new()));
            }
            Event::StepOutput { step, line } => {
                if let Some((_, _, last)) = steps.get_mut(step) {
                    last.clone_from(line);
                }
            }
            Event::StepEnded {
                step,
                name,
                success,
                seconds,
            } => {
                steps.remove(step);
                if let Some(line) = ended(name, *success, *seconds) {
                    eprintln!("{line}");
                }
            }
            event => {
                if let Some(line) = sentence(event) {
                    eprintln!("{line}");
                }
            }
        }
    }
}

struct Json;

impl Sink for Json {
    fn take(&self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            // Nobody may read any more; the run goes on to its end all the same.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}
