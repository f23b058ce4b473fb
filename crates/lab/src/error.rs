// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong in the lab: each error says what was tried, where, and where possible what to do.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::Errno;

/// The lab's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The lab's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: "read", "write"...
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The host lacks something that the lab cannot provide.
    #[error("{what}: {remedy}")]
    Host {
        /// What is missing.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A program on the host could not be run, or failed.
    #[error("{what} failed ({status}){}", tail(log))]
    Program {
        /// What it was to do.
        what: String,
        /// Its exit status, or why it did not start.
        status: String,
        /// All that it printed.
        log: String,
    },
    /// There is no topology of this name.
    #[error("there is no topology '{name}'; there are: {}", known.join(", "))]
    UnknownTopology {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<&'static str>,
    },
    /// A guest ended, or does not answer, although it should.
    #[error("the guest '{topology}' {what}\n--- the end of its console ---\n{console}")]
    Guest {
        /// The topology it ran on.
        topology: String,
        /// What happened.
        what: String,
        /// What it printed last.
        console: String,
    },
    /// The guest's kernel refused something on a file of the guest.
    #[error("cannot {action} in the guest: {errno}")]
    GuestFile {
        /// What was tried on which file.
        action: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {reason}")]
    Qmp {
        /// The QMP command.
        command: &'static str,
        /// Its answer.
        reason: String,
    },
    /// Whoever read what the lab prints has gone.
    #[error("nobody reads the output any more")]
    Unread,
    /// A test's step did not do what it should.
    #[error("{0}")]
    Test(String),
}

impl Error {
    /// For `map_err`: what was tried on which file.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// For `map_err`: writing to where people or programs read.
    #[must_use]
    pub fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Self::Unread
        } else {
            Self::file("write", "the output")(source)
        }
    }

    /// The guest's kernel's answer, where this is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::GuestFile { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// A test's step failed, with this sentence.
    pub fn test(sentence: impl Into<String>) -> Self {
        Self::Test(sentence.into())
    }
}

/// The last lines of a program's log; compilers say what is wrong well before their last line.
fn tail(log: &str) -> String {
    const LINES: usize = 60;
    if log.trim().is_empty() {
        return String::new();
    }
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    format!("; it said:\n{}", lines[from..].join("\n"))
}
