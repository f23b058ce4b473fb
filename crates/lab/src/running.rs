// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program that runs in a guest.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

use lab_protocol::CHUNK;
use lab_protocol::End;
use lab_protocol::Message;
use lab_protocol::Request;
use lab_protocol::Stream;
use lab_protocol::TerminalSize;

use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::guest;
use crate::guest::Guest;
use crate::link::Link;

/// A program that was started and has not been seen to end.
pub struct Running<'guest> {
    guest: &'guest Guest,
    id: u64,
    argv: Vec<String>,
    messages: Receiver<Message>,
    started: Instant,
}

/// What a running program does next.
#[derive(Debug)]
pub enum Step {
    /// It wrote something.
    Output(Stream, Vec<u8>),
    /// It ended.
    Ended(End),
}

impl<'guest> Running<'guest> {
    pub(crate) fn new(
        guest: &'guest Guest,
        id: u64,
        argv: Vec<String>,
        messages: Receiver<Message>,
    ) -> Self {
        Self {
            guest,
            id,
            argv,
            messages,
            started: Instant::now(),
        }
    }

    /// Waits for what it does next; without a deadline as long as it takes.
    ///
    /// # Errors
    /// When the guest ends, or nothing happens until the deadline.
    pub fn next(&self, deadline: Option<Duration>) -> Result<Step> {
        let message = match deadline {
            None => self
                .messages
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.messages.recv_timeout(deadline),
        };
        let message = message.map_err(|error| {
            let command = self.argv.join(" ");
            self.guest.broken(&match error {
                RecvTimeoutError::Timeout => format!(
                    "hangs: no end of '{command}' after {:?}",
                    self.started.elapsed()
                ),
                RecvTimeoutError::Disconnected => format!("was running '{command}'"),
            })
        })?;
        match message {
            Message::Output(_, stream, data) => {
                self.guest.events().emit(&Event::CommandOutput {
                    guest: self.guest.id(),
                    command: self.id,
                    stream,
                    text: String::from_utf8_lossy(&data).into_owned(),
                });
                Ok(Step::Output(stream, data))
            }
            Message::Ended(_, end) => {
                self.guest.events().emit(&Event::CommandEnded {
                    guest: self.guest.id(),
                    command: self.id,
                    end: end.clone(),
                    seconds: guest::since(self.started),
                });
                Ok(Step::Ended(end))
            }
            other => Err(self
                .guest
                .broken(&format!("answered a command with {other:?}"))),
        }
    }

    /// Collects its output until it ends.
    ///
    /// # Errors
    /// When the guest ends, or the program has not ended before the deadline.
    pub fn output(self, deadline: Duration) -> Result<Output> {
        let end = self.started + deadline;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let remaining = end.saturating_duration_since(Instant::now());
            match self.next(Some(remaining))? {
                Step::Output(Stream::Stdout, data) => stdout.extend(data),
                Step::Output(Stream::Stderr, data) => stderr.extend(data),
                Step::Ended(end) => {
                    return Ok(Output {
                        command: self.argv.join(" "),
                        end,
                        stdout: String::from_utf8_lossy(&stdout).into_owned(),
                        stderr: String::from_utf8_lossy(&stderr).into_owned(),
                    });
                }
            }
        }
    }

    /// The hold on its input, for another thread.
    #[must_use]
    pub fn control(&self) -> Control {
        Control {
            link: self.guest.link().clone(),
            id: self.id,
        }
    }
}

/// Feeds and signals a running program. Errors mean that the guest is gone.
#[derive(Clone)]
pub struct Control {
    link: Arc<Link>,
    id: u64,
}

impl Control {
    /// Writes to its standard input.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn input(&self, data: &[u8]) -> io::Result<()> {
        // An empty piece would close it.
        data.chunks(CHUNK)
            .try_for_each(|piece| self.link.send(&Request::Input(self.id, piece.to_vec())))
    }

    /// Closes its standard input.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn close_input(&self) -> io::Result<()> {
        self.link.send(&Request::Input(self.id, Vec::new()))
    }

    /// Sends a signal to it and to what it started.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.link.send(&Request::Signal(self.id, signal))
    }

    /// Tells its terminal a new size.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn resize(&self, size: TerminalSize) -> io::Result<()> {
        self.link.send(&Request::Resize(self.id, size))
    }
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The program and its arguments.
    pub command: String,
    /// How it ended.
    pub end: End,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with status 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.end == End::Exited(0)
    }

    /// What it wrote to standard output.
    ///
    /// # Errors
    /// When it failed: with all that it wrote.
    pub fn success(self) -> Result<String> {
        if self.succeeded() {
            Ok(self.stdout)
        } else {
            Err(Error::test(self.describe("failed")))
        }
    }

    /// What it wrote to standard error.
    ///
    /// # Errors
    /// When it did not fail: with all that it wrote.
    pub fn failure(self) -> Result<String> {
        if self.succeeded() {
            Err(Error::test(self.describe("succeeded, but must fail")))
        } else {
            Ok(self.stderr)
        }
    }

    fn describe(&self, verdict: &str) -> String {
        format!(
            "'{}' {verdict} ({:?})\n--- standard output ---\n{}\n--- standard error ---\n{}",
            self.command,
            self.end,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}
