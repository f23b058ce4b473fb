// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was measured: numbers as JSON, and a page that says what they mean.

use std::fmt::Write;

use lab::topology::GIB;
use lab::topology::MIB;
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
    /// Dynamic capacity.
    #[serde(default)]
    pub capacity: Vec<Capacity>,
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

/// Extents that come in one offer, and go at one request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Capacity {
    /// Of each.
    pub bytes: u64,
    /// How many.
    pub extents: u64,
    /// From the fabric's command until all of it is usable.
    pub add: Summary,
    /// From the fabric's request until all of it has gone back.
    pub release: Summary,
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
             largest\nbehind it, of {} samples where nothing else is said: {} rounds with guests of their own, {} repetitions in \
             each after one\nthat does not count. Stock and ours are asked in turn. Times are the guest's monotonic clock around \
             one `write` or\none program; udev has settled before each. After each step the guest's memory is counted.\n",
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
            self.write_promises(page)?;
        }
        if !self.tools.is_empty() {
            self.write_tools(page)?;
        }
        if !self.capacity.is_empty() {
            self.write_capacity(page)?;
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
            "| memory | step | stock kmem | our kmem | stock / ours | stock per GiB | ours per GiB | samples |\n|---:|---|---:|---:|---:|---:|---:|---:|"
        )?;
        for device in &self.devices {
            for (step, times) in [("online", &device.online), ("unplug", &device.unplug)] {
                let gibibytes = device.bytes / GIB;
                let share = times.map(|times| readable(per_gibibyte(times, device.bytes)));
                writeln!(
                    page,
                    "| {gibibytes} GiB | {step} | {} | {} | **{:.1}** | {} | {} | {} |",
                    cell(&times.stock),
                    cell(&times.ours),
                    ratio(times),
                    share.stock,
                    share.ours,
                    times.ours.samples.len()
                )?;
            }
        }
        writeln!(page)
    }

    /// What the project promises of these numbers, and whether this run bears it out.
    fn write_promises(&self, page: &mut String) -> std::fmt::Result {
        writeln!(
            page,
            "The stock module's cost per GiB grows with the device: for each block that changes, the kernel looks through all of\n\
             the zone for holes, and there are none to stop at. Ours adds and removes the blocks in an order that keeps a hole\n\
             near the zone's start until the last, so every look ends at once. What is left is work that the kernel does for\n\
             each page and each block, whoever asks: [what a transition costs](architecture.md#what-a-transition-costs).\n"
        )?;
        writeln!(page, "| promise | measured | in this run |\n|---|---:|---|")?;
        for device in &self.devices {
            let gibibytes = device.bytes / GIB;
            for (step, times) in [("online", &device.online), ("unplug", &device.unplug)] {
                let (promise, least) = match gibibytes {
                    64.. => ("at least seven times as fast", 7.0),
                    1 => ("not slower, within 5 %", 0.95),
                    _ => continue,
                };
                let ratio = ratio(times);
                let verdict = verdict(ratio >= least);
                writeln!(
                    page,
                    "| {gibibytes} GiB {step}: {promise} | {ratio:.2} | {verdict} |"
                )?;
            }
        }
        for pair in self.devices.windows(2) {
            let [smaller, larger] = pair else { continue };
            for (step, small, large) in [
                ("online", &smaller.online, &larger.online),
                ("unplug", &smaller.unplug, &larger.unplug),
            ] {
                let growth = per_gibibyte(&large.ours, larger.bytes)
                    / per_gibibyte(&small.ours, smaller.bytes);
                writeln!(
                    page,
                    "| {} GiB {step}: per GiB no dearer than {} GiB, within 20 % | {growth:.2} | {} |",
                    larger.bytes / GIB,
                    smaller.bytes / GIB,
                    verdict(growth <= 1.2)
                )?;
            }
        }
        writeln!(page)
    }

    fn write_capacity(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "## Dynamic capacity\n")?;
        writeln!(
            page,
            "A region over dynamic capacity as system RAM, `online_movable`. It comes: from the fabric's command (QEMU's\n\
             `cxl-add-dynamic-capacity`) until all extents of the offer are in use. It goes: from `cxl-release-dynamic-capacity`\n\
             until all have been given back and the device has its answer. By this machine's clock; `cxlr monitor` tells the\n\
             moment, and is part of it.\n"
        )?;
        writeln!(page, "| extents | it comes | it goes |\n|---:|---:|---:|")?;
        for capacity in &self.capacity {
            writeln!(
                page,
                "| {} of {} MiB | {} | {} |",
                capacity.extents,
                capacity.bytes / MIB,
                cell(&capacity.add),
                cell(&capacity.release)
            )?;
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

/// Seconds for one GiB.
fn per_gibibyte(times: &Summary, bytes: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "sizes of devices have far fewer digits than this would round"
    )]
    let gibibytes = bytes as f64 / GIB as f64;
    times.median / gibibytes
}

fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "does not hold" }
}

#[cfg(test)]
mod tests {
    use super::Report;
    use super::Summary;

    const JSON: &str = include_str!("../../../../../docs/benchmarks.json");
    const PAGE: &str = include_str!("../../../../../docs/benchmarks.md");

    #[test]
    fn the_published_page_says_what_the_published_numbers_say() {
        let report: Report = serde_json::from_str(JSON).unwrap();
        assert_eq!(report.markdown(), PAGE);
    }

    #[test]
    fn the_median_is_in_the_middle_and_order_is_kept() {
        let summary = Summary::of(&[3.0, 1.0, 2.0]);
        assert!((summary.median, summary.min, summary.max) == (2.0, 1.0, 3.0));
        assert!(summary.samples == [3.0, 1.0, 2.0]);
        let even = Summary::of(&[1.0, 2.0, 4.0, 8.0]);
        assert!((even.median, even.min) == (3.0, 1.0));
    }
}
