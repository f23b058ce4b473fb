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

/// How often work that takes long is mentioned where nothing can be redrawn.
const REMINDER: Duration = Duration::from_secs(10);

/// From when on a test is slow enough that people want to know, in seconds.
const SLOW_TEST: f64 = 5.0;

/// A sink for people: one line that moves for all work under way on a terminal, plain lines elsewhere.
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

/// A sink that never redraws, for where something else prints in between.
#[must_use]
pub fn in_lines() -> Arc<dyn Sink> {
    Lines::new()
}

/// Something that takes time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Step(u64),
    Boot(u64),
    Test(String),
}

/// What an event means for work that is under way.
enum Change<'event> {
    Begins(Work, String),
    Says(Work, &'event str),
    Ends(Work),
}

fn change(event: &Event) -> Option<Change<'_>> {
    Some(match event {
        Event::StepStarted { step, name } => Change::Begins(Work::Step(*step), name.clone()),
        Event::StepOutput { step, line } => Change::Says(Work::Step(*step), line),
        Event::StepEnded { step, .. } => Change::Ends(Work::Step(*step)),
        Event::BootStarted {
            guest, topology, ..
        } => Change::Begins(Work::Boot(*guest), format!("boot '{topology}'")),
        Event::Kernel { guest, record } => Change::Says(Work::Boot(*guest), &record.text),
        Event::BootEnded { guest, .. } | Event::GuestEnded { guest } => {
            Change::Ends(Work::Boot(*guest))
        }
        Event::TestStarted { test, .. } => {
            Change::Begins(Work::Test(test.clone()), format!("test {test}"))
        }
        Event::TestEnded { test, .. } => Change::Ends(Work::Test(test.clone())),
        _ => return None,
    })
}

/// What people read about an event, wherever they read it.
fn sentence(event: &Event) -> Option<String> {
    match event {
        Event::Notice { text } => Some(text.clone()),
        Event::Failed { error } => Some(format!("lab: {error}")),
        Event::StepEnded {
            name,
            success: false,
            seconds,
            ..
        } => Some(format!("failed: {name} ({seconds:.1} s)")),
        // Quick steps that succeed are not worth a line.
        Event::StepEnded { name, seconds, .. } if *seconds >= 1.0 => {
            Some(format!("{name} ({seconds:.1} s)"))
        }
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

/// Nobody may read any more; the work goes on to its end all the same.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[derive(Default)]
struct Terminal {
    bars: MultiProgress,
    works: Mutex<BTreeMap<Work, ProgressBar>>,
}

impl Terminal {
    fn begin(&self, name: String) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(name);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

impl Sink for Terminal {
    fn take(&self, event: &Event) {
        let mut works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
        match change(event) {
            Some(Change::Begins(work, name)) => {
                works.insert(work, self.begin(name));
            }
            Some(Change::Says(work, line)) => {
                if let Some(bar) = works.get(&work) {
                    bar.set_message(line.to_owned());
                }
            }
            Some(Change::Ends(work)) => {
                if let Some(bar) = works.remove(&work) {
                    bar.finish_and_clear();
                }
            }
            None => {}
        }
        if let Some(line) = sentence(event) {
            self.bars.suspend(|| tell(&line));
        }
    }
}

/// Work that is under way where nothing can be redrawn.
struct UnderWay {
    name: String,
    started: Instant,
    line: String,
}

struct Lines {
    works: Mutex<BTreeMap<Work, UnderWay>>,
}

impl Lines {
    fn new() -> Arc<Self> {
        let lines = Arc::new(Self {
            works: Mutex::default(),
        });
        let weak = Arc::downgrade(&lines);
        thread::spawn(move || Self::remind(&weak));
        lines
    }

    fn remind(lines: &Weak<Self>) {
        loop {
            thread::park_timeout(REMINDER);
            let Some(lines) = lines.upgrade() else { return };
            let works = lines.works.lock().unwrap_or_else(PoisonError::into_inner);
            for work in works
                .values()
                .filter(|work| work.started.elapsed() >= REMINDER)
            {
                let seconds = work.started.elapsed().as_secs();
                let line: String = work.line.chars().take(100).collect();
                tell(format!("... {} ({seconds} s): {line}", work.name).trim_end_matches(": "));
            }
        }
    }
}

impl Sink for Lines {
    fn take(&self, event: &Event) {
        let mut works = self.works.lock().unwrap_or_else(PoisonError::into_inner);
        match change(event) {
            Some(Change::Begins(work, name)) => {
                works.insert(
                    work,
                    UnderWay {
                        name,
                        started: Instant::now(),
                        line: String::new(),
                    },
                );
            }
            Some(Change::Says(work, line)) => {
                if let Some(work) = works.get_mut(&work) {
                    line.clone_into(&mut work.line);
                }
            }
            Some(Change::Ends(work)) => {
                works.remove(&work);
            }
            None => {}
        }
        if let Some(line) = sentence(event) {
            tell(&line);
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
