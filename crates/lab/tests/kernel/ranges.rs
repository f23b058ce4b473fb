// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dax devices of several ranges, of odd sizes, with their memory map inside, and several in one region.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::guest;
use lab::suite::Test;
use rustix::io::Errno;

use crate::fault::Fault;
use crate::pin::Pin;
use crate::support::DEBIAN_DEFAULT;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::Region;
use crate::support::block_file;
use crate::support::block_size;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::own_map;
use crate::support::set_default;
use crate::support::total_memory;

const KMEM: &str = "/sys/bus/dax/drivers/kmem";

/// The node of the region's memory.
const NODE: u32 = 1;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "ranges: all of a device's come and go together",
            loaded("one"),
            together,
        ),
        Test::new(
            "ranges: where one fails nothing of the others stays changed",
            loaded("one"),
            all_or_none,
        ),
        Test::new(
            "ranges: all come and go together with their memory map inside",
            own_map("one"),
            together,
        ),
        Test::new(
            "ranges: where one fails nothing stays changed, with the memory map inside too",
            own_map("one"),
            all_or_none,
        ),
        Test::new(
            "ranges: what is no whole block is left out and told",
            loaded("one"),
            odd_sizes,
        ),
        Test::new(
            "ranges: two devices of one region both keep its policy and leave with it",
            loaded("one"),
            two_devices,
        ),
        Test::new(
            "ranges: a device that is bound while its region's memory is being taken away gets none",
            loaded("one-hdm"),
            bound_meanwhile,
        ),
    ]
}

/// The dax devices of a region, while none is bound.
struct Devices<'g> {
    guest: &'g Guest,
    first: String,
    second: String,
}

impl<'g> Devices<'g> {
    /// Takes the region's one device from its driver, without memory.
    fn unbound(guest: &'g Guest, region: &Region<'_>) -> Result<Self> {
        let first = region.dax_on_bus();
        guest.write(&format!("{first}/state"), "unplugged")?;
        guest.write(&format!("{KMEM}/unbind"), name(&first))?;
        let second = first.strip_suffix(".0").map(|region| format!("{region}.1"));
        let second = second.ok_or_else(|| Error::test(format!("the device is named '{first}'")))?;
        Ok(Self {
            guest,
            first,
            second,
        })
    }

    /// Makes a second device; it has no memory yet, and no driver.
    fn create(&self) -> Result<()> {
        self.guest
            .write(&format!("{}/../dax_region/create", self.first), "1")
    }

    /// Takes it away again.
    fn delete(&self) -> Result<()> {
        self.resize(&self.second, 0)?;
        let file = format!("{}/../dax_region/delete", self.first);
        self.guest.write(&file, name(&self.second))
    }

    fn resize(&self, device: &str, bytes: u64) -> Result<()> {
        self.guest
            .write(&format!("{device}/size"), &bytes.to_string())
    }
}

fn name(device: &str) -> &str {
    device.rsplit('/').next().unwrap_or_default()
}

/// Cuts the region's device into two ranges of two blocks each, with two blocks between them.
fn cut<'g>(guest: &'g Guest, region: &Region<'_>) -> Result<Devices<'g>> {
    let block = block_size(guest)?;
    let devices = Devices::unbound(guest, region)?;
    devices.resize(&devices.first, 2 * block)?;
    devices.create()?;
    devices.resize(&devices.second, 2 * block)?;
    devices.resize(&devices.first, 4 * block)?;
    devices.delete()?;
    Ok(devices)
}

/// Fails unless the blocks are as in `pattern`: `M`ovable, `o`ffline, or `-` for absent.
fn expect(region: &Region<'_>, pattern: &str) -> Result<()> {
    let zones = region.zones()?;
    let found: String = zones
        .iter()
        .map(|zone| match zone.as_str() {
            "Movable" => 'M',
            "offline" => 'o',
            "absent" => '-',
            _ => '?',
        })
        .collect();
    ensure(
        found == pattern,
        format!("the blocks were to be {pattern} and are {found}: {zones:?}"),
    )
}

fn together(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let region = Region::stock(guest, "mem0")?;
    let devices = cut(guest, &region)?;
    let state = format!("{}/state", devices.first);
    let map_parameter = "/sys/module/memory_hotplug/parameters/memmap_on_memory";
    let may_hold_map = guest.read(map_parameter)? == "Y";
    let block = block_size(guest)? / 1024;
    // 64 bytes for each page of 4 KiB.
    let map = block / 64;
    for inside in [false, true] {
        if inside && !may_hold_map {
            continue;
        }
        expect(&region, "--------")?;
        let file = format!("{}/memmap_on_memory", devices.first);
        guest.write(&file, if inside { "1" } else { "0" })?;
        let before = total_memory(guest)?;
        guest.write(&format!("{KMEM}/bind"), name(&devices.first))?;
        expect(&region, "MM--MM--")?;
        let gained = total_memory(guest)? - before;
        let wanted = 4 * (block - if inside { map } else { 0 });
        ensure(
            gained == wanted,
            format!("{wanted} KiB were to come and {gained} did (map inside: {inside})"),
        )?;
        let resources = guest.sh_ok("grep -c 'System RAM (kmem)' /proc/iomem")?;
        ensure(
            resources.trim() == "2",
            format!("/proc/iomem shows two ranges, not {resources}"),
        )?;

        guest.write(&state, "unplugged")?;
        expect(&region, "--------")?;
        ensure(total_memory(guest)? == before, "all of it went again")?;
        guest.write(&state, "online_movable")?;
        expect(&region, "MM--MM--")?;
        let blocks = region.blocks()?;
        guest.write(&block_file(blocks[1]), "offline")?;
        guest.write(&block_file(blocks[4]), "offline")?;
        ensure(guest.read(&state)? == "mixed", "ranges count together")?;
        guest.write(&state, "online_movable")?;
        expect(&region, "MM--MM--")?;
        guest.write(&state, "unplugged")?;
        guest.write(&format!("{KMEM}/unbind"), name(&devices.first))?;
        let left = guest.sh_ok("grep -E 'dax|kmem' /proc/iomem; true")?;
        ensure(
            left.is_empty(),
            format!("the addresses are free again: {left}"),
        )?;
    }
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)
}

fn all_or_none(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    set_default(guest, "online_movable")?;
    let region = Region::stock(guest, "mem0")?;
    let devices = cut(guest, &region)?;
    let blocks = region.blocks()?;
    let before = total_memory(guest)?;
    let state = format!("{}/state", devices.first);
    for block in [blocks[0], blocks[1], blocks[4], blocks[5]] {
        fault.refuse_online(block)?;
        let log = Log::from_now(guest)?;
        let bind = format!("{KMEM}/bind");
        guest.write_refused(&bind, name(&devices.first), Errno::IO)?;
        log.assert_line(&[
            name(&devices.first),
            &format!("memory{block}"),
            "rolled back",
        ])?;
        expect(&region, "--------")?;
        ensure(
            total_memory(guest)? == before,
            "a failed bind leaves no memory",
        )?;
        fault.mend()?;
        guest.write(&bind, name(&devices.first))?;
        expect(&region, "MM--MM--")?;

        fault.refuse_offline(block)?;
        guest.write_refused(&state, "unplugged", Errno::NOMEM)?;
        expect(&region, "MM--MM--")?;
        fault.mend()?;
        guest.write(&state, "unplugged")?;
        expect(&region, "--------")?;

        fault.refuse_online(block)?;
        guest.write_refused(&state, "online_movable", Errno::IO)?;
        expect(&region, "--------")?;
        ensure(guest.read(&state)? == "unplugged", "and says so")?;
        fault.mend()?;
        guest.write(&format!("{KMEM}/unbind"), name(&devices.first))?;
    }
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)?;
    fault.unload()
}

fn odd_sizes(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let region = Region::stock(guest, "mem0")?;
    let devices = Devices::unbound(guest, &region)?;
    let block = block_size(guest)?;
    let bind = format!("{KMEM}/bind");
    // The second device takes the first 2 MiB: whatever the other gets then starts within a block.
    let gap = 2 << 20;
    devices.resize(&devices.first, 0)?;
    devices.create()?;
    devices.resize(&devices.second, gap)?;

    devices.resize(&devices.first, 4 * block)?;
    let log = Log::from_now(guest)?;
    guest.write(&bind, name(&devices.first))?;
    expect(&region, "-MMM----")?;
    log.assert_line(&[
        name(&devices.first),
        &format!("truncated by {} KiB", block / 1024),
    ])?;
    guest.write(&format!("{}/state", devices.first), "unplugged")?;
    expect(&region, "--------")?;
    guest.write(&format!("{KMEM}/unbind"), name(&devices.first))?;

    // No whole block at all: refused, and nothing is reserved.
    devices.resize(&devices.first, 0)?;
    devices.resize(&devices.first, 2 * block - 2 * gap)?;
    let log = Log::from_now(guest)?;
    guest.write_refused(&bind, name(&devices.first), Errno::INVAL)?;
    log.assert_line(&[name(&devices.first), "too small after alignment"])?;
    log.assert_line(&[name(&devices.first), "without any memory after alignment"])?;
    expect(&region, "--------")?;
    let left = guest.sh_ok("grep -E 'dax|kmem' /proc/iomem; true")?;
    ensure(left.is_empty(), format!("the addresses are free: {left}"))?;
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)
}

fn two_devices(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let devices = Devices::unbound(guest, &region)?;
    let block = block_size(guest)?;
    devices.resize(&devices.first, 3 * block)?;
    devices.create()?;
    devices.resize(&devices.second, 2 * block)?;
    // The system's default would put them into a kernel zone.
    for device in [&devices.first, &devices.second] {
        guest.write(&format!("{KMEM}/bind"), name(device))?;
        let refused = format!("{device}/state");
        guest.write_refused(&refused, "online_kernel", Errno::PERM)?;
    }
    expect(&region, "MMMMM---")?;
    let blocks = region.blocks()?;
    for block in [blocks[1], blocks[4]] {
        guest.write(&block_file(block), "offline")?;
        guest.write_refused(&block_file(block), "online_kernel", Errno::PERM)?;
        guest.write(&block_file(block), "online_movable")?;
    }
    // One may go alone.
    guest.write(&format!("{}/state", devices.first), "unplugged")?;
    expect(&region, "---MM---")?;
    guest.write(&format!("{}/state", devices.first), "online_movable")?;
    expect(&region, "MMMMM---")?;
    let log = Log::from_now(guest)?;
    region.unbind("cxl_sysram_region")?;
    expect(&region, "--------")?;
    log.assert_none("stay")?;
    region.destroy()
}

fn bound_meanwhile(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    let devices = Devices::unbound(guest, &region)?;
    let block = block_size(guest)?;
    devices.resize(&devices.first, 4 * block)?;
    devices.create()?;
    devices.resize(&devices.second, 4 * block)?;
    let bind = format!("{KMEM}/bind");
    guest.write(&bind, name(&devices.first))?;
    expect(&region, "MMMM----")?;
    let pin = Pin::on_node(guest, NODE)?;
    let unbinder = guest.start(guest::program(&[
        "bash",
        "-c",
        &format!(
            "echo sysram_{} > {DRIVERS}/cxl_dax_kmem_region/unbind",
            region.name()
        ),
    ]))?;
    let files: Vec<String> = region.blocks()?[..4]
        .iter()
        .map(|block| block_file(*block))
        .collect();
    guest.sh_ok(&format!(
        "until grep -q going-offline {}; do :; done",
        files.join(" ")
    ))?;
    guest.write_refused(&bind, name(&devices.second), Errno::NODEV)?;
    // Nobody waited for the page meanwhile.
    let waiting = guest.sh_ok(&format!("grep -l going-offline {}", files.join(" ")))?;
    ensure(
        !waiting.is_empty(),
        "the memory was taken away or given up before",
    )?;
    pin.release()?;
    unbinder.output(guest::HANG)?.success()?;
    expect(&region, "--------")?;
    region.destroy()
}
