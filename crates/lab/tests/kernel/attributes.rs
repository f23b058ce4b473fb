// SPDX-License-Identifier: MIT OR Apache-2.0
//! `state` and `hotplug` of a dax device: two spellings of one machine, true to the blocks, and notified.

use std::time::Duration;
use std::time::Instant;

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::guest;
use lab::running::Running;
use lab::running::Step;
use lab::suite::Test;
use rustix::io::Errno;

use crate::support::Region;
use crate::support::block_file;
use crate::support::ensure;
use crate::support::loaded;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || loaded("one");
    vec![
        Test::new(
            "attributes: state and hotplug are two spellings of one machine",
            one(),
            two_spellings,
        ),
        Test::new(
            "attributes: what is no word of an attribute is refused and changes nothing",
            one(),
            bad_words,
        ),
        Test::new(
            "attributes: whoever polls them learns of every change, whoever made it",
            one(),
            changes_are_notified,
        ),
    ]
}

fn both_read(guest: &Guest, region: &Region<'_>, state: &str, hotplug: &str) -> Result<()> {
    for (file, wanted) in [(region.state(), state), (region.hotplug(), hotplug)] {
        let found = guest.read(&file)?;
        ensure(
            found == wanted,
            format!("{file} reads '{found}' and should read '{wanted}'"),
        )?;
    }
    Ok(())
}

fn two_spellings(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    both_read(guest, &region, "online_movable", "online_movable")?;
    for (plug, unplug) in [
        (
            (region.state(), "online_movable"),
            (region.hotplug(), "unplug"),
        ),
        (
            (region.hotplug(), "online_movable"),
            (region.state(), "unplugged"),
        ),
        (
            (region.hotplug(), "online_movable\n"),
            (region.hotplug(), "unplug\n"),
        ),
    ] {
        // What is there already may be asked for again.
        for _ in 0..2 {
            guest.write(&unplug.0, unplug.1)?;
            region.assert_all("absent")?;
            both_read(guest, &region, "unplugged", "unplug")?;
        }
        for _ in 0..2 {
            guest.write(&plug.0, plug.1)?;
            region.assert_all("Movable")?;
            both_read(guest, &region, "online_movable", "online_movable")?;
        }
    }
    // They tell what the blocks are, not what was written last.
    let blocks = region.blocks()?;
    guest.write(&block_file(blocks[2]), "offline")?;
    both_read(guest, &region, "mixed", "mixed")?;
    for block in blocks.iter().filter(|block| **block != blocks[2]) {
        guest.write(&block_file(*block), "offline")?;
    }
    both_read(guest, &region, "offline", "offline")?;
    for block in &blocks {
        guest.write(&block_file(*block), "online_movable")?;
    }
    both_read(guest, &region, "online_movable", "online_movable")?;
    region.destroy()
}

fn bad_words(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let of_neither = [
        "\n",
        "mixed",
        "invalid",
        "ONLINE",
        "online_movable ",
        " unplug",
        "online_movable\n\n",
        "onlin",
        "0",
    ];
    for state in ["online_movable", "unplugged"] {
        guest.write(&region.state(), state)?;
        let before = region.zones()?;
        let of_state = of_neither.iter().chain(&["unplug", "offline"]);
        let of_hotplug = of_neither
            .iter()
            .chain(&["unplugged", "online_kernel", "offline"]);
        let words = of_state
            .map(|word| (region.state(), word))
            .chain(of_hotplug.map(|word| (region.hotplug(), word)));
        for (file, word) in words {
            guest.write_refused(&file, word, Errno::INVAL)?;
            ensure(
                guest.read(&region.state())? == state,
                format!("'{word}' changed the state"),
            )?;
        }
        ensure(region.zones()? == before, "a bad word changed a block")?;
    }
    region.destroy()
}

/// Somebody who polls an attribute.
struct Poller<'g> {
    file: String,
    running: Running<'g>,
    unread: Vec<u8>,
}

impl<'g> Poller<'g> {
    /// Polls from now on; what the attribute reads now is seen first.
    fn start(guest: &'g Guest, file: String, first: &str) -> Result<Self> {
        let running = guest.start(guest::program(&["/init", "poll", &file]))?;
        let mut poller = Self {
            file,
            running,
            unread: Vec::new(),
        };
        poller.expect(first)?;
        Ok(poller)
    }

    /// Waits until it is notified and reads `wanted`. Notifications may come closer together than it can read.
    fn expect(&mut self, wanted: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut seen = Vec::new();
        loop {
            while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if line == wanted {
                    return Ok(());
                }
                seen.push(line);
            }
            let file = &self.file;
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.running.next(Some(remaining)) {
                Ok(Step::Output(_, data)) => self.unread.extend(data),
                Ok(Step::Ended(end)) => {
                    return Err(Error::test(format!("polling {file} ended: {end:?}")));
                }
                Err(error) => {
                    return Err(Error::test(format!(
                        "who polled {file} saw {seen:?} and never '{wanted}': {error}"
                    )));
                }
            }
        }
    }

    fn stop(self) -> Result<()> {
        let gone = |error| Error::test(format!("the guest is gone: {error}"));
        self.running.control().signal(15).map_err(gone)?;
        self.running.output(guest::HANG).map(drop)
    }
}

fn changes_are_notified(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let block = region.blocks()?[3];
    let mut state = Poller::start(guest, region.state(), "online_movable")?;
    let mut hotplug = Poller::start(guest, region.hotplug(), "online_movable")?;
    let changes = [
        (block_file(block), "offline", "mixed", "mixed"),
        (
            block_file(block),
            "online_movable",
            "online_movable",
            "online_movable",
        ),
        (region.state(), "unplugged", "unplugged", "unplug"),
        (
            region.hotplug(),
            "online_movable",
            "online_movable",
            "online_movable",
        ),
        (block_file(block), "offline", "mixed", "mixed"),
        (
            region.state(),
            "online_movable",
            "online_movable",
            "online_movable",
        ),
        (region.hotplug(), "unplug", "unplugged", "unplug"),
    ];
    for (file, word, state_after, hotplug_after) in changes {
        guest.write(&file, word)?;
        state.expect(state_after)?;
        hotplug.expect(hotplug_after)?;
    }
    state.stop()?;
    hotplug.stop()?;
    region.destroy()
}
