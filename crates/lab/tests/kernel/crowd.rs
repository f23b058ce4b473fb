// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many write to the files of a region at once, each as fast as it can: no block ever is where it may not be, nothing
//! breaks, and afterwards the region is whole and can be taken down.
//!
//! `CXL_CROWD_SECONDS` tells how long they go on, and `CXL_CROWD_SEED` what they draw their words with.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::guest;
use lab::suite::Test;
use lab_protocol::End;

use crate::data::Data;
use crate::support::DRIVERS;
use crate::support::Region;
use crate::support::block_file;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::number;
use crate::support::total_memory;
use crate::ways;
use crate::witness::Witness;
use crate::witness::zones_entered;

/// For how many seconds they write, where nobody tells.
const SECONDS: u64 = 8;

/// How often they are let loose at most until something of what each writes was taken.
const ROUNDS: u64 = 5;

/// Who writes to single blocks.
const BLOCKS: &str = "blocks";

/// The node of the region's memory.
const NODE: u32 = 1;

const SYSRAM: &str = "cxl_sysram_region";

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "crowd: many write state, hotplug, online_type, blocks, bind and unbind at once, and the region ends up whole",
        loaded("one-hdm"),
        files,
    )]
}

/// Somebody who writes words to files, each drawn anew, and counts what was taken.
struct Writer {
    /// Who it is, in a failure.
    name: &'static str,
    files: Vec<String>,
    words: &'static [&'static str],
}

impl Writer {
    fn new(name: &'static str, files: Vec<String>, words: &'static [&'static str]) -> Self {
        Self { name, files, words }
    }

    fn script(&self, seconds: u64, seed: u64) -> String {
        let quoted: Vec<String> = self.words.iter().map(|word| format!("'{word}'")).collect();
        format!(
            "RANDOM={seed}; end=$((SECONDS + {seconds})); files=({}); words=({}); taken=0; \
             mkfifo /tmp/idle$$; exec {{idle}}<> /tmp/idle$$; rm /tmp/idle$$; \
             while ((SECONDS < end)); do \
             echo \"${{words[RANDOM % ${{#words[@]}}]}}\" > ${{files[RANDOM % ${{#files[@]}}]}} && taken=$((taken + 1)); \
             read -rt 0.0$((RANDOM % 5)) -u $idle; \
             done 2> /dev/null; echo $taken",
            self.files.join(" "),
            quoted.join(" ")
        )
    }
}

/// For how many seconds they write.
fn seconds() -> Result<u64> {
    number("CXL_CROWD_SECONDS", SECONDS)
}

/// Lets all of them loose, and waits for their end, until something of what each writes was taken: whose files are
/// there when he writes is up to the others.
fn let_loose(guest: &Guest, writers: &[Writer]) -> Result<()> {
    let seed = number("CXL_CROWD_SEED", 1)?;
    let mut idle: Vec<&str> = Vec::new();
    let mut taken = vec![0; writers.len()];
    for round in 0..ROUNDS {
        for (sum, more) in taken
            .iter_mut()
            .zip(write(guest, writers, seed + 100 * round)?)
        {
            *sum += more;
        }
        let without = writers.iter().zip(&taken).filter(|(_, sum)| **sum == 0);
        idle = without.map(|(writer, _)| writer.name).collect();
        if idle.is_empty() {
            break;
        }
    }
    ensure(
        idle.is_empty(),
        format!("nothing of what these wrote was taken: {idle:?}"),
    )
}

/// Lets all of them loose once. Answers with how much of what each writes was taken.
fn write(guest: &Guest, writers: &[Writer], seed: u64) -> Result<Vec<u64>> {
    let seconds = seconds()?;
    let running = writers
        .iter()
        .zip(seed..)
        .map(|(writer, seed)| {
            let script = writer.script(seconds, seed);
            guest.start(guest::program(&["bash", "-c", &script]))
        })
        .collect::<Result<Vec<_>>>()?;
    let deadline = guest::HANG + std::time::Duration::from_secs(seconds);
    let mut counts = Vec::new();
    for (writer, running) in writers.iter().zip(running) {
        let output = running.output(deadline)?;
        let taken = output.stdout.trim().parse();
        let (End::Exited(0), Ok(taken)) = (&output.end, taken) else {
            return Err(Error::test(format!("{} failed: {output:?}", writer.name)));
        };
        counts.push(taken);
    }
    Ok(counts)
}

/// Those who only use the drivers' files. What they may get by them is the movable zone. Drivers come and go less often
/// than the rest: there has to be something to write to.
fn users_of(region: &Region<'_>) -> Result<Vec<Writer>> {
    let blocks = region.blocks()?;
    Ok(vec![
        Writer::new(
            "state",
            vec![region.state()],
            &[
                "online_movable",
                "unplugged",
                "online",
                "online_kernel",
                "offline",
            ],
        ),
        Writer::new(
            "hotplug",
            vec![region.hotplug()],
            &["online_movable", "unplug", "online", ""],
        ),
        Writer::new(
            "online_type",
            vec![region.online_type()],
            &["online_movable", "invalid", "movable"],
        ),
        Writer::new(
            BLOCKS,
            blocks.into_iter().map(block_file).collect(),
            &["offline", "online_movable", "online", "online_kernel"],
        ),
        Writer::new(
            "sysram_regionN",
            ["bind", "unbind", "bind"]
                .map(|file| format!("{DRIVERS}/cxl_dax_kmem_region/{file}"))
                .into(),
            &["sysram_region0", "none", "none", "none"],
        ),
        Writer::new(
            "regionN",
            ["bind", "unbind", "bind"]
                .map(|file| format!("{DRIVERS}/{SYSRAM}/{file}"))
                .into(),
            &["region0", "none", "none", "none"],
        ),
        Writer::new(
            "daxN.M",
            ["bind", "unbind", "bind"]
                .map(|file| format!("/sys/bus/dax/drivers/kmem/{file}"))
                .into(),
            &["dax0.0", "none", "none", "none"],
        ),
    ])
}

/// Fails unless all blocks are alike: nobody worked on single ones.
fn assert_whole_as_left(region: &Region<'_>) -> Result<()> {
    let zones = region.zones()?;
    ensure(
        zones.windows(2).all(|pair| pair[0] == pair[1]),
        format!("the crowd left a part of the region: {zones:?}"),
    )
}

/// Fails unless the device says what its blocks are, if it is with its driver: nobody changes anything any more.
fn assert_told(guest: &Guest, region: &Region<'_>) -> Result<()> {
    let Ok(state) = guest.read(&region.state()) else {
        return Ok(());
    };
    let zones = region.zones()?;
    let all = |wanted: &str| zones.iter().all(|zone| zone == wanted);
    let words = [
        ("absent", "unplugged"),
        ("offline", "offline"),
        ("Movable", "online_movable"),
    ];
    let word = words.iter().find(|(zone, _)| all(zone));
    let wanted = word.map_or("mixed", |(_, word)| *word);
    ensure(
        state == wanted,
        format!("the crowd left {zones:?}, and state reads '{state}'"),
    )
}

/// Gives every device that has none its driver, whatever the crowd left.
fn put_together(guest: &Guest, region: &Region<'_>) -> Result<()> {
    if ways::driver(guest, &region.name())?.is_none() {
        region.bind(SYSRAM)?;
    }
    if guest.read(&region.online_type())? == "invalid" {
        guest.write(&region.online_type(), "online_movable")?;
    }
    if ways::driver(guest, &format!("sysram_{}", region.name()))?.is_none() {
        region.bind_kmem()?;
    }
    if guest.read(&region.state()).is_err() {
        guest.write("/sys/bus/dax/drivers/kmem/bind", &region.dax_name())?;
    }
    Ok(())
}

/// Fails unless the region does what it is asked to, and says what it is.
fn assert_whole(guest: &Guest, region: &Region<'_>) -> Result<()> {
    for (word, zones) in [
        ("online_movable", "Movable"),
        ("unplugged", "absent"),
        ("online_movable", "Movable"),
    ] {
        guest.write(&region.state(), word)?;
        region.assert_all(zones)?;
        let state = guest.read(&region.state())?;
        ensure(
            state == word,
            format!("all blocks are {zones}, and state reads '{state}'"),
        )?;
    }
    let data = Data::put(guest, NODE)?;
    data.assert_intact()?;
    data.remove()
}

/// Fails unless nothing is left when the region goes, and the modules can be unloaded.
fn take_down(guest: &Guest, region: Region<'_>, before: u64) -> Result<()> {
    region.destroy()?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory left something behind",
    )?;
    guest
        .sh_ok("rmmod cxl_regions && rmmod kmem && modprobe -a kmem cxl_regions")
        .map(drop)
}

fn files(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    let blocks = region.blocks()?;
    let witness = Witness::start(guest)?;
    let_loose(guest, &users_of(&region)?)?;
    let changes = witness.take(&blocks)?;
    ensure(
        zones_entered(&changes) == ["Movable"],
        format!(
            "a block entered another zone: {:?}",
            zones_entered(&changes)
        ),
    )?;
    witness.stop()?;
    assert_told(guest, &region)?;
    put_together(guest, &region)?;
    assert_whole(guest, &region)?;
    let whole: Vec<Writer> = users_of(&region)?
        .into_iter()
        .filter(|writer| writer.name != BLOCKS)
        .collect();
    let_loose(guest, &whole)?;
    assert_whole_as_left(&region)?;
    assert_told(guest, &region)?;
    put_together(guest, &region)?;
    assert_whole(guest, &region)?;
    take_down(guest, region, before)
}
