// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dynamic capacity that somebody uses while it is wanted back, or taken: data moves elsewhere, who cannot move is waited for,
//! and nobody is left with memory that is somebody else's.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::fabric::DcRegion;
use lab::fabric::Extent;
use lab::guest;
use lab::running::Step;
use lab::suite::Test;
use lab_protocol::Stream;
use rustix::io::Errno;

use crate::data::Data;
use crate::devdax::Application;
use crate::dynamic_capacity::IN_USE;
use crate::dynamic_capacity::NODE;
use crate::dynamic_capacity::SERIAL;
use crate::dynamic_capacity::destroy;
use crate::dynamic_capacity::devdax;
use crate::dynamic_capacity::extent;
use crate::dynamic_capacity::line;
use crate::dynamic_capacity::listed;
use crate::dynamic_capacity::only_device;
use crate::dynamic_capacity::small;
use crate::dynamic_capacity::sysram;
use crate::dynamic_capacity::wait_until_held;
use crate::pin::Pin;
use crate::support::CXL;
use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "dynamic_capacity: memory in use moves elsewhere when it is asked back, with all that is in it",
            loaded("dc"),
            in_use,
        ),
        Test::new(
            "dynamic_capacity: a process that never stops using memory keeps its data while all of it is asked back",
            loaded("dc"),
            under_pressure,
        ),
        Test::new(
            "dynamic_capacity: system RAM that somebody gave to applications goes when they are through with it",
            loaded("dc"),
            given_to_applications,
        ),
        Test::new(
            "dynamic_capacity: memory that is pinned when it is asked back holds up no other extent, and goes when it can",
            loaded("dc"),
            pinned,
        ),
        Test::new(
            "dynamic_capacity: what is taken without asking is out of use, and what cannot be is told to its users",
            loaded("dc"),
            taken,
        )
        .last(),
        Test::new(
            "dynamic_capacity: a device that nobody has open and a page of which is held stays, and holds up no other",
            loaded("dc"),
            held_page,
        ),
    ]
}

/// Waits until the guest has an extent, or has it no more.
fn settle(guest: &Guest, region: &Region<'_>, number: u64, held: bool) -> Result<()> {
    let offset = format!("{:#x} ", extent(number).offset);
    guest.wait_for("the extent has come or gone", || {
        let listed = listed(guest, region)?;
        Ok(listed.iter().any(|line| line.starts_with(&offset)) == held)
    })
}

fn in_use(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(0)])?;
    wait_until_held(guest, &region, &[extent(0)])?;
    let data = Data::put(guest, NODE)?;
    fabric.release(&[extent(0)])?;
    wait_until_held(guest, &region, &[])?;
    data.assert_intact()?;
    data.remove()?;
    destroy(guest, &region)
}

/// Writes, moves and compares files on a node until it is told to stop, and says how often.
const PRESSURE: &str = r"
set -e
mkdir -p /tmp/pressure; mount -t tmpfs -o mpol=prefer:$1 none /tmp/pressure; cd /tmp/pressure
head -c 2M /dev/urandom > /tmp/seed; sum=$(sha256sum < /tmp/seed)
for ((n = 0; ; n++)); do
    for file in {0..3}; do cat /tmp/seed > new; mv new $file; done
    for file in {0..3}; do [[ $(sha256sum < $file) = $sum ]]; done
    echo $n
done
";

fn under_pressure(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    let all = [extent(0), extent(3), extent(4)];
    fabric.add(&all)?;
    wait_until_held(guest, &region, &all)?;
    let node = NODE.to_string();
    let argv = ["bash", "-c", PRESSURE, "pressure", &node];
    let user = guest.start(guest::program(&argv))?;
    // It says a number for each round.
    let rounds = |wanted: usize| -> Result<()> {
        for _ in 0..wanted {
            match user.next(Some(guest::HANG))? {
                Step::Output(Stream::Stdout, _) => {}
                other => return Err(Error::test(format!("the process: {other:?}"))),
            }
        }
        Ok(())
    };
    rounds(2)?;
    for (index, extent) in all.into_iter().enumerate() {
        fabric.release(&[extent])?;
        wait_until_held(guest, &region, &all[index + 1..])?;
        rounds(1)?;
    }
    rounds(2)?;
    let gone = |error| Error::test(format!("the guest is gone: {error}"));
    user.control().signal(9).map_err(gone)?;
    user.output(guest::HANG)?;
    guest.sh_ok("umount /tmp/pressure; rm /tmp/seed")?;
    destroy(guest, &region)
}

/// As `daxctl reconfigure-device` does.
fn given_to_applications(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(2)])?;
    wait_until_held(guest, &region, &[extent(2)])?;
    let device = only_device(guest)?;
    guest.sh_ok(&format!(
        "daxctl reconfigure-device -m devdax -f {device} && udevadm settle"
    ))?;
    let application = Application::start(guest, "map", &format!("/dev/{device}"))?;
    fabric.release(&[extent(2)])?;
    let leaving = line(&extent(2), "leaving");
    guest.wait_for("the extent is leaving", || {
        Ok(listed(guest, &region)?.contains(&leaving))
    })?;
    // Another comes and goes meanwhile.
    fabric.add(&[extent(5)])?;
    settle(guest, &region, 5, true)?;
    fabric.release(&[extent(5)])?;
    settle(guest, &region, 5, false)?;
    let text = application.tell("put still mine")?;
    ensure(
        text == "still mine",
        format!("the application reads '{text}'"),
    )?;
    application.end()?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

fn pinned(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(0)])?;
    wait_until_held(guest, &region, &[extent(0)])?;
    let pin = Pin::on_node(guest, NODE)?;
    let leaving = line(&extent(0), "leaving");
    let still_leaving = |what: &str| {
        let listed = listed(guest, &region)?;
        ensure(
            listed.contains(&leaving),
            format!("{what}, and the pinned extent is not on its way any more: {listed:?}"),
        )
    };
    fabric.release(&[extent(0)])?;
    guest.wait_for("the pinned extent is leaving", || {
        Ok(listed(guest, &region)?.contains(&leaving))
    })?;

    // An offer is answered, another becomes memory, and that goes back.
    let log = Log::from_now(guest)?;
    let Extent { offset, length } = extent(2);
    fabric.add(&[Extent {
        offset,
        length: length / 2,
    }])?;
    log.wait_for("is not made of whole units")?;
    still_leaving("an offer was refused")?;
    fabric.add(&[extent(1)])?;
    let other = line(&extent(1), IN_USE);
    guest.wait_for("the other extent is in use", || {
        Ok(listed(guest, &region)?.contains(&other))
    })?;
    still_leaving("another extent came")?;
    fabric.release(&[extent(1)])?;
    settle(guest, &region, 1, false)?;
    still_leaving("another extent went")?;

    pin.release()?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

/// Has the device take an extent without asking.
pub fn give_back_behind_the_back(guest: &Guest, extent: Extent) -> Result<()> {
    let Extent { offset, length } = extent;
    guest
        .sh_ok(&format!(
            "modprobe extent_thief memdev=$(basename {CXL}/mem?) address={offset} size={length} && rmmod extent_thief"
        ))
        .map(drop)
}

/// One extent is free, and in another a page cannot move.
fn taken(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(0)])?;
    wait_until_held(guest, &region, &[extent(0)])?;
    let _pin = Pin::on_node(guest, NODE)?;
    fabric.add(&[extent(1), extent(2)])?;
    wait_until_held(guest, &region, &[extent(0), extent(1), extent(2)])?;

    let log = Log::from_now(guest)?;
    for extent in [extent(0), extent(1)] {
        give_back_behind_the_back(guest, extent)?;
    }
    // Nobody tells of it: it is seen at the next look at everything.
    let lost = [line(&extent(0), "lost"), line(&extent(2), IN_USE)];
    guest.wait_for(&format!("the extents are {lost:?}"), || {
        let mut listed = listed(guest, &region)?;
        listed.sort();
        Ok(listed == lost)
    })?;
    log.assert_line(&["dpa 0x0-0x7ffffff", "what was in it is lost"])?;
    log.assert_line(&["dpa 0x8000000-", "what was in it is lost"])?;
    log.wait_for("pages are poisoned")?;
    guest.sh_ok("! cat /run/pinned/page")?;
    let zones = region.zones()?;
    ensure(
        zones[..4] == ["Movable", "absent", "Movable", "absent"],
        format!("what could go has not gone: {zones:?}"),
    )?;
    // What is out of use can be offered again, and what is not cannot.
    fabric.add(&[extent(1)])?;
    let other = line(&extent(1), IN_USE);
    guest.wait_for("the extent is in use again", || {
        Ok(listed(guest, &region)?.contains(&other))
    })?;
    let log = Log::from_now(guest)?;
    fabric.add(&[extent(0)])?;
    log.wait_for("overlaps")?;
    // The decoders stay below what stays.
    guest.write_refused(&format!("{}/commit", region.path()), "0", Errno::PERM)
}

/// What a device does that reads or writes memory long after its user closed it. To unbind the driver would be to wait
/// for it.
fn held_page(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = devdax(guest)?;
    let dax_region = format!("{}/dax_region0", region.path());
    let states = |wanted: &[&str]| {
        guest.wait_for(&format!("the extents are {wanted:?}"), || {
            let text = guest.sh_ok(&format!(
                "cat {dax_region}/extent*/state 2>/dev/null | sort"
            ))?;
            Ok(text.lines().eq(wanted.iter().copied()))
        })
    };
    fabric.add(&[small(1)])?;
    fabric.add(&[small(2)])?;
    states(&[IN_USE, IN_USE])?;
    let base = guest.read(&format!("{}/resource", region.path()))?;
    guest.sh_ok(&format!(
        "modprobe page_pinned address=$(({base} + {}))",
        small(1).offset
    ))?;
    let mode = format!("{dax_region}/dax_mode");
    guest.write_refused(&mode, "fsdev", Errno::BUSY)?;

    fabric.release(&[small(1)])?;
    states(&[IN_USE, "leaving"])?;
    fabric.release(&[small(2)])?;
    states(&["leaving"])?;
    // The device that the other left is there for the next.
    fabric.add(&[small(3)])?;
    states(&[IN_USE, "leaving"])?;
    guest.sh_ok("rmmod page_pinned")?;
    states(&[IN_USE])?;
    fabric.release(&[small(3)])?;
    states(&[])?;
    destroy(guest, &region)
}
