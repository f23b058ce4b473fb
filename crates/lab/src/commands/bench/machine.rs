// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine that was measured on: without it no number means anything.

use std::fs;
use std::process::Command;

use lab::Error;
use lab::Lab;
use lab::Result;
use serde::Deserialize;
use serde::Serialize;

/// What the numbers depend on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    /// When, as YYYY-MM-DD.
    pub date: String,
    /// The processor's name.
    pub processor: String,
    /// How many of them.
    pub processors: usize,
    /// Memory, in bytes.
    pub memory: u64,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// QEMU, as it calls itself.
    pub qemu: String,
    /// The guests' kernel.
    pub kernel: String,
    /// How many processes wanted to run, besides ours, before the first guest.
    pub load_before: f64,
    /// The same at the end, our own guests included.
    pub load_after: f64,
}

impl Machine {
    /// Looks at this machine, before it gets busy.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn look(lab: &Lab) -> Result<Self> {
        let cpuinfo = read("/proc/cpuinfo")?;
        let processors: Vec<&str> = fields(&cpuinfo, "model name").collect();
        let meminfo = read("/proc/meminfo")?;
        let memory = fields(&meminfo, "MemTotal")
            .next()
            .and_then(|size| size.split(' ').next()?.parse::<u64>().ok())
            .unwrap_or_default();
        let qemu = lab.tree().qemu();
        Ok(Self {
            date: output("date", &["--utc".into(), "+%F".into()])?,
            processor: processors.first().copied().unwrap_or("unknown").to_owned(),
            processors: processors.len(),
            memory: memory << 10,
            accelerator: lab.accelerator().name().to_owned(),
            qemu: output(&qemu[0], &[&qemu[1..], &["--version".to_owned()]].concat())?,
            kernel: lab.tree().release().to_owned(),
            load_before: load(),
            load_after: 0.0,
        })
    }

    /// Notes whether it stayed as quiet as it was.
    pub fn note_load_at_end(&mut self) {
        self.load_after = load();
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(Error::file("read", path))
}

/// The values of `name : value` lines.
fn fields<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(move |(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// The average over the last minute; nothing where the kernel does not tell.
fn load() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or_default()
}

/// The first line that a program prints.
fn output(program: &str, arguments: &[String]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(Error::file("run", program))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
