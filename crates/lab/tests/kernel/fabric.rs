// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fabric from both sides: what its manager offers through a switch, and what `cxlr` makes of it.

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Result;
use lab::fabric::Extent;
use lab::fabric::manager::Held;
use lab::fabric::manager::Manager;
use lab::guest;
use lab::running::Running;
use lab::running::Step;
use lab::suite::Test;
use lab::topology::MIB;
use lab::topology::catalogue;
use rustix::io::Errno;

use crate::support::Log;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::total_memory;
use crate::ways::Hardware;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let stock = Boot::new(catalogue::find("one").expect("it is in the catalogue"));
    vec![
        Test::new(
            "fabric: without the region drivers cxlr says what is missing",
            stock,
            without_drivers,
        ),
        Test::new(
            "fabric: what a manager gives cxlr shows, and gives back",
            loaded("dc-switch"),
            given_and_given_back,
        ),
        Test::new(
            "fabric: the extents of a tag are one device, come together and go together",
            loaded("dc-switch"),
            tagged_memory,
        ),
        Test::new(
            "fabric: the ranges of a tag that hosts share are mapped in their order, and a tag is used once",
            loaded("dc-switch"),
            shared_order,
        ),
        Test::new(
            "fabric: in a region for file systems a tag's device goes to the driver for those, and back to the fabric",
            loaded("dc-switch"),
            for_file_systems,
        ),
        Test::new(
            "fabric: a device is not reset below its memory, and has its extents still when it was reset without",
            loaded("dc-switch"),
            reset,
        ),
        Test::new(
            "fabric: what the host has gets back to a manager that asks, though the modules were loaded anew and no region is there",
            loaded("dc-switch"),
            asked_back_without_a_region,
        ),
        Test::new(
            "fabric: a tag is used by one device at a time, and free for another as soon as it has gone",
            loaded("dc-switch-two"),
            one_tag,
        ),
        Test::pair(
            "fabric: two hosts that are given the same memory under a tag find in it what the other wrote",
            loaded("dc-switch"),
            two_hosts,
        ),
    ]
}

const TAG: &str = "5be13bce-ae34-4a77-b6c3-16df975fcf1a";
const OTHER_TAG: &str = "1d5b4a70-9b63-4c3c-a0f7-6b2e9b1c5d0a";

fn extent(number: u64) -> Extent {
    Extent {
        offset: number * 128 * MIB,
        length: 128 * MIB,
    }
}

fn without_drivers(guest: &Guest) -> Result<()> {
    for (command, reason) in [
        (
            "create-region -t dc mem0",
            "no driver here makes regions over dynamic capacity",
        ),
        ("monitor", "no memdev here has dynamic capacity"),
        ("extents", "no memdev here has dynamic capacity"),
        ("extents region0", "there is no region region0"),
    ] {
        let output = guest.sh(&format!("cxlr {command}"))?;
        let said = output.failure()?;
        ensure(
            said.contains(reason) && said.contains("nothing was changed"),
            format!("cxlr {command} says: {said}"),
        )?;
    }
    Ok(())
}

/// Waits until the host has so many extents, all of them in use, and no others.
fn wait_for_extents(guest: &Guest, count: usize) -> Result<()> {
    guest.wait_for(&format!("{count} extents are in use"), || {
        let extents = guest.sh_ok("cxlr extents")?;
        let in_use = extents.lines().filter(|line| line.ends_with("in use"));
        Ok(in_use.count() == count && extents.lines().count() == count)
    })
}

/// The device's list is what was given, and the kernel uses all of it.
fn assert_books(manager: &Manager<'_>, guest: &Guest, numbers: &[u64], before: u64) -> Result<()> {
    let mut held = manager.held()?;
    held.sort_by_key(|extent| extent.dpa);
    let wanted: Vec<Held> = numbers
        .iter()
        .map(|number| Held {
            dpa: number * 128 * MIB,
            length: 128 * MIB,
            tag: None,
            sequence: 0,
        })
        .collect();
    ensure(held == wanted, format!("the device says: {held:?}"))?;
    let gained = total_memory(guest)? - before;
    let bytes = numbers.len() as u64 * 128 * MIB;
    ensure(
        gained << 10 == bytes,
        format!("{gained} KiB are usable, and {bytes} bytes were given"),
    )
}

fn given_and_given_back(guest: &Guest) -> Result<()> {
    let manager = Manager::new(guest, 0);
    let before = total_memory(guest)?;
    let created = guest.sh_ok("cxlr create-region -t dc 0x100 --online-type online_movable")?;
    ensure(
        created.contains("dc 2 GiB") && created.contains("extent by extent"),
        created,
    )?;
    assert_books(&manager, guest, &[], before)?;

    manager.add(None, &[extent(0), extent(5)])?;
    manager.add(None, &[extent(2)])?;
    wait_for_extents(guest, 3)?;
    assert_books(&manager, guest, &[0, 2, 5], before)?;
    let again = manager.add(None, &[extent(5)]);
    ensure(
        matches!(&again, Err(error) if error.to_string().contains("invalid extent list")),
        format!("what was given was offered once more: {again:?}"),
    )?;

    // The numbers are the order of acceptance; 0x28000000 is that of the sixth.
    let extents = guest.sh_ok("cxlr extents region0 --json")?;
    let number = extents
        .split("\"extent\"")
        .find(|text| text.contains("671088640"))
        .and_then(|text| text.split("\"id\": ").nth(1)?.split([',', '\n']).next())
        .ok_or_else(|| Error::test(format!("no extent at 0x28000000: {extents}")))?;
    guest.sh_ok(&format!("cxlr release-extents region0 --id {number}"))?;
    assert_books(&manager, guest, &[0, 2], before)?;

    manager.release(None, &[extent(0)])?;
    wait_for_extents(guest, 1)?;
    assert_books(&manager, guest, &[2], before)?;
    guest.sh_ok("cxlr release-extents region0")?;
    assert_books(&manager, guest, &[], before)?;
    guest.sh_ok("cxlr destroy-region region0").map(drop)
}

fn for_file_systems(guest: &Guest) -> Result<()> {
    let manager = Manager::new(guest, 0);
    guest.sh_ok("cxlr create-region -t dc 0x100 --driver devdax --dax-mode fsdev")?;
    manager.add(Some(TAG), &[extent(1), extent(4), extent(6)])?;
    manager.add(None, &[extent(2)])?;
    wait_for_extents(guest, 4)?;
    let drivers = || -> Result<Vec<String>> {
        let listed = guest.sh_ok("cxlr --json list")?;
        let words = listed.split("\"driver\": \"").skip(1);
        let words = words.filter_map(|rest| rest.split('"').next());
        Ok(words
            .filter(|driver| driver.ends_with("_dax"))
            .map(str::to_owned)
            .collect())
    };
    guest.wait_for("both devices have the driver for file systems", || {
        Ok(drivers()? == ["fsdev_dax", "fsdev_dax"])
    })?;
    ensure(
        tags_of_devices(guest)?.contains(&TAG.to_owned()),
        "no device has the tag",
    )?;
    manager.release(Some(TAG), &[extent(1), extent(4), extent(6)])?;
    wait_for_extents(guest, 1)?;
    guest.sh_ok("cxlr release-extents region0")?;
    ensure(
        manager.held()?.is_empty() && tags_of_devices(guest)?.is_empty(),
        "something stayed behind",
    )?;
    guest.sh_ok("cxlr destroy-region region0").map(drop)
}

fn reset(guest: &Guest) -> Result<()> {
    let manager = Manager::new(guest, 0);
    let before = total_memory(guest)?;
    let file = Hardware::find(guest)?.reset_file();
    guest.sh_ok("cxlr create-region -t dc 0x100")?;
    manager.add(None, &[extent(0), extent(5)])?;
    wait_for_extents(guest, 2)?;
    guest.write_refused(&file, "1", Errno::NOTTY)?;
    assert_books(&manager, guest, &[0, 5], before)?;
    guest.sh_ok("cxlr destroy-region region0")?;
    guest.write(&file, "1")?;

    guest.sh_ok("cxlr create-region -t dc 0x100")?;
    manager.add(None, &[extent(2)])?;
    wait_for_extents(guest, 3)?;
    assert_books(&manager, guest, &[0, 2, 5], before)?;
    manager.release(None, &[extent(0), extent(2), extent(5)])?;
    wait_for_extents(guest, 0)?;
    assert_books(&manager, guest, &[], before)?;
    guest.sh_ok("cxlr destroy-region region0").map(drop)
}

fn asked_back_without_a_region(guest: &Guest) -> Result<()> {
    let manager = Manager::new(guest, 0);
    let before = total_memory(guest)?;
    guest.sh_ok("cxlr create-region -t dc 0x100")?;
    manager.add(Some(TAG), &[extent(1), extent(2)])?;
    manager.add(None, &[extent(4)])?;
    wait_for_extents(guest, 3)?;
    guest.sh_ok("cxlr destroy-region region0")?;
    guest.sh_ok("rmmod cxl_regions && modprobe cxl_regions")?;
    for (tag, extents, left) in [
        (None, vec![extent(4)], 2),
        (Some(TAG), vec![extent(1), extent(2)], 0),
    ] {
        let log = Log::from_now(guest)?;
        manager.release(tag, &extents)?;
        // An offer of the same is refused as long as the device waits for its answer. Nobody can use this one.
        manager.add(None, &[extent(9)])?;
        log.wait_for("is refused: no region over dynamic capacity holds")?;
        let held = manager.held()?;
        ensure(
            held.len() == left,
            format!("the device still counts as the host's: {held:?}"),
        )?;
    }
    assert_books(&manager, guest, &[], before)
}

/// The tags of all dax devices that have memory. One that is just coming has its memory a moment before its tag.
fn tags_of_devices(guest: &Guest) -> Result<Vec<String>> {
    let seen = guest.look(&["/sys/bus/dax/devices/*/size", "/sys/bus/dax/devices/*/uuid"])?;
    let tag = |(file, size): (&String, &Option<String>)| {
        let device = file.strip_suffix("/size")?;
        let has_memory = size.as_deref()? != "0";
        seen.get(&format!("{device}/uuid"))
            .filter(|_| has_memory)?
            .clone()
    };
    Ok(seen.iter().filter_map(tag).collect())
}

fn wait_for_devices(guest: &Guest, wanted: &[&str]) -> Result<()> {
    guest.wait_for(&format!("the devices have the tags {wanted:?}"), || {
        let mut tags = tags_of_devices(guest)?;
        tags.sort();
        Ok(tags == wanted)
    })
}

fn tagged_memory(guest: &Guest) -> Result<()> {
    let manager = Manager::new(guest, 0);
    let before = total_memory(guest)?;
    guest.sh_ok("cxlr create-region -t dc 0x100")?;
    let monitor = guest.start(guest::program(&["cxlr", "--json", "monitor"]))?;
    manager.add(Some(TAG), &[extent(1), extent(4), extent(6)])?;
    manager.add(Some(OTHER_TAG), &[extent(2)])?;
    wait_for_extents(guest, 4)?;
    wait_for_devices(guest, &[OTHER_TAG, TAG])?;
    ensure(
        total_memory(guest)? - before == (4 * 128 * MIB) >> 10,
        "not all memory of both tags is usable",
    )?;
    let list = guest.sh_ok("cxlr list")?;
    ensure(
        list.matches(&format!("tag {TAG}")).count() == 4,
        format!("three extents and a device have the tag: {list}"),
    )?;
    manager.release(Some(TAG), &[extent(1), extent(4), extent(6)])?;
    wait_for_extents(guest, 1)?;
    wait_for_devices(guest, &[OTHER_TAG])?;
    guest.sh_ok(&format!("cxlr release-extents region0 --tag {OTHER_TAG}"))?;
    assert_books(&manager, guest, &[], before)?;
    guest.sh_ok("cxlr destroy-region region0")?;

    let said = stop(monitor)?;
    // It may have begun to look when the first were there.
    for events in [["added", "present"], ["removed", "removed"]] {
        let is_one = |line: &&str| {
            let mut words = events.iter();
            words.any(|event| line.contains(&format!("\"event\":\"{event}\"")))
        };
        ensure(
            said.lines().filter(is_one).count() == 4,
            format!("four extents were {}: {said}", events[0]),
        )?;
    }
    Ok(())
}

fn shared_order(guest: &Guest) -> Result<()> {
    let manager = Manager::new(guest, 0);
    guest.sh_ok("cxlr create-region -t dc 0x100 --driver devdax")?;
    manager.add_shared(TAG, &[(2, extent(1)), (3, extent(0)), (1, extent(5))])?;
    wait_for_devices(guest, &[TAG])?;
    let pages = guest.sh_ok(
        "d=$(dirname $(grep -l 5be1 /sys/bus/dax/devices/*/uuid)); for m in 0 1 2; do echo $(($(cat $d/mapping$m/start) - $(cat /sys/bus/cxl/devices/region0/resource))); done",
    )?;
    let wanted = [5, 1, 0].map(|number: u64| (number * 128 * MIB).to_string());
    ensure(
        pages.lines().eq(wanted.iter().map(String::as_str)),
        format!("the ranges are not in the order of their sequence: {pages}"),
    )?;
    // Another offer of the same tag is refused, and what there is stays.
    let monitor = guest.start(guest::program(&["cxlr", "monitor"]))?;
    wait_until_said(&monitor, |said| said.matches("  present").count() == 3)?;
    let log = Log::from_now(guest)?;
    manager.add(Some(TAG), &[extent(9)])?;
    log.wait_for("is refused")?;
    let refused = format!("an offer: tag {TAG} is in use");
    wait_until_said(&monitor, |said| said.contains(&refused))?;
    stop(monitor)?;
    ensure(
        guest
            .sh_ok("cxlr list")?
            .contains(&format!("last refusal: tag {TAG} is in use")),
        "the list does not tell why the offer was refused",
    )?;
    ensure(
        manager.held()?.len() == 3 && tags_of_devices(guest)? == [TAG],
        "a second set has the tag of the first",
    )?;
    manager.release(Some(TAG), &[extent(0), extent(1), extent(5)])?;
    wait_for_devices(guest, &[])?;
    wait_for_extents(guest, 0)?;
    guest.sh_ok("cxlr destroy-region region0").map(drop)
}

/// Interrupts a program. Returns what it printed since somebody listened.
fn stop(running: Running<'_>) -> Result<String> {
    let gone = |error| Error::test(format!("the guest is gone: {error}"));
    running.control().signal(2).map_err(gone)?;
    Ok(running.output(guest::HANG)?.stdout)
}

/// Waits until `enough` holds for what a program has printed from now on.
fn wait_until_said(running: &Running<'_>, enough: impl Fn(&str) -> bool) -> Result<()> {
    let mut said = String::new();
    while !enough(&said) {
        match running.next(Some(guest::HANG))? {
            Step::Output(_, data) => said.push_str(&String::from_utf8_lossy(&data)),
            Step::Ended(end) => {
                return Err(Error::test(format!("it ended ({end:?}) and said: {said}")));
            }
        }
    }
    Ok(())
}

fn one_tag(guest: &Guest) -> Result<()> {
    let one = Manager::new(guest, 0);
    let other = one.behind(1);
    for memdev in ["0x100", "0x101"] {
        guest.sh_ok(&format!(
            "cxlr create-region -t dc {memdev} --driver devdax"
        ))?;
    }
    one.add(Some(TAG), &[extent(0)])?;
    wait_for_devices(guest, &[TAG])?;
    let log = Log::from_now(guest)?;
    other.add(Some(TAG), &[extent(3)])?;
    log.wait_for("is in use")?;
    ensure(
        other.held()?.is_empty() && tags_of_devices(guest)? == [TAG],
        "two devices have the same tag",
    )?;
    one.release(Some(TAG), &[extent(0)])?;
    wait_for_devices(guest, &[])?;
    wait_for_extents(guest, 0)?;
    other.add(Some(TAG), &[extent(3)])?;
    wait_for_devices(guest, &[TAG])?;
    other.release(Some(TAG), &[extent(3)])?;
    wait_for_extents(guest, 0)?;
    guest
        .sh_ok("cxlr destroy-region region0 && cxlr destroy-region region1")
        .map(drop)
}

fn two_hosts(one: &Guest, other: &Guest) -> Result<()> {
    let mut nodes = Vec::new();
    for guest in [one, other] {
        guest.sh_ok("cxlr create-region -t dc 0x100 --driver devdax")?;
        Manager::new(guest, 0).add_shared(TAG, &[(1, extent(3)), (2, extent(1))])?;
        wait_for_devices(guest, &[TAG])?;
        guest.sh_ok("udevadm settle")?;
        let node =
            guest.sh_ok("basename $(dirname $(grep -l 5be1 /sys/bus/dax/devices/*/uuid))")?;
        nodes.push(format!("/dev/{}", node.trim()));
    }
    let tell = |number: usize, word: &str| {
        let guest = [one, other][number];
        guest.sh_ok(&format!(
            "echo '{word}' | /init map {} | tail -n1",
            nodes[number]
        ))
    };
    for (writer, reader) in [(0, 1), (1, 0)] {
        let text = format!("written by {writer}");
        tell(writer, &format!("put {text}"))?;
        let read = tell(reader, "get")?;
        ensure(
            read.trim() == text,
            format!(
                "the one wrote '{text}', and the other reads '{}'",
                read.trim()
            ),
        )?;
    }
    Ok(())
}
