// SPDX-License-Identifier: MIT OR Apache-2.0
//! A transition over a whole device happens entirely or not at all, wherever it fails.

use std::time::Duration;

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::guest;
use lab::suite::Test;
use lab_protocol::End;
use rustix::io::Errno;

use crate::fault::Fault;
use crate::pin::Pin;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::MEMORY;
use crate::support::Region;
use crate::support::block_file;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::total_memory;

/// A region of a few more blocks than are worth a hole (`WORTH_A_HOLE` in region-policy).
const MANY: &str = "mem0 -s 6400M";

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || loaded("one");
    vec![
        Test::new(
            "transition: a block that fails as the region is bound leaves nothing behind",
            one(),
            bind_fails,
        ),
        Test::new(
            "transition: a block that fails as the device is plugged leaves it unplugged",
            one(),
            |guest| plug_fails(guest, "mem0"),
        ),
        Test::new(
            "transition: a block that fails as a mixed device is completed leaves it as it was",
            one(),
            completion_fails,
        ),
        Test::new(
            "transition: a block that cannot go offline leaves the device online",
            one(),
            |guest| unplug_fails(guest, "mem0"),
        ),
        Test::new(
            "transition: in a device of many blocks, which go in pieces, a block that fails leaves what was before",
            loaded("sparse-16g"),
            |guest| plug_fails(guest, MANY).and_then(|()| unplug_fails(guest, MANY)),
        ),
        Test::new(
            "transition: 64 GiB come and go as a whole",
            loaded("sparse-64g"),
            |guest| {
                large(
                    guest,
                    &[("unplugged", "absent"), ("online_movable", "Movable")],
                )
            },
        )
        .last(),
        Test::new(
            "transition: 256 GiB come and go as a whole",
            loaded("sparse-256g"),
            |guest| large(guest, &[]),
        )
        .last(),
        Test::new(
            "transition: a rollback that fails too is told, and the policy's word repairs it",
            one(),
            rollback_fails,
        ),
        Test::new(
            "transition: a pinned page holds an unplug up until a signal, which undoes it",
            one(),
            pinned_page,
        ),
        Test::new(
            "transition: a signal that waits for the writer does not reach the rollback",
            one(),
            signal_before_the_rollback,
        ),
        Test::new(
            "transition: what a writer began who was killed is undone all the same",
            one(),
            killed_writer,
        ),
        Test::new(
            "transition: a mixed device is completed by its policy's word, or unplugged",
            one(),
            mixed_device,
        ),
    ]
}

/// The first, a middle and the last of the region's blocks: the kernel is told to work on them in pieces, which begin and
/// end there.
fn chosen(region: &Region<'_>) -> Result<[u64; 5]> {
    let blocks = region.blocks()?;
    let last = blocks.len() - 1;
    Ok([0, 1, last / 2, last - 1, last].map(|index| blocks[index]))
}

fn state_is(guest: &Guest, region: &Region<'_>, wanted: &str) -> Result<()> {
    let found = guest.read(&region.state())?;
    ensure(
        found == wanted,
        format!("state reads '{found}' and should read '{wanted}'"),
    )
}

fn memory_block(block: u64) -> String {
    format!("memory{block}")
}

fn bind_fails(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::committed(guest, "mem0")?;
    region.bind("cxl_sysram_region")?;
    guest.write(&region.online_type(), "online_movable")?;
    let sysram = format!("sysram_{}", region.name());
    let total = total_memory(guest)?;
    for block in chosen(&region)? {
        fault.refuse_online(block)?;
        let log = Log::from_now(guest)?;
        guest.write_refused(
            &format!("{DRIVERS}/cxl_dax_kmem_region/bind"),
            &sysram,
            Errno::IO,
        )?;
        log.assert_line(&[&region.name(), &memory_block(block), "rolled back"])?;
        region.assert_all("absent")?;
        ensure(
            total_memory(guest)? == total,
            "no memory is left in the system",
        )?;
        let left = guest.sh_ok("ls /sys/bus/dax/devices; grep -E 'dax|kmem' /proc/iomem; true")?;
        ensure(
            left.is_empty(),
            format!("nothing of the device is left: {left}"),
        )?;
        let policy = guest.read(&region.online_type())?;
        ensure(
            policy == "online_movable",
            format!("the policy is still set: '{policy}'"),
        )?;
    }
    fault.mend()?;
    region.bind_kmem()?;
    region.assert_all("Movable")?;
    region.destroy()?;
    fault.unload()
}

fn plug_fails(guest: &Guest, memory: &str) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::sysram(guest, memory, "online_movable")?;
    for block in chosen(&region)? {
        guest.write(&region.state(), "unplugged")?;
        let total = total_memory(guest)?;
        fault.refuse_online(block)?;
        let log = Log::from_now(guest)?;
        guest.write_refused(&region.state(), "online_movable", Errno::IO)?;
        log.assert_line(&[&region.name(), &memory_block(block), "rolled back"])?;
        region.assert_all("absent")?;
        state_is(guest, &region, "unplugged")?;
        ensure(
            total_memory(guest)? == total,
            "no memory is left in the system",
        )?;
        fault.mend()?;
        guest.write(&region.state(), "online_movable")?;
        region.assert_all("Movable")?;
    }
    region.destroy()?;
    fault.unload()
}

fn completion_fails(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    for block in chosen(&region)? {
        guest.write(&block_file(block), "offline")?;
        let before = region.zones()?;
        fault.refuse_online(block)?;
        let log = Log::from_now(guest)?;
        guest.write_refused(&region.state(), "online_movable", Errno::IO)?;
        log.assert_line(&[&region.name(), &memory_block(block), "rolled back"])?;
        let after = region.zones()?;
        ensure(
            after == before,
            format!("the blocks were {before:?} and are {after:?}"),
        )?;
        state_is(guest, &region, "mixed")?;
        fault.mend()?;
        guest.write(&region.state(), "online_movable")?;
        region.assert_all("Movable")?;
        state_is(guest, &region, "online_movable")?;
    }
    region.destroy()?;
    fault.unload()
}

fn unplug_fails(guest: &Guest, memory: &str) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::sysram(guest, memory, "online_movable")?;
    for block in chosen(&region)? {
        let total = total_memory(guest)?;
        fault.refuse_offline(block)?;
        let log = Log::from_now(guest)?;
        guest.write_refused(&region.state(), "unplugged", Errno::NOMEM)?;
        log.assert_line(&[&region.name(), &memory_block(block), "rolled back"])?;
        region.assert_all("Movable")?;
        state_is(guest, &region, "online_movable")?;
        ensure(total_memory(guest)? == total, "all memory is back")?;
        fault.mend()?;
        guest.write(&region.state(), "unplugged")?;
        region.assert_all("absent")?;
        guest.write(&region.state(), "online_movable")?;
    }
    region.destroy()?;
    fault.unload()
}

/// A device whose memory is there and goes `through` these states, until it is taken down.
fn large(guest: &Guest, through: &[(&str, &str)]) -> Result<()> {
    // Thousands of blocks are not what udev is tested with here: it does nothing from here on.
    guest.sh_ok("udevadm control --stop-exec-queue")?;
    let before = total_memory(guest)?;
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    region.assert_all("Movable")?;
    for (word, zones) in through {
        guest.write(&region.state(), word)?;
        region.assert_all(zones)?;
        state_is(guest, &region, word)?;
    }
    region.destroy()?;
    ensure(
        total_memory(guest)? == before,
        "the memory left something behind",
    )
}

fn rollback_fails(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let blocks = region.blocks()?;
    // The sixth cannot go offline; of those that were by then, the third does not come back.
    fault.refuse_offline(blocks[5])?;
    fault.refuse_online(blocks[2])?;
    let log = Log::from_now(guest)?;
    guest.write_refused(&region.state(), "unplugged", Errno::NOMEM)?;
    log.assert_line(&[
        &region.name(),
        &memory_block(blocks[5]),
        "the rollback failed too",
        "1 offline",
    ])?;
    state_is(guest, &region, "mixed")?;
    let zones = region.zones()?;
    let as_told = zones
        .iter()
        .enumerate()
        .all(|(index, zone)| zone == if index == 2 { "offline" } else { "Movable" });
    ensure(as_told, format!("only the third is offline: {zones:?}"))?;

    fault.mend()?;
    guest.write(&region.state(), "online_movable")?;
    region.assert_all("Movable")?;
    region.destroy()?;
    fault.unload()
}

/// Writes with a signal pending from the start.
fn write_interrupted(guest: &Guest, path: &str, word: &str) -> Result<String> {
    let script = format!("trap : INT; echo {word} > {path}");
    let inject = "--inject=write:signal=INT:when=1";
    let traced = [
        "strace",
        "-o",
        "/dev/null",
        "-e",
        "trace=write",
        inject,
        "bash",
        "-c",
        &script,
    ];
    guest
        .start(guest::program(&traced))?
        .output(Duration::from_mins(1))?
        .failure()
}

fn signal_before_the_rollback(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    // An unplug gives way to it.
    let refused = write_interrupted(guest, &region.state(), "unplugged")?;
    ensure(
        refused.contains("Interrupted system call"),
        format!("the unplug was to be interrupted: {refused}"),
    )?;
    region.assert_all("Movable")?;
    guest.write(&region.state(), "unplugged")?;
    // To undo a plug, memory must go offline, which the kernel gives up for a signal.
    fault.refuse_online(region.blocks()?[7])?;
    let log = Log::from_now(guest)?;
    let refused = write_interrupted(guest, &region.state(), "online_movable")?;
    ensure(
        refused.contains("Input/output error"),
        format!("the plug was to fail: {refused}"),
    )?;
    log.assert_line(&[&region.name(), "rolled back"])?;
    region.assert_all("absent")?;
    fault.mend()?;
    guest.write(&region.state(), "online_movable")?;
    region.destroy()?;
    fault.unload()
}

fn killed_writer(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    guest.write(&region.state(), "unplugged")?;
    let total = total_memory(guest)?;
    // The second is the last to come online.
    let last = region.blocks()?[1];
    fault.refuse_online(last)?;
    // Whether a task that was killed notices that where it waits depends on who is faster.
    for turn in 0..8 {
        fault.pause_online(last)?;
        let log = Log::from_now(guest)?;
        let writer = guest.start(guest::program(&[
            "bash",
            "-c",
            &format!("echo online_movable > {}", region.state()),
        ]))?;
        fault.wait_until_paused()?;
        let gone = |error| Error::test(format!("the guest is gone: {error}"));
        writer.control().signal(9).map_err(gone)?;
        fault.proceed()?;
        let end = writer.output(guest::HANG)?.end;
        ensure(
            end == End::Killed(9),
            format!("in turn {turn} the writer was to be killed: {end:?}"),
        )?;
        log.assert_line(&[&region.name(), &memory_block(last), "rolled back"])?;
        region.assert_all("absent")?;
        state_is(guest, &region, "unplugged")?;
        ensure(
            total_memory(guest)? == total,
            "no memory is left in the system",
        )?;
    }
    fault.mend()?;
    guest.write(&region.state(), "online_movable")?;
    region.destroy()?;
    fault.unload()
}

fn pinned_page(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let blocks = region.blocks()?;
    for block in [blocks[0], blocks[4], blocks[7]] {
        let pin = Pin::in_block(guest, &region, block)?;
        region.assert_all("Movable")?;
        let log = Log::from_now(guest)?;
        let writer = guest.start(guest::program(&[
            "bash",
            "-c",
            &format!("trap : INT; echo unplugged > {}", region.state()),
        ]))?;
        // It cannot end by itself, so this looks until it is there.
        guest.sh_ok(&format!(
            "until grep -q going-offline {MEMORY}/memory{block}/state; do :; done"
        ))?;
        // Whoever reads meanwhile need not wait.
        let meanwhile = guest.read(&region.state())?;
        ensure(
            ["online_movable", "mixed"].contains(&meanwhile.as_str()),
            format!("in the middle of an unplug the device is '{meanwhile}'"),
        )?;
        // Whoever wants a turn need not wait for ever either.
        let refused = write_interrupted(guest, &region.state(), "unplugged")?;
        ensure(
            refused.contains("Interrupted system call"),
            format!("the second writer was to be interrupted: {refused}"),
        )?;
        let gone = |error| Error::test(format!("the guest is gone: {error}"));
        writer.control().signal(2).map_err(gone)?;
        let refused = writer.output(guest::HANG)?;
        ensure(
            refused.end == End::Exited(1) && refused.stderr.contains("Interrupted system call"),
            format!("the write was to be interrupted: {refused:?}"),
        )?;
        log.assert_line(&[&region.name(), "EINTR", &memory_block(block), "rolled back"])?;
        region.assert_all("Movable")?;
        state_is(guest, &region, "online_movable")?;

        pin.release()?;
        guest.write(&region.state(), "unplugged")?;
        region.assert_all("absent")?;
        guest.write(&region.state(), "online_movable")?;
    }
    region.destroy()
}

fn mixed_device(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let chosen = chosen(&region)?;
    for block in chosen {
        guest.write(&block_file(block), "offline")?;
        state_is(guest, &region, "mixed")?;
        guest.write(&region.state(), "online_movable")?;
        region.assert_all("Movable")?;
        state_is(guest, &region, "online_movable")?;
    }
    // Several at once, and all.
    for offline in [&chosen[..], &region.blocks()?[..]] {
        for block in offline {
            guest.write(&block_file(*block), "offline")?;
        }
        guest.write(&region.state(), "online_movable")?;
        region.assert_all("Movable")?;
    }
    for block in &chosen[1..] {
        guest.write(&block_file(*block), "offline")?;
    }
    guest.write(&region.state(), "unplugged")?;
    region.assert_all("absent")?;
    state_is(guest, &region, "unplugged")?;
    guest.write(&region.state(), "online_movable")?;
    region.assert_all("Movable")?;
    region.destroy()
}
