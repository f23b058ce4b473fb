// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's monitor: a JSON object a line, in both directions. What commands and answers hold is for QEMU to judge, and for
//! those who ask.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Value;
use serde_json::json;

use crate::error::Error;
use crate::error::Result;

/// The line to one QEMU's monitor.
pub struct Monitor(Mutex<Line>);

impl Monitor {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self(Mutex::new(Line {
            socket: BufReader::new(socket),
            negotiated: false,
        }))
    }

    /// Executes a command, and returns what it answers.
    pub(crate) fn execute(&self, command: &'static str, arguments: &Value) -> Result<Value> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        line.execute(command, arguments)
            .map_err(|error| Error::Qmp {
                command,
                reason: error.to_string(),
            })
    }
}

struct Line {
    socket: BufReader<UnixStream>,
    /// Done when the line is first used, since most guests never need it.
    negotiated: bool,
}

impl Line {
    fn execute(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        if !self.negotiated {
            // QEMU greets, and takes nothing before this.
            self.receive()?;
            self.ask("qmp_capabilities", &json!({}))?;
            self.negotiated = true;
        }
        self.ask(command, arguments)
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.socket.get_mut(), "{request}")?;
        // Events come in between.
        loop {
            let mut said = self.receive()?;
            if let Some(answer) = said.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = said.get("error") {
                let reason = error["desc"].as_str().unwrap_or("it does not say why");
                return Err(io::Error::other(reason));
            }
        }
    }

    fn receive(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.socket.read_line(&mut line)? == 0 {
            return Err(io::Error::other("QEMU is gone"));
        }
        Ok(serde_json::from_str(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// A QEMU that greets, and says `answers[n]` to the request of that number.
    fn qemu(answers: &'static [&'static str]) -> (Monitor, thread::JoinHandle<Vec<Value>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let played = thread::spawn(move || {
            let mut theirs = BufReader::new(theirs);
            writeln!(theirs.get_mut(), "{{\"QMP\": {{}}}}").unwrap();
            let mut asked = Vec::new();
            for answer in answers {
                let mut line = String::new();
                theirs.read_line(&mut line).unwrap();
                asked.push(serde_json::from_str(&line).unwrap());
                writeln!(theirs.get_mut(), "{answer}").unwrap();
            }
            asked
        });
        (Monitor::new(ours), played)
    }

    #[test]
    fn events_are_no_answers() {
        let (monitor, played) = qemu(&[
            "{\"return\": {}}",
            "{\"event\": \"RESUME\"}\n{\"return\": {\"running\": true}}",
        ]);
        let status = monitor.execute("query-status", &json!({ "a": 1 })).unwrap();
        assert_eq!(status, json!({ "running": true }));
        let asked = played.join().unwrap();
        assert_eq!(asked[0]["execute"], "qmp_capabilities");
        assert_eq!(
            asked[1],
            json!({ "execute": "query-status", "arguments": { "a": 1 } })
        );
    }

    #[test]
    fn what_is_refused_says_why() {
        let (monitor, _) = qemu(&[
            "{\"return\": {}}",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such device\"}}",
        ]);
        let error = monitor.execute("device_del", &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused device_del: no such device");
    }
}
