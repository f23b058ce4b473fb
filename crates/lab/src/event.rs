// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one stream of typed events that the lab emits; the screen, `--json` and the tests consume it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use lab_protocol::End;
use lab_protocol::KernelRecord;
use lab_protocol::Stream;
use serde::Serialize;

use crate::topology::Topology;

/// Something that happened. Times are seconds.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Something a user should know.
    Notice {
        /// One sentence.
        text: String,
    },
    /// A step that may take long has begun.
    StepStarted {
        /// Ties the events of one step together.
        step: u64,
        /// What is being done.
        name: String,
    },
    /// A step's program printed a line.
    StepOutput {
        /// Of which step.
        step: u64,
        /// The line, without its end.
        line: String,
    },
    /// A step has ended.
    StepEnded {
        /// Which step.
        step: u64,
        /// What was done.
        name: String,
        /// Whether it succeeded.
        success: bool,
        /// How long it took.
        seconds: f64,
    },
    /// A guest is being started.
    BootStarted {
        /// Ties the events of one guest together.
        guest: u64,
        /// The topology's name.
        topology: String,
        /// `kvm` or `tcg`.
        accelerator: String,
    },
    /// A guest is ready: hardware enumerated, nothing pending.
    BootEnded {
        /// Which guest.
        guest: u64,
        /// How long it took.
        seconds: f64,
    },
    /// A program was started in a guest.
    CommandStarted {
        /// In which guest.
        guest: u64,
        /// Ties the events of one program together.
        command: u64,
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// A program in a guest wrote something.
    CommandOutput {
        /// In which guest.
        guest: u64,
        /// Which program.
        command: u64,
        /// To which of its outputs.
        stream: Stream,
        /// What; bytes that are not UTF-8 are replaced.
        text: String,
    },
    /// A program in a guest ended.
    CommandEnded {
        /// In which guest.
        guest: u64,
        /// Which program.
        command: u64,
        /// How.
        end: End,
        /// How long it ran.
        seconds: f64,
    },
    /// A guest's kernel logged something.
    Kernel {
        /// Which guest.
        guest: u64,
        /// What.
        record: KernelRecord,
    },
    /// A guest is gone.
    GuestEnded {
        /// Which guest.
        guest: u64,
    },
    /// A topology that there is.
    Topology {
        /// All of it.
        topology: Box<Topology>,
    },
    /// A kernel module that is built.
    Module {
        /// Its file.
        path: PathBuf,
    },
    /// What a demo or a benchmark found.
    Report {
        /// Which of the two.
        name: &'static str,
        /// All of it.
        content: serde_json::Value,
    },
    /// The lab failed; nothing comes after this.
    Failed {
        /// As people read it.
        error: String,
    },
    /// A test on the real kernel has begun.
    TestStarted {
        /// Its name.
        test: String,
        /// The guest it runs in.
        guest: u64,
    },
    /// A test on the real kernel has ended.
    TestEnded {
        /// Its name.
        test: String,
        /// What failed, with the evidence.
        failure: Option<String>,
        /// How long it took, without the boot.
        seconds: f64,
    },
}

/// Who is told of events. Called from several threads.
pub trait Sink: Send + Sync {
    /// Takes notice of `event`.
    fn take(&self, event: &Event);
}

/// The way into the stream; clones lead to the same place.
#[derive(Clone)]
pub struct Events {
    sink: Arc<dyn Sink>,
    steps: Arc<AtomicU64>,
}

impl Events {
    /// A stream that ends in `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink,
            steps: Arc::default(),
        }
    }

    /// Emits `event`.
    pub fn emit(&self, event: &Event) {
        self.sink.take(event);
    }

    /// Tells the user something, in one sentence.
    pub fn notice(&self, text: impl Into<String>) {
        self.emit(&Event::Notice { text: text.into() });
    }

    /// Runs `action` as a step.
    ///
    /// # Errors
    /// What `action` answers.
    pub fn step<T, E>(
        &self,
        name: impl Into<String>,
        action: impl FnOnce(&Step) -> Result<T, E>,
    ) -> Result<T, E> {
        let step = Step {
            events: self.clone(),
            id: self.steps.fetch_add(1, Ordering::Relaxed),
        };
        let name = name.into();
        self.emit(&Event::StepStarted {
            step: step.id,
            name: name.clone(),
        });
        let started = Instant::now();
        let result = action(&step);
        self.emit(&Event::StepEnded {
            step: step.id,
            name,
            success: result.is_ok(),
            seconds: seconds(started.elapsed()),
        });
        result
    }
}

/// A step that is under way.
pub struct Step {
    events: Events,
    id: u64,
}

impl Step {
    /// Tells what the step's program printed.
    pub fn line(&self, line: &str) {
        self.events.emit(&Event::StepOutput {
            step: self.id,
            line: line.to_owned(),
        });
    }
}

/// A duration as events carry it: to the millisecond.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
