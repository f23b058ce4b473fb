// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was measured: numbers as JSON, and a page that says what they mean.

use std::fmt::Write;

use lab::topology::GIB;
use serde::Deserialize;
use serde::Serialize;

use super::machine::Machine;
use super::pair::Versus;

/// A whole run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// How often guests were booted.
    pub rounds: usize,
    /// How often each step was measured in each round.
    pub repetitions: usize,
    /// Whole devices.
    pub devices: Vec<Device>,
    /// Tools.
    pub tools: Vec<Tool>,
}

/// A whole device, through `daxX.Y/state`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Device {
    /// Its size.
    pub bytes: u64,
    /// From `unplugged` to `online_movable`.
    pub online: Versus<Summary>,
    /// And back.
    pub unplug: Versus<Summary>,
}

/// A tool's command.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tool {
    /// What for.
    pub what: String,
    /// The commands.
    pub commands: Versus<String>,
    /// How long they took.
    pub seconds: Versus<Summary>,
    /// How many system calls they made, where they were counted.
    pub system_calls: Option<Versus<u64>>,
}

/// Times of one step, in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// As many were longer as were shorter.
    pub median: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// All, in the order in which they were measured.
    pub samples: Vec<f64>,
}

impl Summary {
    /// Summarizes times. Of none, all is zero.
    pub fn of(samples: &[f64]) -> Self {
        let samples: Vec<f64> = samples
            .iter()
            .map(|seconds| (seconds * 1e6).round() / 1e6)
            .collect();
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let (below, above) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        Self {
            median: f64::midpoint(middle(below), middle(above)),
            min: middle(0),
            max: middle(sorted.len().saturating_sub(1)),
            samples,
        }
    }
}

impl Report {
    /// As JSON.
    pub fn json(&self) -> String {
        // Numbers and strings always have a form in JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// As a page for people.
    pub fn markdown(&self) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_markdown(&mut page);
        page
    }

    fn write_markdown(&self, page: &mut String) -> std::fmt::Result {
        let Machine {
            date,
            processor,
            processors,
            memory,
            accelerator,
            qemu,
            kernel,
            load_before,
            load_after,
        } = &self.machine;
        writeln!(page, "# Benchmarks\n")?;
        writeln!(
            page,
            "`make bench` measures the stock drivers and ours side by side; `cargo run -p lab -- bench --write` makes this page \
             and\n[benchmarks.json](benchmarks.json), which has every sample. Each number is a median, with the smallest and the \
             largest\nbehind it, of {} samples: {} rounds with guests of their own, {} repetitions in each after one that does \
             not count. Stock\nand ours are asked in turn. Times are the guest's monotonic clock around one `write` or one \
             program; udev has settled\nbefore each. After each step the guest's memory is counted.\n",
            self.rounds * self.repetitions,
            self.rounds,
            self.repetitions
        )?;
        writeln!(page, "| measured | |\n|---|---|")?;
        writeln!(page, "| on | {date} |")?;
        writeln!(
            page,
            "| machine | {processors} processors ({processor}), {} GiB |",
            (memory + GIB / 2) / GIB
        )?;
        writeln!(page, "| guests | {qemu}, {accelerator} |")?;
        writeln!(page, "| their kernel | {kernel}, unmodified |")?;
        writeln!(
            page,
            "| load of the machine | {load_before:.1} before, {load_after:.1} at the end with the guests |\n"
        )?;
        if !self.devices.is_empty() {
            self.write_devices(page)?;
        }
        if !self.tools.is_empty() {
            self.write_tools(page)?;
        }
        Ok(())
    }

    fn write_devices(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "## A whole device, through `daxX.Y/state`\n")?;
        writeln!(
            page,
            "The same region in both guests, made by `cxl` under the stock region driver: only `kmem` differs. Online is from\n\
             `unplugged` to `online_movable`; unplug is the way back.\n"
        )?;
        writeln!(
            page,
            "| memory | step | stock kmem | our kmem | stock / ours | stock per GiB | ours per GiB |\n|---:|---|---:|---:|---:|---:|---:|"
        )?;
        for device in &self.devices {
            for (step, times) in [("online", &device.online), ("unplug", &device.unplug)] {
                let gibibytes = device.bytes / GIB;
                let per_gibibyte = times.map(|times| milliseconds(times.median, gibibytes));
                writeln!(
                    page,
                    "| {gibibytes} GiB | {step} | {} | {} | **{:.1}** | {} | {} |",
                    cell(&times.stock),
                    cell(&times.ours),
                    ratio(times),
                    per_gibibyte.stock,
                    per_gibibyte.ours
                )?;
            }
        }
        writeln!(page)
    }

    fn write_tools(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "## The tools\n")?;
        writeln!(
            page,
            "In guests with eight memory devices. Regions are created under the stock drivers by `cxl` and under ours by `cxlr`,\n\
             which also verifies what it did; `cxl` is waited for until the memory is online, since it returns before. Both\n\
             tools list the same machine with one region on it, under the stock drivers.\n"
        )?;
        writeln!(
            page,
            "| what | stock | ours | stock / ours | system calls |\n|---|---:|---:|---:|---:|"
        )?;
        for tool in &self.tools {
            let calls = tool
                .system_calls
                .as_ref()
                .map_or_else(String::new, |calls| {
                    format!("{} and {}", calls.stock, calls.ours)
                });
            writeln!(
                page,
                "| {}: `{}` and `{}` | {} | {} | **{:.1}** | {calls} |",
                tool.what,
                tool.commands.stock,
                tool.commands.ours,
                cell(&tool.seconds.stock),
                cell(&tool.seconds.ours),
                ratio(&tool.seconds)
            )?;
        }
        writeln!(page)
    }
}

/// How many times as long the stock kernel takes.
fn ratio(times: &Versus<Summary>) -> f64 {
    times.stock.median / times.ours.median
}

fn cell(times: &Summary) -> String {
    format!(
        "{} ({} to {})",
        readable(times.median),
        readable(times.min),
        readable(times.max)
    )
}

/// Three digits are what such a measurement is worth.
fn readable(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        0.1..1.0 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{:.1} ms", seconds * 1e3),
    }
}

fn milliseconds(seconds: f64, shares: u64) -> String {
    // Sizes in GiB are far below where this would round.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
    let share = seconds / shares as f64;
    format!("{:.1} ms", share * 1e3)
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn the_median_is_in_the_middle_and_order_is_kept() {
        let summary = Summary::of(&[3.0, 1.0, 2.0]);
        assert!((summary.median, summary.min, summary.max) == (2.0, 1.0, 3.0));
        assert!(summary.samples == [3.0, 1.0, 2.0]);
        let even = Summary::of(&[1.0, 2.0, 4.0, 8.0]);
        assert!((even.median, even.min) == (3.0, 1.0));
    }
}
