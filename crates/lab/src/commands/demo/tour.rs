// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tour: the life of two regions, each under its own policy.

use lab::Error;
use lab::Guest;
use lab::Result;

use super::census::Census;
use super::stage::Side;
use super::stage::Stage;
use super::stage::Take;

/// Plays the tour in a guest that has the modules installed and not loaded.
pub fn play(stage: &mut Stage, release: &str, guest: &Guest) -> Result<()> {
    let side = Side { guest, prompt: "#" };
    let total = memory_total(guest)?;
    what_is_there(stage, side, release)?;
    let first = first_region(stage, side, total)?;
    unplug_and_plug(stage, side, &first, total)?;
    let second = second_region(stage, side, &first)?;
    refusals(stage, side, &first)?;
    teardown(stage, side, &[second, first], total)
}

fn what_is_there(stage: &mut Stage, side: Side<'_>, release: &str) -> Result<()> {
    stage.chapter("What is there");
    stage.say("The kernel is Debian's own, and new memory comes online by itself: that is the system default.");
    let kernel = stage.run(side, "uname -r")?.success()?;
    stage
        .run(side, "cat /sys/devices/system/memory/auto_online_blocks")?
        .success()?;
    stage.promise(
        kernel.output.stdout.trim() == release,
        "a distribution's kernel, as it is",
        kernel.output.stdout.trim(),
        None,
    )?;
    stage.say("The region drivers are two modules. Loading them grabs nothing.");
    stage.run(side, "modprobe cxl_regions")?.success()?;
    stage.say("Four memory devices (memdevs) behind one host bridge, and nobody uses them.");
    stage.run(side, "cxlr list")?.success().map(drop)
}

fn first_region(stage: &mut Stage, side: Side<'_>, total: u64) -> Result<String> {
    stage.chapter("A region under its own policy");
    stage.say("How much memory is there before?");
    stage.run(side, "free -m")?.success()?;
    stage.say(
        "Two memdevs become one interleaved region whose memory is to be movable, so that it can be taken away again.\n\
         The policy is set before the first page exists; the system default still is 'online'.",
    );
    let take = stage
        .run(
            side,
            "cxlr create-region -t ram --driver sysram --online-type online_movable serial:0x100 serial:0x101",
        )?
        .success()?;
    let region = created(&take)?;
    let census = Census::of(side.guest, &region)?;
    stage.promise(
        census.all("Movable"),
        "online in the zone of the policy, under the default 'online'",
        census.to_string(),
        Some(take.took),
    )?;
    stage.say("Block by block, as the kernel tells it: they are on a node of their own, all in the zone Movable.");
    stage
        .run(side, "lsmem -o RANGE,SIZE,STATE,BLOCK,NODE,ZONES")?
        .success()?;
    stage.say("Each driver of the chain has left its name in the address map, and the memory is there to be used.");
    stage
        .run(side, "grep -A3 'CXL Window' /proc/iomem")?
        .success()?;
    stage.run(side, "numactl -H | grep 'node 1'")?.success()?;
    stage.run(side, "free -m")?.success()?;
    let (gained, wanted) = (
        memory_total(side.guest)? - total,
        size(side.guest, &region)?,
    );
    stage.promise(
        gained == wanted,
        "all of the region is system RAM",
        format!("{} MiB of {} MiB", gained >> 20, wanted >> 20),
        None,
    )?;
    Ok(region)
}

fn unplug_and_plug(stage: &mut Stage, side: Side<'_>, region: &str, total: u64) -> Result<()> {
    stage.chapter("Unplug it, and plug it again");
    stage.say("The whole region goes at once, or not at all.");
    let take = stage
        .run(side, &format!("cxlr hotplug {region} unplugged"))?
        .success()?;
    let census = Census::of(side.guest, region)?;
    stage.promise(
        census.all("absent") && memory_total(side.guest)? == total,
        "unplugged as a whole",
        census.to_string(),
        Some(take.took),
    )?;
    stage.say("And it comes back the same way.");
    let take = stage
        .run(side, &format!("cxlr hotplug {region} online_movable"))?
        .success()?;
    let census = Census::of(side.guest, region)?;
    stage.promise(
        census.all("Movable"),
        "plugged as a whole",
        census.to_string(),
        Some(take.took),
    )
}

fn second_region(stage: &mut Stage, side: Side<'_>, first: &str) -> Result<String> {
    stage.chapter("A second region with another policy");
    stage.say(
        "This one is to stay offline until somebody decides. The first region does not notice, and neither does the\n\
         system default reach it.",
    );
    let take = stage
        .run(
            side,
            "cxlr create-region -t ram --driver sysram --online-type offline serial:0x102",
        )?
        .success()?;
    let region = created(&take)?;
    let (census, neighbour) = (
        Census::of(side.guest, &region)?,
        Census::of(side.guest, first)?,
    );
    stage.promise(
        census.all("offline") && neighbour.all("Movable"),
        "a second region under a policy of its own",
        format!("{census}; {first}: {neighbour}"),
        Some(take.took),
    )?;
    Ok(region)
}

fn refusals(stage: &mut Stage, side: Side<'_>, region: &str) -> Result<()> {
    stage.chapter("What is refused");
    stage.say("A policy is a promise. The tool knows it, and says what to do instead.");
    let take = stage.run(side, &format!("cxlr hotplug {region} online_kernel"))?;
    stage.promise(
        !take.output.succeeded() && Census::of(side.guest, region)?.all("Movable"),
        "refused: a change against the policy",
        last_line(&take),
        None,
    )?;
    stage.say("Who goes around the tool meets the kernel: one block is taken offline, which is fine, and is then to come\nback in another zone, which is not.");
    let block = format!(
        "/sys/devices/system/memory/memory{}",
        first_block(side.guest, region)?
    );
    stage
        .run(side, &format!("echo offline > {block}/state"))?
        .success()?;
    let take = stage.run(side, &format!("echo online_kernel > {block}/state"))?;
    stage.run(side, "dmesg | grep 'refused:'")?.success()?;
    let census = Census::of(side.guest, region)?;
    stage.promise(
        take.output.stdout.contains("Operation not permitted") && census.count("offline") == 1,
        "refused: a single block into another zone",
        last_line(&take),
        None,
    )?;
    stage.say("Within the policy it may come back.");
    stage
        .run(side, &format!("echo online_movable > {block}/state"))?
        .success()?;
    let census = Census::of(side.guest, region)?;
    stage.promise(
        census.all("Movable"),
        "allowed: a block offline, and back within the policy",
        census.to_string(),
        None,
    )?;
    stage.say(
        "And a region whose memory is online keeps its decoders, and its driver stays loaded.",
    );
    let commit = stage.run(
        side,
        &format!("echo 0 > /sys/bus/cxl/devices/{region}/commit"),
    )?;
    let unload = stage.run(side, "rmmod cxl_regions")?;
    let census = Census::of(side.guest, region)?;
    stage.promise(
        !commit.output.succeeded() && !unload.output.succeeded() && census.all("Movable"),
        "refused: decoders or driver away from under the memory",
        census.to_string(),
        None,
    )
}

fn teardown(stage: &mut Stage, side: Side<'_>, regions: &[String], total: u64) -> Result<()> {
    stage.chapter("Everything is taken down");
    stage.say("All memory goes first, then the regions, then the modules.");
    let take = stage
        .run(side, &format!("cxlr destroy-region {}", regions.join(" ")))?
        .success()?;
    stage.run(side, "modprobe -r cxl_regions kmem")?.success()?;
    stage.run(side, "cxlr list")?.success()?;
    clean(
        stage,
        side.guest,
        "taken down without a trace",
        total,
        &take,
    )
}

/// Notes that the machine is as it was before the first region.
pub fn clean(
    stage: &mut Stage,
    guest: &Guest,
    promise: &str,
    total: u64,
    take: &Take,
) -> Result<()> {
    let regions = guest.sh_ok("cd /sys/bus/cxl/devices && ls -d region* 2>/dev/null; true")?;
    let modules = guest.sh_ok("lsmod | grep -w -e ^cxl_regions -e ^kmem; true")?;
    let difference = memory_total(guest)?.abs_diff(total);
    stage.promise(
        regions.is_empty() && modules.is_empty() && difference == 0,
        promise,
        format!(
            "{} regions, {} modules, {} MiB of memory left",
            regions.lines().count(),
            modules.lines().count(),
            difference >> 20
        ),
        Some(take.took),
    )
}

/// The memory that the kernel manages, in bytes.
pub fn memory_total(guest: &Guest) -> Result<u64> {
    let kibibytes = guest.sh_ok("awk '/^MemTotal:/ {print $2}' /proc/meminfo")?;
    number(kibibytes.trim()).map(|kibibytes| kibibytes << 10)
}

/// The region that `cxlr create-region` says it created.
pub fn created(take: &Take) -> Result<String> {
    take.output
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("created "))
        .map(str::to_owned)
        .ok_or_else(|| Error::test("cxlr does not name the region that it created"))
}

/// The number of a region's first memory block.
pub fn first_block(guest: &Guest, region: &str) -> Result<u64> {
    let block = number(&format!(
        "0x{}",
        guest.read("/sys/devices/system/memory/block_size_bytes")?
    ))?;
    Ok(resource(guest, region)? / block)
}

/// Where a region begins, as a physical address.
pub fn resource(guest: &Guest, region: &str) -> Result<u64> {
    number(&guest.read(&format!("/sys/bus/cxl/devices/{region}/resource"))?)
}

fn size(guest: &Guest, region: &str) -> Result<u64> {
    number(&guest.read(&format!("/sys/bus/cxl/devices/{region}/size"))?)
}

fn number(text: &str) -> Result<u64> {
    text.strip_prefix("0x")
        .map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16))
        .map_err(|_| Error::test(format!("the guest's '{text}' is no number")))
}

/// What a command said last, without who said it.
pub fn last_line(take: &Take) -> String {
    let line = take.output.stdout.lines().last().unwrap_or_default();
    line.rsplit(": ")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}
