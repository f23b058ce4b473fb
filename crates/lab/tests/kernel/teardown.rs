// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions in use are taken apart in every way: no byte is lost that could be moved, memory that cannot go keeps its
//! decoders, and there is a way back.
//!
//! The host bridge has decoders, but for one test: one that passes everything through cannot assemble a region again that lost
//! its memdev.

use std::collections::BTreeMap;

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::suite::Test;
use rustix::io::Errno;

use crate::data::Data;
use crate::fault::Fault;
use crate::support::CXL;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::total_memory;
use crate::ways;
use crate::ways::Hardware;
use crate::ways::Scene;
use crate::ways::Way;

/// The node of the region's memory.
const NODE: u32 = 1;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for way in ways::BINDINGS.into_iter().chain(ways::DECODERS) {
        let name = way.name;
        tests.push(Test::new(
            format!("teardown: {name} moves data out of movable memory first, whole"),
            loaded("one-hdm"),
            move |guest| movable(guest, way),
        ));
        tests.push(Test::new(
            format!("teardown: {name} while memory cannot go leaves it working, with a way back"),
            loaded("one-hdm"),
            move |guest| stuck(guest, way),
        ));
    }
    tests.push(Test::new(
        "teardown: a device without memory in use can be reset, and works",
        loaded("one-hdm"),
        reset_when_free,
    ));
    tests.push(Test::new(
        "teardown: a device that was reset between the two steps of binding brings no memory online",
        loaded("one-hdm"),
        reset_between,
    ));
    tests.push(Test::new(
        "teardown: a region stays decoded as long as one is in use that follows it on the same device",
        loaded("one-hdm"),
        preceding,
    ));
    tests.push(
        Test::new(
            "teardown: memory that cannot go below a host bridge without decoders stays, and nothing can take it apart",
            loaded("one"),
            without_a_way_back,
        )
        .last(),
    );
    tests.push(Test::new(
        "teardown: a memdev that goes takes the memory of all its regions out first",
        loaded("one-hdm"),
        two_regions,
    ));
    tests.push(Test::new(
        "teardown: a region that the core makes anew over memory that stayed behind cannot be taken apart either",
        loaded("one-hdm"),
        made_anew,
    ));
    tests.push(Test::new(
        "teardown: a region that is given the decoder of memory that stayed behind gets no driver, and can be undone",
        loaded("one-hdm"),
        next_region,
    ));
    tests.push(
        Test::new(
            "teardown: kernel data in a region survives every way to take the region apart, one after the other",
            loaded("one-hdm"),
            kernel_zone,
        )
        .last(),
    );
    tests
}

fn scene(guest: &Guest) -> Result<Scene<'_>> {
    let hardware = Hardware::find(guest)?;
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    region.assert_all("Movable")?;
    Ok(Scene {
        guest,
        region,
        hardware,
    })
}

/// Whether somebody's way was refused: then the region is as it was.
fn is_intact(scene: &Scene<'_>) -> bool {
    scene.guest.read(&scene.region.state()).is_ok()
}

fn movable(guest: &Guest, way: Way) -> Result<()> {
    let before = total_memory(guest)?;
    let scene = scene(guest)?;
    let blocks = scene.region.blocks()?;
    let data = Data::put(guest, NODE)?;

    (way.take)(&scene)?;
    data.assert_intact()?;
    if is_intact(&scene) {
        scene.region.assert_all("Movable")?;
    } else {
        assert_gone(guest, &blocks)?;
        ensure(
            total_memory(guest)? == before,
            "the region's memory left something behind in MemTotal",
        )?;
    }

    scene.hardware.settle()?;
    (way.back)(&scene)?;
    scene.hardware.wait_until_whole()?;
    data.assert_intact()?;
    data.remove()?;
    discard_all(guest)?;
    works_again(guest)
}

/// That it cannot be reset otherwise is one of the ways.
fn reset_when_free(guest: &Guest) -> Result<()> {
    let reset = Hardware::find(guest)?.reset_file();
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    guest.write_refused(&reset, "1", Errno::NOTTY)?;
    region.destroy()?;
    guest.write(&reset, "1")?;
    works_again(guest)?;

    let region = Region::committed(guest, "0x100")?;
    guest.sh_ok(&format!("cxlr bind {} --driver devdax", region.name()))?;
    guest.write_refused(&reset, "1", Errno::NOTTY)?;
    region.destroy()?;
    guest.write(&reset, "1")?;
    works_again(guest)
}

/// The core does not notice that its decoders were cleared.
fn reset_between(guest: &Guest) -> Result<()> {
    let hardware = Hardware::find(guest)?;
    let reset = hardware.reset_file();
    for (driver, file, word, next) in [
        (
            "cxl_sysram_region",
            "sysram_region",
            ("online_type", "online_movable"),
            "cxl_dax_kmem_region",
        ),
        (
            "cxl_devdax_region",
            "dax_region",
            ("dax_mode", "devdax"),
            "cxl_dax_device_region",
        ),
    ] {
        let region = Region::committed(guest, "0x100")?;
        region.bind(driver)?;
        let device = region.name().replace("region", file);
        let (file, word) = word;
        guest.write(&format!("{}/{device}/{file}", region.path()), word)?;
        guest.write(&reset, "1")?;
        let bind = format!("{DRIVERS}/{next}/bind");
        guest.write_refused(&bind, &device, Errno::NXIO)?;
        // The log says how to get out.
        region.unbind(driver)?;
        ways::delete(guest, &region.name())?;
        hardware.renew()?;
        discard_all(guest)?;
        works_again(guest)?;
    }
    Ok(())
}

/// A device finds the addresses of a decoder behind those of the one before.
fn preceding(guest: &Guest) -> Result<()> {
    let first = Region::sysram(guest, "0x100 -s 256M", "online_movable")?;
    let second = Region::sysram(guest, "0x100 -s 512M", "online_movable")?;
    first.unbind_kmem()?;
    first.unbind("cxl_sysram_region")?;
    let data = Data::put(guest, NODE)?;
    let commit = format!("{}/commit", first.path());
    guest.write_refused(&commit, "0", Errno::PERM)?;
    data.assert_intact()?;
    guest
        .sh(&format!("cxlr destroy-region {}", first.name()))?
        .failure()?;
    data.assert_intact()?;
    second.assert_all("Movable")?;
    data.remove()?;
    second.destroy()?;
    first.destroy()?;

    let first = Region::committed(guest, "0x100 -s 256M")?;
    let second = Region::committed(guest, "0x100 -s 512M")?;
    guest.sh_ok(&format!("cxlr bind {} --driver devdax", second.name()))?;
    let commit = format!("{}/commit", first.path());
    guest.write_refused(&commit, "0", Errno::PERM)?;
    second.destroy()?;
    first.destroy()?;
    works_again(guest)
}

fn stuck(guest: &Guest, way: Way) -> Result<()> {
    let scene = scene(guest)?;
    let blocks = scene.region.blocks()?;
    let data = Data::put(guest, NODE)?;
    let fault = Fault::load(guest)?;
    fault.refuse_offline(blocks[0])?;
    let log = Log::from_now(guest)?;

    (way.take)(&scene)?;
    assert_online(guest, &blocks)?;
    data.assert_intact()?;
    for module in ["cxl_regions", "kmem"] {
        let said = guest.sh(&format!("rmmod {module}"))?.failure()?;
        ensure(
            said.contains("in use"),
            format!("of {module}, which memory needs, rmmod says: {said}"),
        )?;
    }
    if !guest.look(&[&scene.region.path()])?.is_empty() {
        let locked = guest.read(&format!("{}/locked", scene.region.path()))?;
        ensure(locked == "1", "the region's decoders are not locked")?;
    }
    if !is_intact(&scene) {
        log.assert_line(&["region0", "bind", "again"])?;
    }

    scene.hardware.settle()?;
    (way.back)(&scene)?;
    scene.hardware.wait_until_whole()?;
    data.assert_intact()?;
    assert_online(guest, &blocks)?;
    if is_intact(&scene) {
        let policy = guest.read(&scene.region.online_type())?;
        ensure(
            policy == "online_movable",
            format!("the policy has become '{policy}'"),
        )?;
        let state = guest.read(&scene.region.state())?;
        ensure(
            state == "online_movable",
            format!("the state has become '{state}'"),
        )?;
        fault.mend()?;
        guest.write(&scene.region.state(), "unplugged")?;
    } else {
        fault.mend()?;
        take_over(guest, &scene.hardware)?;
    }
    assert_gone(guest, &blocks)?;
    data.assert_intact()?;
    data.remove()?;
    fault.unload()?;
    discard_all(guest)?;
    works_again(guest)
}

/// The core makes no region of decoders whose region is gone.
fn without_a_way_back(guest: &Guest) -> Result<()> {
    let scene = scene(guest)?;
    let blocks = scene.region.blocks()?;
    let data = Data::put(guest, NODE)?;
    let fault = Fault::load(guest)?;
    fault.refuse_offline(blocks[0])?;
    let stays = || -> Result<()> {
        assert_online(guest, &blocks)?;
        data.assert_intact()
    };
    // One after the other, the last of them twice.
    for _ in 0..2 {
        scene.hardware.unbind()?;
        stays()?;
        for region in ways::regions(guest)? {
            ways::delete(guest, &region)?;
        }
        stays()?;
        scene.hardware.settle()?;
        scene.hardware.bind()?;
        stays()?;
        // Whatever comes of these.
        guest.sh("cxlr create-region -t ram 0x100 --driver sysram --online-type online_movable")?;
        guest.sh("cxl create-region -t ram -d decoder0.0 $(basename /sys/bus/cxl/devices/mem?)")?;
        for region in ways::regions(guest)? {
            guest.sh(&format!("cxl destroy-region -f {region}"))?;
            guest.sh(&format!("cxlr destroy-region {region}"))?;
        }
        stays()?;
    }
    for module in ["cxl_regions", "kmem"] {
        guest.sh(&format!("rmmod {module}"))?.failure()?;
    }
    fault.mend()?;
    fault.unload()?;
    stays()
}

fn two_regions(guest: &Guest) -> Result<()> {
    let hardware = Hardware::find(guest)?;
    let before = total_memory(guest)?;
    let regions = [
        Region::sysram(guest, "0x100 -s 256M", "online_movable")?,
        Region::sysram(guest, "0x100 -s 512M", "online_movable")?,
    ];
    let data = Data::put(guest, NODE)?;
    let mut blocks = regions[0].blocks()?;
    blocks.extend(regions[1].blocks()?);
    assert_online(guest, &blocks)?;

    hardware.unbind()?;
    data.assert_intact()?;
    assert_gone(guest, &blocks)?;
    ensure(
        total_memory(guest)? == before,
        "the regions' memory left something behind in MemTotal",
    )?;

    hardware.settle()?;
    hardware.bind()?;
    data.remove()?;
    discard_all(guest)?;
    works_again(guest)
}

fn made_anew(guest: &Guest) -> Result<()> {
    let scene = scene(guest)?;
    let blocks = scene.region.blocks()?;
    let data = Data::put(guest, NODE)?;
    let fault = Fault::load(guest)?;
    fault.refuse_offline(blocks[0])?;
    scene.hardware.unbind()?;
    ways::delete(guest, &scene.region.name())?;
    scene.hardware.settle()?;
    scene.hardware.bind()?;

    // It is with the stock driver now, which knows of nothing.
    let regions = ways::regions(guest)?;
    let [region] = &regions[..] else {
        return Err(Error::test(format!("the core made {regions:?}")));
    };
    let driver = ways::driver(guest, region)?;
    ensure(
        driver.as_deref() == Some("cxl_region"),
        format!("{region} is with {driver:?}"),
    )?;
    guest.write_refused(&format!("{CXL}/{region}/commit"), "0", Errno::PERM)?;
    guest.sh(&format!("cxl destroy-region -f {region}"))?;
    data.assert_intact()?;
    assert_online(guest, &blocks)?;
    if is_committed(guest, region) {
        ways::delete(guest, region)?;
        data.assert_intact()?;
    }

    fault.mend()?;
    fault.unload()?;
    take_over(guest, &scene.hardware)?;
    assert_gone(guest, &blocks)?;
    data.assert_intact()?;
    data.remove()?;
    discard_all(guest)?;
    works_again(guest)
}

fn next_region(guest: &Guest) -> Result<()> {
    let scene = Scene {
        guest,
        region: Region::sysram(guest, "0x100 -s 256M", "online_movable")?,
        hardware: Hardware::find(guest)?,
    };
    let blocks = scene.region.blocks()?;
    let data = Data::put(guest, NODE)?;
    let fault = Fault::load(guest)?;
    fault.refuse_offline(blocks[0])?;
    ways::delete(guest, &scene.region.name())?;
    assert_online(guest, &blocks)?;
    let committed = decoders_committed(guest)?;

    // A region beside it is one like any other.
    let beside = Region::sysram(guest, "0x100 -s 256M", "online_movable")?;
    beside.assert_all("Movable")?;
    beside.destroy()?;
    assert_online(guest, &blocks)?;

    // One that is given its decoder, which the core takes for free, and for committed.
    let region = guest
        .sh_ok(&format!(
            "set -e; cd {CXL}; root=$(dirname $(echo root*/decoder*/create_ram_region)); region=$(<$root/create_ram_region); \
             echo $region > $root/create_ram_region; decoder=$(basename $(dirname $(grep -L -e '^0x0*$' decoder*/dpa_size))); \
             echo 1 > $region/interleave_ways; echo 256 > $region/interleave_granularity; \
             echo $((256 << 20)) > $region/size; echo $decoder > $region/target0; echo 1 > $region/commit; echo $region"
        ))?
        .trim()
        .to_owned();
    let commit = format!("{CXL}/{region}/commit");
    guest.write_refused(&commit, "0", Errno::PERM)?;
    let log = Log::from_now(guest)?;
    for driver in ["cxl_sysram_region", "cxl_devdax_region", "cxl_region"] {
        guest.write_refused(&format!("{DRIVERS}/{driver}/bind"), &region, Errno::NXIO)?;
    }
    log.assert_line(&[&region, "stayed behind", "cxl_sysram_region"])?;
    guest.write(&commit, "0")?;
    ways::delete(guest, &region)?;
    assert_online(guest, &blocks)?;
    data.assert_intact()?;
    let now = decoders_committed(guest)?;
    ensure(
        now == committed,
        format!("{committed} decoders were committed, and now {now}"),
    )?;

    fault.mend()?;
    fault.unload()?;
    take_over(guest, &scene.hardware)?;
    assert_gone(guest, &blocks)?;
    data.remove()?;
    discard_all(guest)?;
    works_again(guest)
}

/// How many decoders are committed, port by port.
fn decoders_committed(guest: &Guest) -> Result<String> {
    guest.sh_ok(&format!(
        "cd {CXL}; grep . {{port,endpoint}}*/decoders_committed"
    ))
}

/// Memory in a kernel zone of its own node holds the node's own threads, and never goes.
fn kernel_zone(guest: &Guest) -> Result<()> {
    let mut scene = Scene {
        guest,
        region: Region::sysram(guest, "0x100", "online_kernel")?,
        hardware: Hardware::find(guest)?,
    };
    let blocks = scene.region.blocks()?;
    guest.sh_ok(&format!(
        "set -e; mkdir /tmp/folders; mount -t tmpfs none /tmp/folders; cd /tmp/folders; \
         seq 3000 | numactl --membind={NODE} xargs mkdir"
    ))?;
    let all_there = || -> Result<()> {
        let count = guest.look(&["/tmp/folders/*"])?.len();
        ensure(count == 3000, format!("of 3000 folders {count} are left"))?;
        // New ones have room as well.
        guest
            .sh_ok(&format!(
                "cd /tmp/folders; mkdir new; numactl --membind={NODE} mkdir new/{{0..99}}; rm -r new"
            ))
            .map(drop)
    };
    for way in ways::BINDINGS.into_iter().chain(ways::DECODERS) {
        let context = |error: Error| Error::test(format!("{}: {error}", way.name));
        let round = || -> Result<String> {
            (way.take)(&scene)?;
            all_there()?;
            assert_online(guest, &blocks)?;
            scene.hardware.settle()?;
            (way.back)(&scene)?;
            scene.hardware.wait_until_whole()?;
            all_there()?;
            if is_intact(&scene) {
                return Ok(scene.region.name());
            }
            take_over(guest, &scene.hardware)
        };
        let name = round().map_err(context)?;
        scene.region = Region::named(guest, &name)?;
        if !is_intact(&scene) {
            scene.region.bind_kmem().map_err(context)?;
        }
        scene.hardware = Hardware::find(guest)?;
        let state = guest.read(&scene.region.state())?;
        ensure(
            state == "online_kernel",
            format!("after {}, the state is '{state}'", way.name),
        )?;
    }
    all_there()
}

/// The way back for memory whose region lost its decoders: the core assembles them to a region again when the memdev gets
/// its driver. Given to our driver, that region's memory goes, or is taken up as it is. Answers with the region's name.
fn take_over(guest: &Guest, hardware: &Hardware<'_>) -> Result<String> {
    if ways::regions(guest)?
        .iter()
        .all(|region| !is_committed(guest, region))
    {
        for region in ways::regions(guest)? {
            ways::delete(guest, &region)?;
        }
        hardware.renew()?;
    }
    let regions = ways::regions(guest)?;
    let [region] = &regions[..] else {
        return Err(Error::test(format!(
            "the committed decoders gave {regions:?}, and not one region"
        )));
    };
    ways::rebind(guest, region, "cxl_sysram_region")?;
    Ok(region.clone())
}

fn is_committed(guest: &Guest, region: &str) -> bool {
    guest
        .read(&format!("{CXL}/{region}/commit"))
        .is_ok_and(|commit| commit == "1")
}

fn assert_online(guest: &Guest, blocks: &[u64]) -> Result<()> {
    assert_states(guest, blocks, "online")
}

fn assert_gone(guest: &Guest, blocks: &[u64]) -> Result<()> {
    assert_states(guest, blocks, "absent")
}

fn assert_states(guest: &Guest, blocks: &[u64], wanted: &str) -> Result<()> {
    let states = crate::support::block_states(guest, blocks)?;
    ensure(
        states.iter().all(|state| state == wanted),
        format!("not all of the region's blocks are {wanted}: {states:?}"),
    )
}

/// Destroys all regions, and gives back what is left of others.
pub fn discard_all(guest: &Guest) -> Result<()> {
    for region in ways::regions(guest)? {
        guest.sh_ok(&format!("cxlr destroy-region {region}"))?;
    }
    // Whoever deletes a region without our tool leaves the memdev's capacity taken.
    let capacity = format!("{CXL}/decoder*/dpa_size");
    let taken = |seen: BTreeMap<String, Option<String>>| {
        let is_zero = |content: &String| {
            content
                .trim_start_matches("0x")
                .trim_matches('0')
                .is_empty()
        };
        let taken = seen
            .into_iter()
            .filter(move |(_, content)| !content.as_ref().is_some_and(is_zero));
        taken.map(|(path, _)| path).collect::<Vec<_>>()
    };
    for file in taken(guest.look(&[&capacity])?) {
        guest.write(&file, "0")?;
    }
    let committed = ["port*", "endpoint*"].map(|port| format!("{CXL}/{port}/decoders_committed"));
    let mut held = taken(guest.look(&[&capacity, &committed[0], &committed[1]])?);
    let devices = ["sysram_region*", "dax_region*"].map(|name| format!("{CXL}/{name}"));
    held.extend(
        guest
            .look(&devices.each_ref().map(String::as_str))?
            .into_keys(),
    );
    ensure(
        held.is_empty(),
        format!("something stayed behind: {held:?}"),
    )
}

/// Fails unless a region can be made and taken down, and the modules unloaded, as if nothing had been.
fn works_again(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    region.assert_all("Movable")?;
    region.destroy()?;
    guest
        .sh_ok("rmmod cxl_regions && rmmod kmem && modprobe -a kmem cxl_regions")
        .map(drop)
}
