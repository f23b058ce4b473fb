// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own injector of errors, and memory that processes keep: wherever a transition fails, what was there before
//! is there afterwards.

use std::time::Duration;

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::guest;
use lab::suite::Test;
use lab_protocol::End;
use rustix::io::Errno;

use crate::data::Data;
use crate::fault::Fault;
use crate::pin::Pin;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::Region;
use crate::support::block_file;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::total_memory;
use crate::ways::Hardware;
use crate::witness::Witness;

/// The node of the region's memory.
const NODE: u32 = 1;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "injection: with the kernel's own error injection, what was there before is there afterwards",
            loaded("one"),
            error_injection,
        ),
        Test::new(
            "injection: where binding fails and its rollback too, the memory keeps its decoders, and binding again takes it up",
            loaded("one"),
            bind_and_rollback_fail,
        ),
        Test::new(
            "injection: a rollback that meets a pinned page gives up after a while, and says so",
            loaded("one"),
            rollback_meets_pinned_page,
        ),
        Test::new(
            "injection: a signal ends an unbind that waits for a pinned page, and the memory stays as it is",
            loaded("one"),
            unbind_meets_pinned_page,
        ),
        Test::new(
            "injection: an unbind ends by itself though a writer of 'state' waits for a pinned page, and so does the next bind",
            loaded("one"),
            unbind_meets_writer,
        ),
        Test::new(
            "injection: who takes the memdev away in the middle of a plug gets all of the memory out",
            loaded("one-hdm"),
            memdev_goes_meanwhile,
        ),
        Test::new(
            "injection: who asks for memory that is being taken away with its memdev gets none",
            loaded("one-hdm"),
            memory_is_asked_for,
        ),
    ]
}

/// `memory-notifier-error-inject`: every block that goes online or offline fails while an error is set.
struct Injection<'g>(&'g Guest);

impl<'g> Injection<'g> {
    const ACTIONS: &'static str = "/sys/kernel/debug/notifier-error-inject/memory/actions";
    const ERROR: &'static str = "-12";

    fn load(guest: &'g Guest) -> Result<Self> {
        guest.sh_ok(
            "mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug; \
             modprobe memory-notifier-error-inject",
        )?;
        Ok(Self(guest))
    }

    fn set(&self, action: &str, error: &str) -> Result<()> {
        self.0
            .write(&format!("{}/{action}/error", Self::ACTIONS), error)
    }

    fn refuse_online(&self) -> Result<()> {
        self.set("MEM_GOING_ONLINE", Self::ERROR)
    }

    fn refuse_offline(&self) -> Result<()> {
        self.set("MEM_GOING_OFFLINE", Self::ERROR)
    }

    fn mend(&self) -> Result<()> {
        self.set("MEM_GOING_ONLINE", "0")?;
        self.set("MEM_GOING_OFFLINE", "0")
    }

    fn unload(self) -> Result<()> {
        self.0.sh_ok("rmmod memory-notifier-error-inject").map(drop)
    }
}

fn error_injection(guest: &Guest) -> Result<()> {
    let injection = Injection::load(guest)?;
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let blocks = region.blocks()?;
    let total = total_memory(guest)?;
    let unchanged = |before: &[String]| -> Result<()> {
        let after = region.zones()?;
        ensure(
            after == before,
            format!("the blocks were {before:?} and are {after:?}"),
        )
    };
    for block in [
        blocks[0],
        blocks[blocks.len() / 2],
        blocks[blocks.len() - 1],
    ] {
        let name = format!("memory{block}");
        // The one block that is missing fails.
        guest.write(&block_file(block), "offline")?;
        let before = region.zones()?;
        injection.refuse_online()?;
        let log = Log::from_now(guest)?;
        guest.write_refused(&region.state(), "online_movable", Errno::IO)?;
        log.assert_line(&[&region.name(), &name, "rolled back"])?;
        unchanged(&before)?;
        injection.mend()?;
        guest.write(&region.state(), "online_movable")?;
        ensure(total_memory(guest)? == total, "all memory is back")?;

        // The one block that is online fails.
        for other in blocks.iter().filter(|other| **other != block) {
            guest.write(&block_file(*other), "offline")?;
        }
        let before = region.zones()?;
        injection.refuse_offline()?;
        let log = Log::from_now(guest)?;
        guest.write_refused(&region.state(), "unplugged", Errno::NOMEM)?;
        log.assert_line(&[&region.name(), &name, "rolled back"])?;
        unchanged(&before)?;
        injection.mend()?;
        guest.write(&region.state(), "online_movable")?;
        region.assert_all("Movable")?;
    }

    // All of them fail, one way and the other.
    injection.refuse_offline()?;
    guest.write_refused(&region.state(), "unplugged", Errno::NOMEM)?;
    region.assert_all("Movable")?;
    injection.mend()?;
    guest.write(&region.state(), "unplugged")?;
    injection.refuse_online()?;
    guest.write_refused(&region.state(), "online_movable", Errno::IO)?;
    region.assert_all("absent")?;
    region.unbind_kmem()?;
    guest.write_refused(
        &format!("{DRIVERS}/cxl_dax_kmem_region/bind"),
        &format!("sysram_{}", region.name()),
        Errno::IO,
    )?;
    region.assert_all("absent")?;
    injection.mend()?;
    region.bind_kmem()?;
    region.assert_all("Movable")?;
    region.destroy()?;
    injection.unload()
}

fn bind_and_rollback_fail(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::committed(guest, "mem0")?;
    region.bind("cxl_sysram_region")?;
    guest.write(&region.online_type(), "online_movable")?;
    let blocks = region.blocks()?;
    fault.refuse_online(blocks[5])?;
    fault.refuse_offline(blocks[2])?;
    let log = Log::from_now(guest)?;
    let bind = format!("{DRIVERS}/cxl_dax_kmem_region/bind");
    let sysram = format!("sysram_{}", region.name());
    guest.write_refused(&bind, &sysram, Errno::IO)?;
    log.assert_line(&[&region.name(), "the rollback failed too"])?;
    log.assert_line(&[&region.name(), "its decoders stay locked"])?;
    let locked = |wanted: &str| -> Result<()> {
        let found = guest.read(&format!("{}/locked", region.path()))?;
        ensure(found == wanted, format!("locked reads {found}"))
    };
    locked("1")?;
    guest.write_refused(&format!("{}/commit", region.path()), "0", Errno::PERM)?;
    // Memory that is there under a policy keeps it.
    guest.write_refused(&region.online_type(), "online_kernel", Errno::BUSY)?;

    fault.mend()?;
    region.bind_kmem()?;
    guest.write(&region.state(), "online_movable")?;
    region.assert_all("Movable")?;
    guest.write(&region.state(), "unplugged")?;
    region.assert_all("absent")?;
    region.unbind_kmem()?;
    locked("0")?;
    region.destroy()?;
    fault.unload()
}

/// The longest that anything waits for memory that does not move, and some time for a busy host.
const PATIENCE: Duration = Duration::from_secs(90);

fn rollback_meets_pinned_page(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    guest.write(&region.state(), "unplugged")?;
    // The second is the last to come online.
    let last = region.blocks()?[1];
    fault.refuse_online(last)?;
    fault.pause_online(last)?;
    let log = Log::from_now(guest)?;
    let writer = guest.start(guest::program(&[
        "bash",
        "-c",
        &format!("echo online_movable > {}", region.state()),
    ]))?;
    fault.wait_until_paused()?;
    let pin = Pin::on_node(guest, NODE)?;
    fault.proceed()?;
    let refused = writer.output(PATIENCE)?;
    ensure(
        refused.end == End::Exited(1) && refused.stderr.contains("Input/output error"),
        format!("the plug was to fail: {refused:?}"),
    )?;
    log.assert_line(&[&region.name(), "the rollback failed too"])?;
    ensure(
        guest.read(&region.state())? == "mixed",
        "state does not tell that something stayed",
    )?;

    fault.mend()?;
    guest.write(&region.state(), "online_movable")?;
    region.assert_all("Movable")?;
    pin.release()?;
    guest.write(&region.state(), "unplugged")?;
    region.destroy()?;
    fault.unload()
}

fn unbind_meets_pinned_page(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let data = Data::put(guest, NODE)?;
    let pin = Pin::on_node(guest, NODE)?;
    let unbind = |driver: &str, name: &str| -> Result<()> {
        let log = Log::from_now(guest)?;
        let writer = guest.start(guest::program(&[
            "bash",
            "-c",
            &format!("trap : INT; echo {name} > {DRIVERS}/{driver}/unbind"),
        ]))?;
        let blocks: Vec<String> = region.blocks()?.into_iter().map(block_file).collect();
        guest.sh_ok(&format!(
            "until grep -q going-offline {}; do :; done",
            blocks.join(" ")
        ))?;
        let gone = |error| Error::test(format!("the guest is gone: {error}"));
        writer.control().signal(2).map_err(gone)?;
        // An unbind cannot fail. It leaves the memory.
        writer.output(PATIENCE)?.success()?;
        log.assert_line(&[&region.name(), "EINTR", "stay locked"])?;
        region.assert_all("Movable")?;
        data.assert_intact()
    };
    unbind("cxl_dax_kmem_region", &format!("sysram_{}", region.name()))?;
    region.bind_kmem()?;
    ensure(
        guest.read(&region.state())? == "online_movable",
        "the memory is not taken up as it is",
    )?;
    // Nor is it on its way out any more.
    guest.write(&region.state(), "online_movable")?;
    unbind("cxl_sysram_region", &region.name())?;
    pin.release()?;
    region.bind("cxl_sysram_region")?;
    region.assert_all("absent")?;
    data.assert_intact()?;
    data.remove()?;
    region.destroy()
}

/// Writes to a file in a process of its own, which ends by itself, if it does, in time.
fn write_ends(guest: &Guest, file: &str, text: &str) -> Result<()> {
    let script = format!("echo {text} > {file}");
    let writer = guest.start(guest::program(&["bash", "-c", &script]))?;
    writer.output(PATIENCE)?.success().map(drop)
}

fn unbind_meets_writer(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let data = Data::put(guest, NODE)?;
    let pin = Pin::on_node(guest, NODE)?;
    let blocks: Vec<String> = region.blocks()?.into_iter().map(block_file).collect();
    let unbind = |file: &str, name: &str| -> Result<()> {
        let script = format!("echo unplugged > {}", region.state());
        let writer = guest.start(guest::program(&["bash", "-c", &script]))?;
        guest.sh_ok(&format!(
            "until grep -q going-offline {}; do :; done",
            blocks.join(" ")
        ))?;
        write_ends(guest, file, name)?;
        // The writer had to give way.
        let refused = writer.output(guest::HANG)?;
        ensure(
            refused.end == End::Exited(1) && refused.stderr.contains("No such device"),
            format!("the writer was to give way: {refused:?}"),
        )?;
        region.assert_all("Movable")?;
        let locked = guest.read(&format!("{}/locked", region.path()))?;
        ensure(locked == "1", "the region's decoders are not locked")?;
        data.assert_intact()
    };
    unbind("/sys/bus/dax/drivers/kmem/unbind", &region.dax_name())?;
    guest.write("/sys/bus/dax/drivers/kmem/bind", &region.dax_name())?;
    // It is not on its way out any more.
    guest.write(&region.state(), "online_movable")?;
    let log = Log::from_now(guest)?;
    unbind(
        &format!("{DRIVERS}/cxl_sysram_region/unbind"),
        &region.name(),
    )?;
    log.assert_line(&[&region.name(), "stay locked"])?;

    // The page is still there.
    let bind = format!("{DRIVERS}/cxl_sysram_region/bind");
    write_ends(guest, &bind, &region.name())?;
    let policy = guest.read(&region.online_type())?;
    ensure(
        policy == "online_movable",
        format!("the policy of what is left behind is '{policy}'"),
    )?;
    region.assert_all("Movable")?;
    data.assert_intact()?;
    pin.release()?;
    region.bind_kmem()?;
    guest.write(&region.state(), "unplugged")?;
    region.assert_all("absent")?;
    data.remove()?;
    region.destroy()
}

fn memdev_goes_meanwhile(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    let before = total_memory(guest)?;
    let hardware = Hardware::find(guest)?;
    let region = Region::committed(guest, "0x100")?;
    region.bind("cxl_sysram_region")?;
    guest.write(&region.online_type(), "online_movable")?;
    let blocks = region.blocks()?;
    fault.pause_online(blocks[4])?;
    let start = |file: &str, name: &str| {
        let script = format!("echo {name} > {DRIVERS}/{file}");
        guest.start(guest::program(&["bash", "-c", &script]))
    };
    let binding = start(
        "cxl_dax_kmem_region/bind",
        &format!("sysram_{}", region.name()),
    )?;
    fault.wait_until_paused()?;
    let memdev = guest.sh_ok("basename /sys/bus/cxl/devices/mem*")?;
    let unbinding = start("cxl_mem/unbind", memdev.trim())?;
    // Both are in kmem: the one that plugs, and the one that waits for its turn to take all away.
    guest.sh_ok(
        r"until (($(grep -ls '\[kmem\]' /proc/[0-9]*/stack | wc -l) >= 2)); do sleep 0.01; done",
    )?;
    fault.proceed()?;
    unbinding.output(PATIENCE)?.success()?;
    binding.output(PATIENCE)?;
    let states = crate::support::block_states(guest, &blocks)?;
    ensure(
        states.iter().all(|state| state == "absent"),
        format!("memory stayed where its memdev went: {states:?}"),
    )?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory left something behind",
    )?;
    fault.unload()?;
    hardware.settle()?;
    hardware.bind()?;
    region.destroy()
}

fn memory_is_asked_for(guest: &Guest) -> Result<()> {
    let hardware = Hardware::find(guest)?;
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    let blocks = region.blocks()?;
    let witness = Witness::start(guest)?;
    let asking = guest.start(guest::program(&[
        "bash",
        "-c",
        &format!(
            "echo asking; while echo online_movable > {}; do :; done",
            region.state()
        ),
    ]))?;
    asking.next(Some(guest::HANG))?;
    hardware.unbind()?;
    let refused = asking.output(PATIENCE)?;
    ensure(
        refused.stderr.contains("No such"),
        format!("the memory was asked for until something else happened: {refused:?}"),
    )?;
    let changes = witness.take(&blocks)?;
    ensure(
        changes.len() == blocks.len() && changes.iter().all(|change| !change.online),
        format!("each block was to go offline once, and nothing else: {changes:?}"),
    )?;
    witness.stop()?;
    hardware.settle()?;
    hardware.bind()?;
    region.destroy()
}
