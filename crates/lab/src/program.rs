// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs programs on the host as parts of a step: every line is an event, and a failure carries all of them.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Command;
use std::process::Stdio;

use crate::error::Error;
use crate::error::Result;
use crate::event::Step;

/// Runs `command` to its end and returns what it printed, standard error included. Its standard input is a pipe that
/// stays open while it runs and closes when the lab ends, however that happens.
///
/// # Errors
/// When it does not start, or ends with a status other than 0.
pub fn run(step: &Step, what: &str, mut command: Command) -> Result<String> {
    let failed = |status: String, log: String| Error::Program {
        what: what.to_owned(),
        status,
        log,
    };
    let (reader, writer) =
        std::io::pipe().map_err(|error| failed(error.to_string(), String::new()))?;
    let output = writer
        .try_clone()
        .map_err(|error| failed(error.to_string(), String::new()))?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(writer)
        .stderr(output)
        .spawn()
        .map_err(|error| {
            failed(
                format!("{}: {error}", command.get_program().display()),
                String::new(),
            )
        })?;
    // The command still holds the pipe's writing end, and the reader would wait for it for ever.
    drop(command);
    let lifeline = child.stdin.take();
    let mut log = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        step.line(line);
        log.push_str(line);
        log.push('\n');
    }
    let status = child
        .wait()
        .map_err(|error| failed(error.to_string(), String::new()))?;
    drop(lifeline);
    if status.success() {
        Ok(log)
    } else {
        Err(failed(status.to_string(), log))
    }
}
