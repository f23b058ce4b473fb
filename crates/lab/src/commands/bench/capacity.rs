// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long dynamic capacity takes to come and to go: from the fabric's command to usable memory, and from its request to the
//! answer.
//!
//! The commands come from outside the guest, so the clock is this machine's. That memory is usable, and that it went back, is
//! told by `cxlr monitor` in the guest, whose look at the tree is part of each time.

use std::time::Instant;

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Install;
use lab::Lab;
use lab::Result;
use lab::fabric::DcRegion;
use lab::fabric::Extent;
use lab::guest;
use lab::running::Running;
use lab::running::Step;
use lab::topology::MIB;
use lab::topology::catalogue;
use lab_protocol::Stream;
use serde::Deserialize;

use super::pair;
use super::report::Capacity;
use super::report::Summary;

/// The bytes of an extent, and how many come in one offer.
const CASES: [(u64, u64); 4] = [
    (128 * MIB, 1),
    (512 * MIB, 1),
    (1024 * MIB, 1),
    (256 * MIB, 4),
];

/// Measures each case. The first repetition of each round does not count.
///
/// # Errors
/// When memory did not come or go as the fabric wanted.
pub fn measure(lab: &Lab, rounds: usize, repetitions: usize) -> Result<Vec<Capacity>> {
    let mut samples = CASES.map(|_| (Vec::new(), Vec::new()));
    for round in 0..rounds {
        let name = format!("measure dynamic capacity, round {} of {rounds}", round + 1);
        lab.events().step(name, |step| -> Result<()> {
            let topology = catalogue::find("dc")?;
            let guest = lab.boot(Boot::new(topology).modules(Install::Loaded))?;
            guest.sh_ok("cxlr create-region -t dc serial:0x100 --online-type online_movable")?;
            let mut monitor = Monitor::start(&guest)?;
            for repetition in 0..=repetitions {
                for ((bytes, count), (add, release)) in CASES.iter().zip(&mut samples) {
                    let (came, went) = come_and_go(&guest, &mut monitor, *bytes, *count)?;
                    step.line(&format!(
                        "{repetition} of {repetitions}: {count} of {} MiB came in {came:.3} s and went in {went:.3} s",
                        bytes / MIB
                    ));
                    if repetition > 0 {
                        add.push(came);
                        release.push(went);
                    }
                }
            }
            guest.poweroff()
        })?;
    }
    let mut measured = Vec::new();
    for ((bytes, extents), (add, release)) in CASES.iter().zip(&samples) {
        measured.push(Capacity {
            bytes: *bytes,
            extents: *extents,
            add: Summary::of(add),
            release: Summary::of(release),
        });
    }
    Ok(measured)
}

/// Seconds until so many extents of one offer are in use, and until all have gone back.
fn come_and_go(
    guest: &Guest,
    monitor: &mut Monitor<'_>,
    bytes: u64,
    count: u64,
) -> Result<(f64, f64)> {
    let region = DcRegion::new(guest, catalogue::FIRST_SERIAL, 0);
    let extents: Vec<Extent> = (0..count)
        .map(|number| Extent {
            offset: number * bytes,
            length: bytes,
        })
        .collect();
    let before = pair::memory_total(guest)?;
    let started = Instant::now();
    region.add(&extents)?;
    monitor.wait_for(count, |event| event.extent.state == "in use")?;
    let came = started.elapsed().as_secs_f64();
    let gained = pair::memory_total(guest)? - before;
    if gained != bytes * count {
        return Err(Error::test(format!(
            "{gained} bytes of {} are usable, and all extents are in use",
            bytes * count
        )));
    }
    let started = Instant::now();
    region.release(&extents)?;
    monitor.wait_for(count, |event| event.event == "removed")?;
    let went = started.elapsed().as_secs_f64();
    let left = pair::memory_total(guest)? - before;
    if left != 0 {
        return Err(Error::test(format!(
            "{left} bytes are still there, and all extents are gone"
        )));
    }
    Ok((came, went))
}

/// `cxlr monitor` in the guest.
struct Monitor<'g> {
    program: Running<'g>,
    rest: String,
}

/// A line of it.
#[derive(Deserialize)]
struct Line {
    event: String,
    extent: Named,
}

#[derive(Deserialize)]
struct Named {
    state: String,
}

impl<'g> Monitor<'g> {
    fn start(guest: &'g Guest) -> Result<Self> {
        Ok(Self {
            program: guest.start(guest::program(&["cxlr", "--json", "monitor"]))?,
            rest: String::new(),
        })
    }

    /// Waits for so many lines of a kind.
    fn wait_for(&mut self, count: u64, wanted: impl Fn(&Line) -> bool) -> Result<()> {
        let mut seen = 0;
        while seen < count {
            let line = self.next()?;
            seen += u64::from(wanted(&line));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Line> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let parsed = serde_json::from_str(line);
                let parsed =
                    parsed.map_err(|error| Error::test(format!("'{line}' is no event: {error}")));
                self.rest = rest.to_owned();
                return parsed;
            }
            match self.program.next(Some(guest::HANG))? {
                Step::Output(Stream::Stdout, piece) => {
                    self.rest.push_str(&String::from_utf8_lossy(&piece));
                }
                Step::Output(Stream::Stderr, piece) => {
                    return Err(Error::test(String::from_utf8_lossy(&piece)));
                }
                Step::Ended(end) => {
                    return Err(Error::test(format!("cxlr monitor ended: {end:?}")));
                }
            }
        }
    }
}
