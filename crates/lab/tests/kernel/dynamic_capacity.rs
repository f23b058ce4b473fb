// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dynamic capacity: what the fabric offers becomes memory of a region, extent by extent, and goes back when it is wanted;
//! what nobody can use is refused, and every offer is answered.

use std::collections::BTreeSet;

use lab::Guest;
use lab::Result;
use lab::fabric::DcRegion;
use lab::fabric::Extent;
use lab::suite::Test;
use lab::topology::MIB;
use lab_protocol::End;
use rustix::io::Errno;

use crate::capacity_in_use::give_back_behind_the_back;
use crate::data::Data;
use crate::support::CXL;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;
use crate::witness::Witness;

/// The serial number of the device in every topology here.
pub const SERIAL: u64 = 0x100;

/// What the kernel logs of an offer that nobody can use.
const REFUSED: &str = "is refused: no region over dynamic capacity holds";

/// The node of its memory.
pub const NODE: u32 = 1;

/// The state of an extent that is memory.
pub const IN_USE: &str = "in use";

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "dynamic_capacity: extents become system RAM one by one, under the region's policy, and go back one by one",
            loaded("dc"),
            come_and_go,
        ),
        Test::new(
            "dynamic_capacity: nobody but our drivers takes such a region, and no kernel zone unless it is allowed",
            loaded("dc"),
            kept_to_ourselves,
        ),
        Test::new(
            "dynamic_capacity: a user gives an extent back",
            loaded("dc"),
            given_back,
        ),
        Test::new(
            "dynamic_capacity: what a region leaves is there for the next one, and the fabric gets it when it asks",
            loaded("dc"),
            parked,
        ),
        Test::new(
            "dynamic_capacity: of two regions over one device each has its extents, and neither disturbs the other",
            loaded("dc-static"),
            two_regions,
        ),
        Test::new(
            "dynamic_capacity: what was taken while no region was there is not memory of the next",
            loaded("dc"),
            parked_and_taken,
        ),
        Test::new(
            "dynamic_capacity: what the host has from before is kept and can be given back, and no decoder goes below memory",
            loaded("dc"),
            from_before,
        ),
        Test::new(
            "dynamic_capacity: extents that are offered together are one device to map, which stays while it is open",
            loaded("dc"),
            mapped,
        ),
        Test::new(
            "dynamic_capacity: an offer that nobody can use is refused, and keeps no other waiting",
            loaded("dc"),
            refused_one_by_one,
        ),
        Test::new(
            "dynamic_capacity: an offer that overflows the event log is refused as a whole",
            loaded("dc"),
            overflow,
        ),
        Test::new(
            "dynamic_capacity: what was offered while the module was away is answered later",
            loaded("dc"),
            module_away,
        ),
        Test::new(
            "dynamic_capacity: every region of a device is looked after",
            loaded("dc-two"),
            |guest| refused_in(guest, 1),
        ),
        Test::new(
            "dynamic_capacity: a device is looked after that has static memory as well",
            loaded("dc-static"),
            beside_static_memory,
        ),
        Test::new(
            "dynamic_capacity: no driver takes it for static memory, whatever mode its decoder is given",
            loaded("dc-static"),
            mislabelled,
        ),
        Test::new(
            "dynamic_capacity: a device is looked after behind a switch that a fabric manager commands",
            loaded("dc-switch"),
            |guest| refused_in(guest, 0),
        ),
    ]
}

pub fn extent(number: u64) -> Extent {
    Extent {
        offset: number * 128 * MIB,
        length: 128 * MIB,
    }
}

/// Commits a region over all dynamic capacity of the device, by hand as docs/abi tells.
fn committed(guest: &Guest) -> Result<Region<'_>> {
    committed_as(guest, "dc", "dynamic_ram_a")
}

/// The same, as a region of another `kind` whose decoder is given another `mode` behind its capacity.
fn committed_as<'g>(guest: &'g Guest, kind: &str, mode: &str) -> Result<Region<'g>> {
    let name = guest.sh_ok(&format!(
        "set -e
        cd /sys/bus/cxl/devices
        memdev=$(dirname mem*/dynamic_ram_a)
        size=$(cat $memdev/dynamic_ram_a/size)
        root=$(dirname decoder*/create_dc_region)
        region=$(cat $root/create_{kind}_region)
        echo $region > $root/create_{kind}_region
        echo 256 > $region/interleave_granularity
        echo 1 > $region/interleave_ways
        echo $size > $region/size
        for endpoint in endpoint*; do
            test $endpoint/uport -ef $memdev && break
        done
        decoder=$(basename $(ls -d $endpoint/decoder*.0))
        echo $decoder > $memdev/dynamic_ram_a/decoder
        test \"$(cat $decoder/mode)\" = dynamic_ram_a
        echo $size > $decoder/dpa_size
        if [ {mode} != dynamic_ram_a ]; then echo {mode} > $decoder/mode; fi
        echo $decoder > $region/target0
        echo 1 > $region/commit
        echo $region"
    ))?;
    Region::named(guest, name.trim())
}

/// The same, with its extents as movable system RAM.
pub fn sysram(guest: &Guest) -> Result<Region<'_>> {
    let region = committed(guest)?;
    region.bind("cxl_sysram_region")?;
    guest.write(&region.online_type(), "online_movable")?;
    region.bind_kmem()?;
    Ok(region)
}

/// Unbinds the region, and gives all back that its decoders need.
pub fn destroy(guest: &Guest, region: &Region<'_>) -> Result<()> {
    let name = region.name();
    guest
        .sh_ok(&format!(
            "set -e
            cd {CXL}
            if test -e {name}/driver; then echo {name} > {name}/driver/unbind; fi
            decoder=$(cat {name}/target0)
            root=$(dirname decoder*/create_dc_region)
            echo 0 > {name}/commit
            echo > {name}/target0
            echo {name} > $root/delete_region
            echo 0 > $decoder/dpa_size"
        ))
        .map(drop)
}

/// What these files of each extent of `region` read, in one line for each extent.
pub fn extents(guest: &Guest, region: &Region<'_>, files: &[&str]) -> Result<Vec<String>> {
    let path = |file: &&str| extent_file(region, file);
    let paths: Vec<String> = files.iter().map(path).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let seen = guest.look(&paths)?;
    let extents: BTreeSet<&str> = seen
        .keys()
        .filter_map(|path| Some(path.rsplit_once('/')?.0))
        .collect();
    // One that goes meanwhile has not all of the files.
    let line = |extent: &str| {
        let value = |file: &&str| seen.get(&format!("{extent}/{file}"))?.as_deref();
        let values: Option<Vec<&str>> = files.iter().map(value).collect();
        Some(values?.join(" "))
    };
    Ok(extents.into_iter().filter_map(line).collect())
}

/// The extents of `region` as [`line`] writes them.
pub fn listed(guest: &Guest, region: &Region<'_>) -> Result<Vec<String>> {
    extents(guest, region, &["offset", "length", "state"])
}

/// This file of all extents of `region`, as a pattern.
pub fn extent_file(region: &Region<'_>, file: &str) -> String {
    let number = region.name().replace("region", "");
    format!("{CXL}/extent{number}.*/{file}")
}

pub fn line(extent: &Extent, state: &str) -> String {
    format!("{:#x} {:#x} {state}", extent.offset, extent.length)
}

/// Waits until these are all extents of `region`, and all of them in use.
pub fn wait_until_in_use(guest: &Guest, region: &Region<'_>, wanted: &[Extent]) -> Result<()> {
    let mut wanted: Vec<String> = wanted.iter().map(|extent| line(extent, IN_USE)).collect();
    wanted.sort();
    guest.wait_for(&format!("the extents are {wanted:?}"), || {
        let mut held = listed(guest, region)?;
        held.sort();
        Ok(held == wanted)
    })
}

/// The same, and fails unless each is a device of system RAM.
pub fn wait_until_held(guest: &Guest, region: &Region<'_>, wanted: &[Extent]) -> Result<()> {
    wait_until_in_use(guest, region, wanted)?;
    assert_memory(guest, region, wanted.len())
}

/// Fails unless exactly so many extents of one block each are online, in the movable zone, each as a device of its own.
fn assert_memory(guest: &Guest, region: &Region<'_>, count: usize) -> Result<()> {
    let zones = region.zones()?;
    let movable = zones.iter().filter(|zone| *zone == "Movable").count();
    let absent = zones.iter().filter(|zone| *zone == "absent").count();
    ensure(
        movable == count && movable + absent == zones.len(),
        format!("{count} blocks should be movable, and the others absent: {zones:?}"),
    )?;
    let states = device_states(guest)?;
    ensure(
        states == vec!["online_movable"; count],
        format!("{count} devices should be movable: {states:?}"),
    )
}

/// What `kmem` says of the devices that it has.
pub fn device_states(guest: &Guest) -> Result<Vec<String>> {
    let seen = guest.look(&["/sys/bus/dax/devices/*/state"])?;
    Ok(seen.into_values().flatten().collect())
}

/// The name of the only DAX device that has memory.
pub fn only_device(guest: &Guest) -> Result<String> {
    let name = guest
        .sh_ok("udevadm settle; daxctl list -D | jq -r '.[] | select(.size > 0) | .chardev'")?;
    Ok(name.trim().to_owned())
}

fn come_and_go(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    assert_memory(guest, &region, 0)?;

    fabric.add(&[extent(1), extent(3), extent(6)])?;
    wait_until_held(guest, &region, &[extent(1), extent(3), extent(6)])?;
    fabric.add(&[extent(4)])?;
    wait_until_held(
        guest,
        &region,
        &[extent(1), extent(3), extent(4), extent(6)],
    )?;
    fabric.release(&[extent(3)])?;
    wait_until_held(guest, &region, &[extent(1), extent(4), extent(6)])?;

    // Not on the boundary of a memory block, and not whole ones.
    let log = Log::from_now(guest)?;
    fabric.add(&[
        extent(8),
        Extent {
            offset: 10 * 128 * MIB + 2 * MIB,
            length: 128 * MIB,
        },
        Extent {
            offset: 12 * 128 * MIB,
            length: 2 * MIB,
        },
    ])?;
    log.wait_for("an offer of 2 extents is refused")?;
    log.assert_line(&[
        "is refused",
        "is not made of whole units of 0x8000000 bytes",
    ])?;
    wait_until_held(
        guest,
        &region,
        &[extent(1), extent(4), extent(6), extent(8)],
    )?;

    fabric.release(&[extent(1), extent(6)])?;
    wait_until_held(guest, &region, &[extent(4), extent(8)])?;
    // What was given back can be offered again.
    fabric.add(&[extent(6)])?;
    wait_until_held(guest, &region, &[extent(4), extent(6), extent(8)])?;
    fabric.release(&[extent(4), extent(6), extent(8)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

fn kept_to_ourselves(guest: &Guest) -> Result<()> {
    let region = committed(guest)?;
    let bind = format!("{DRIVERS}/cxl_region/bind");
    guest.write_refused(&bind, &region.name(), Errno::NXIO)?;
    region.bind("cxl_sysram_region")?;
    let allow = format!("{}/sysram_region0/allow_kernel_zones", region.path());
    for policy in ["online", "online_kernel", "offline"] {
        let log = Log::from_now(guest)?;
        guest.write_refused(&region.online_type(), policy, Errno::PERM)?;
        log.assert_line(&[&region.name(), policy, "allow_kernel_zones"])?;
    }
    guest.write(&allow, "1")?;
    guest.write(&region.online_type(), "online_kernel")?;
    guest.write_refused(&allow, "0", Errno::BUSY)?;
    guest.write(&region.online_type(), "online_movable")?;
    guest.write(&allow, "0")?;
    region.bind_kmem()?;
    // Nobody makes devices of memory that is not there.
    let pool = format!("{}/sysram_region0/dax_region0", region.path());
    for file in ["create", "delete"] {
        ensure(
            guest.sh(&format!("test -e {pool}/dax_region/{file}"))?.end != End::Exited(0),
            format!("dax_region/{file} is there: devices are the fabric's"),
        )?;
    }
    let fabric = DcRegion::new(guest, SERIAL, 0);
    fabric.add(&[extent(2)])?;
    wait_until_held(guest, &region, &[extent(2)])?;
    for file in ["size", "mapping"] {
        for device in ["dax0.0", "dax0.1"] {
            let path = format!("{pool}/{device}/{file}");
            ensure(
                guest.write(&path, "0x20000000").is_err(),
                format!("{path} can be written"),
            )?;
        }
    }
    // The decoders stay as long as there may be memory.
    guest.write_refused(&format!("{}/commit", region.path()), "0", Errno::PERM)?;
    fabric.release(&[extent(2)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

fn given_back(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(0), extent(5)])?;
    wait_until_held(guest, &region, &[extent(0), extent(5)])?;
    let release = guest.sh_ok(&format!(
        "grep -l -x {:#x} {}/sysram_region0/dax_region0/extent*/offset",
        extent(5).offset,
        region.path()
    ))?;
    let release = release.trim().replace("/offset", "/release");
    guest.write_refused(&release, "2", Errno::INVAL)?;
    guest.write(&release, "1")?;
    wait_until_held(guest, &region, &[extent(0)])?;
    ensure(
        fabric.release(&[extent(5)]).is_err(),
        "what was given back counts as the guest's",
    )?;
    fabric.release(&[extent(0)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

fn parked(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(0), extent(5), extent(7)])?;
    wait_until_held(guest, &region, &[extent(0), extent(5), extent(7)])?;
    region.unbind_kmem()?;
    region.assert_all("absent")?;
    // Without a region there is no memory, and the fabric gets what it asks for.
    fabric.release(&[extent(5)])?;
    region.bind_kmem()?;
    wait_until_held(guest, &region, &[extent(0), extent(7)])?;
    destroy(guest, &region)?;
    let region = sysram(guest)?;
    wait_until_held(guest, &region, &[extent(0), extent(7)])?;
    fabric.release(&[extent(0), extent(7)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

/// The first half of the device is one's, the second the other's.
fn two_regions(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let create =
        || guest.sh_ok("cxlr create-region -t dc 0x100 -s 1G --online-type online_movable");
    create()?;
    let first = Region::named(guest, "region0")?;
    fabric.add(&[extent(0), extent(5)])?;
    wait_until_held(guest, &first, &[extent(0), extent(5)])?;
    let data = Data::put(guest, NODE)?;
    let witness = Witness::start(guest)?;
    create()?;
    let second = Region::named(guest, "region1")?;
    fabric.add(&[extent(9)])?;
    // Of the second region, by its beginning.
    let shown = line(&extent(1), IN_USE);
    guest.wait_for("the second region has its extent", || {
        Ok(listed(guest, &second)? == [shown.clone()])
    })?;
    guest.sh_ok("cxlr destroy-region region1 && udevadm settle")?;
    create()?;
    guest.wait_for("the second region has its extent again", || {
        Ok(listed(guest, &second)? == [shown.clone()])
    })?;
    let changes = witness.take(&first.blocks()?)?;
    ensure(
        changes.is_empty(),
        format!("the memory of the first region was moved: {changes:?}"),
    )?;
    witness.stop()?;
    data.assert_intact()?;
    data.remove()?;
    fabric.release(&[extent(9)])?;
    guest.wait_for("the second region has nothing", || {
        Ok(listed(guest, &second)?.is_empty())
    })?;
    fabric.release(&[extent(0), extent(5)])?;
    wait_until_held(guest, &first, &[])?;
    guest
        .sh_ok("cxlr destroy-region region1 && cxlr destroy-region region0")
        .map(drop)
}

/// Nobody tells of it, as nobody tells of a reset.
fn parked_and_taken(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(1), extent(6)])?;
    wait_until_held(guest, &region, &[extent(1), extent(6)])?;
    region.unbind_kmem()?;
    give_back_behind_the_back(guest, extent(1))?;
    let witness = Witness::start(guest)?;
    region.bind_kmem()?;
    wait_until_held(guest, &region, &[extent(6)])?;
    let taken = region.blocks()?[1];
    let changes = witness.take(&[taken])?;
    ensure(
        changes.is_empty(),
        format!("memory that is somebody else's was in use: {changes:?}"),
    )?;
    witness.stop()?;
    fabric.release(&[extent(6)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

/// The device forgets tags, so nobody knows to what belongs what it lists.
fn from_before(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let memdev = guest.sh_ok("basename /sys/bus/cxl/devices/mem?")?;
    let memdev = memdev.trim();
    let region = sysram(guest)?;
    fabric.add(&[extent(0), extent(1)])?;
    wait_until_held(guest, &region, &[extent(0), extent(1)])?;
    destroy(guest, &region)?;
    guest.sh_ok("rmmod cxl_regions && modprobe cxl_regions")?;
    given_back_by_hand(guest, &[extent(0), extent(1)])?;

    // With the memdev goes the region, and its memory before.
    let region = sysram(guest)?;
    fabric.add(&[extent(3)])?;
    wait_until_held(guest, &region, &[extent(3)])?;
    let data = Data::put(guest, NODE)?;
    guest.write(&format!("{DRIVERS}/cxl_mem/unbind"), memdev)?;
    data.assert_intact()?;
    data.remove()?;
    region.assert_all("absent")?;
    let name = region.name();
    guest.sh_ok(&format!(
        "echo {name} > $(echo {CXL}/decoder*/delete_region)"
    ))?;
    guest.write(&format!("{DRIVERS}/cxl_mem/bind"), memdev)?;
    given_back_by_hand(guest, &[extent(3)])
}

/// Fails unless these are all extents that the host has from before; gives them back.
fn given_back_by_hand(guest: &Guest, kept: &[Extent]) -> Result<()> {
    let region = sysram(guest)?;
    let wanted: Vec<String> = kept.iter().map(|extent| line(extent, "kept")).collect();
    guest.wait_for(&format!("the extents are {wanted:?}"), || {
        let mut listed = listed(guest, &region)?;
        listed.sort();
        Ok(listed == wanted)
    })?;
    assert_memory(guest, &region, 0)?;
    guest.sh_ok(&format!(
        "for e in {}/sysram_region0/dax_region0/extent*; do echo 1 > $e/release; done",
        region.path()
    ))?;
    wait_until_held(guest, &region, &[])?;
    // The fabric can offer them again.
    let fabric = DcRegion::new(guest, SERIAL, 0);
    fabric.add(kept)?;
    wait_until_held(guest, &region, kept)?;
    fabric.release(kept)?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

/// A committed region whose extents applications map.
pub fn devdax(guest: &Guest) -> Result<Region<'_>> {
    let region = committed(guest)?;
    region.bind("cxl_devdax_region")?;
    guest.write(&format!("{}/dax_region0/dax_mode", region.path()), "devdax")?;
    guest.write(
        &format!("{DRIVERS}/cxl_dax_device_region/bind"),
        "dax_region0",
    )?;
    Ok(region)
}

/// Not whole memory blocks: nobody needs those to map them.
pub fn small(number: u64) -> Extent {
    Extent {
        offset: number * 32 * MIB,
        length: 16 * MIB,
    }
}

fn mapped(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = devdax(guest)?;
    let dax_region = format!("{}/dax_region0", region.path());
    fabric.add(&[small(3), small(1), small(2)])?;
    fabric.add(&[small(7)])?;
    let sizes = format!(
        "for d in {dax_region}/dax0.*; do echo $(cat $d/size) $(ls -d $d/mapping* | wc -l) $(cat $d/uuid); done | sort"
    );
    let untagged = "00000000-0000-0000-0000-000000000000";
    let devices = |wanted: &[(u64, u64)]| -> Result<()> {
        let wanted: Vec<String> = wanted
            .iter()
            .map(|(bytes, ranges)| format!("{bytes} {ranges} {untagged}"))
            .collect();
        guest.wait_for(&format!("the devices are {wanted:?}"), || {
            let text = guest.sh_ok(&format!("({sizes}) 2>/dev/null; true"))?;
            let shown: Vec<&str> = text
                .lines()
                .filter(|line| !line.starts_with("0 "))
                .collect();
            Ok(shown == wanted)
        })
    };
    devices(&[(16 * MIB, 1), (48 * MIB, 3)])?;
    // In the order of the offer, since they have no sequence.
    let starts = guest.sh_ok(&format!(
        "d=$(dirname $(grep -l -x {} {dax_region}/dax0.*/size)); for m in 0 1 2; do cat $d/mapping$m/start; done; basename $d",
        48 * MIB
    ))?;
    let base = guest.read(&format!("{}/resource", region.path()))?;
    let base = u64::from_str_radix(base.trim_start_matches("0x"), 16).unwrap_or(0);
    let mut lines = starts.lines();
    for number in [3, 1, 2] {
        let wanted = format!("{:#x}", base + small(number).offset);
        ensure(
            lines.next() == Some(&wanted),
            format!("the ranges are not in the order of the offer: {starts}"),
        )?;
    }
    let path = format!("/dev/{}", lines.next().unwrap_or("?"));
    guest.wait_for("the device can be opened", || {
        Ok(guest
            .sh_ok(&format!("test -c {path} && echo yes || true"))?
            .contains("yes"))
    })?;
    // It is asked back while somebody has it open, and goes when nobody has.
    guest.sh_ok(&format!("sleep infinity < {path} & echo $! > /tmp/holder"))?;
    fabric.release(&[small(7)])?;
    devices(&[(48 * MIB, 3)])?;
    fabric.release(&[small(3), small(1), small(2)])?;
    guest.wait_for("the set is leaving", || {
        let states = guest.sh_ok(&format!("cat {dax_region}/extent*/state"))?;
        Ok(states.lines().all(|state| state == "leaving"))
    })?;
    devices(&[(48 * MIB, 3)])?;
    guest.sh_ok("kill $(cat /tmp/holder)")?;
    devices(&[])?;
    destroy(guest, &region)
}

/// Has our module look after the device: it does so from the first region over it on.
fn wake(guest: &Guest) -> Result<()> {
    let region = sysram(guest)?;
    destroy(guest, &region)
}

/// QEMU refuses to offer what still waits for an answer, so an offer that is made again was answered.
fn refused_one_by_one(guest: &Guest) -> Result<()> {
    wake(guest)?;
    let region = DcRegion::new(guest, SERIAL, 0);
    for _ in 0..5 {
        let log = Log::from_now(guest)?;
        region.add(&[extent(1)])?;
        log.wait_for(REFUSED)?;
    }
    let log = Log::from_now(guest)?;
    region.add(&[extent(1), extent(3), extent(4)])?;
    log.wait_for("an offer of 3 extents is refused")?;
    // The device counts nothing as ours, so it has nothing to ask back.
    ensure(
        region.release(&[extent(1)]).is_err(),
        "what was refused counts as the guest's",
    )
}

fn overflow(guest: &Guest) -> Result<()> {
    wake(guest)?;
    let region = DcRegion::new(guest, SERIAL, 0);
    let many: Vec<Extent> = (0..12).map(extent).collect();
    for _ in 0..2 {
        let log = Log::from_now(guest)?;
        region.add(&many)?;
        log.wait_for("an offer is refused: the event log overflowed")?;
    }
    let log = Log::from_now(guest)?;
    region.add(&[extent(0)])?;
    log.wait_for(REFUSED)
}

/// Nothing is done to the device until a region is bound, and then all that was offered before is answered.
fn module_away(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    guest.sh_ok("rmmod cxl_regions")?;
    fabric.add(&[extent(1)])?;
    // More than the log holds: nobody will ever know of the last one.
    let many: Vec<Extent> = (2..12).map(extent).collect();
    fabric.add(&many)?;
    fabric.add(&[extent(12)])?;
    guest.sh_ok("modprobe cxl_regions")?;
    let log = Log::from_now(guest)?;
    let region = sysram(guest)?;
    // The first is complete, and nobody knows what came after the log was full. That is told of when all have been
    // answered.
    log.wait_for("an offer is refused: the event log overflowed")?;
    wait_until_held(guest, &region, &[extent(1)])?;
    for number in [2, 12] {
        fabric.add(&[extent(number)])?;
    }
    wait_until_held(guest, &region, &[extent(1), extent(2), extent(12)])?;
    fabric.release(&[extent(1), extent(2), extent(12)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

fn refused_in(guest: &Guest, number: u8) -> Result<()> {
    wake(guest)?;
    for number in 0..=number {
        let region = DcRegion::new(guest, SERIAL, number);
        for _ in 0..2 {
            let log = Log::from_now(guest)?;
            region.add(&[extent(1)])?;
            log.wait_for(REFUSED)?;
        }
    }
    Ok(())
}

/// The region over dynamic capacity comes after one over static memory, on the same device.
fn beside_static_memory(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(3)])?;
    wait_until_held(guest, &region, &[extent(3)])?;
    fabric.release(&[extent(3)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

/// The core looks at the mode of a decoder and not at its capacity.
fn mislabelled(guest: &Guest) -> Result<()> {
    let region = committed_as(guest, "ram", "ram")?;
    let log = Log::from_now(guest)?;
    for driver in ["cxl_region", "cxl_sysram_region", "cxl_devdax_region"] {
        let bind = format!("{DRIVERS}/{driver}/bind");
        guest.write_refused(&bind, &region.name(), Errno::NXIO)?;
    }
    log.assert_line(&[&region.name(), "has dynamic capacity"])?;
    region.assert_all("absent")?;
    destroy(guest, &region)
}
