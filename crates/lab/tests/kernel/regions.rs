// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a region comes under our drivers: what they add to the system, what they refuse, and that they take nothing that
//! nobody gave them.

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Install;
use lab::Result;
use lab::suite::Test;
use lab::topology::Device;
use lab::topology::GIB;
use lab::topology::HostBridge;
use lab::topology::MIB;
use lab::topology::MemoryDevice;
use lab::topology::Switch;
use lab::topology::Topology;
use lab::topology::Window;
use rustix::io::Errno;

use crate::data::Data;
use crate::fault::Fault;
use crate::support::CXL;
use crate::support::DEBIAN_DEFAULT;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::Region;
use crate::support::block_states;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::set_default;
use crate::support::total_memory;
use crate::ways;

const SYSRAM: &str = "cxl_sysram_region";

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || loaded("one-hdm");
    vec![
        Test::new(
            "regions: memory appears below sysram_regionN/dax_regionN/daxN.0, on a node of its own, and goes without a trace",
            one(),
            hierarchy,
        ),
        Test::new(
            "regions: cxl_sysram_region refuses a region until it is committed",
            one(),
            uncommitted,
        ),
        Test::new(
            "regions: a region that is System RAM already is refused, and keeps its memory",
            one(),
            system_ram,
        ),
        Test::new(
            "regions: loading the modules takes no region, and neither does a probe of the bus",
            one(),
            loading_takes_nothing,
        ),
        Test::new(
            "regions: modules that hold a region cannot be unloaded",
            one(),
            unloading,
        ),
        Test::new(
            "regions: beside the stock kmem, which keeps no policy, there are no region drivers",
            one(),
            stock_kmem,
        ),
        Test::new(
            "regions: the dax device goes to kmem, whoever else was told its name, and though its bus probes nothing",
            one(),
            goes_to_kmem,
        ),
        Test::new(
            "regions: a persistent region is refused, and still is for the stock driver",
            loaded("mixed"),
            persistent,
        ),
        Test::new(
            "regions: interleaved below a switch, a host bridge and across two, in whatever order",
            Boot::new(interleaves()).modules(Install::Loaded),
            interleaved,
        ),
        Test::new(
            "regions: eight at once, each under its own policy, go in any order",
            loaded("eight"),
            eight,
        ),
    ]
}

/// A value that sysfs prints in hexadecimal.
fn hexadecimal(guest: &Guest, path: &str) -> Result<u64> {
    let text = guest.read(path)?;
    u64::from_str_radix(text.trim_start_matches("0x"), 16)
        .map_err(|_| Error::test(format!("{path} reads '{text}'")))
}

/// The drivers of these devices, by folder.
fn drivers(guest: &Guest, devices: &[String]) -> Result<Vec<String>> {
    let script: Vec<String> = devices
        .iter()
        .map(|device| format!("basename \"$(readlink {device}/driver)\""))
        .collect();
    let names = guest.sh_ok(&script.join("; "))?;
    Ok(names.lines().map(str::to_owned).collect())
}

fn hierarchy(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    let iomem = |guest: &Guest| guest.read("/proc/iomem");
    let region = Region::committed(guest, "0x100")?;
    let committed = iomem(guest)?;
    region.bind(SYSRAM)?;
    guest.write(&region.online_type(), "online_movable")?;
    region.bind_kmem()?;

    let sysram = region.online_type().replace("/online_type", "");
    let dax_region = region.dax().replace("/dax0.0", "");
    let folders = [region.path(), sysram.clone(), dax_region, region.dax()];
    let bound = drivers(guest, &folders)?;
    ensure(
        bound
            == [
                SYSRAM,
                "cxl_dax_kmem_region",
                "cxl_driver_dax_region",
                "kmem",
            ],
        format!("the drivers of {folders:?} are {bound:?}"),
    )?;

    let start = hexadecimal(guest, &format!("{}/resource", region.path()))?;
    let size = hexadecimal(guest, &format!("{}/size", region.path()))?;
    let range = format!("{start:x}-{:x}", start + size - 1);
    let wanted =
        format!("  {range} : region0\n    {range} : dax0.0\n      {range} : System RAM (kmem)\n");
    let now = format!("{}\n", iomem(guest)?);
    ensure(
        now.contains(&wanted),
        format!("/proc/iomem does not have\n{wanted}but\n{now}"),
    )?;
    ensure(
        guest.read(&format!("{}/size", region.dax()))? == size.to_string(),
        "the dax device is not all of the region",
    )?;

    let node = guest.read(&format!("{}/target_node", region.dax()))?;
    let on_node = guest.sh_ok(&format!(
        "awk '/MemTotal:/ {{print $4}}' /sys/devices/system/node/node{node}/meminfo"
    ))?;
    ensure(
        on_node.trim() == (size >> 10).to_string(),
        format!(
            "node {node} has {} KiB of the region's {}",
            on_node.trim(),
            size >> 10
        ),
    )?;
    let gained = total_memory(guest)? - before;
    ensure(
        gained == size >> 10,
        format!("a region of {} KiB brought {gained} KiB", size >> 10),
    )?;

    region.unbind_kmem()?;
    ensure(
        drivers(guest, &[sysram])? == [""] && guest.read(&region.state()).is_err(),
        "unbinding cxl_dax_kmem_region left its devices behind",
    )?;
    region.unbind(SYSRAM)?;
    ensure(
        guest.read(&region.online_type()).is_err(),
        "unbinding cxl_sysram_region left its device behind",
    )?;
    ensure(
        iomem(guest)? == committed && total_memory(guest)? == before,
        "the region's memory left something behind",
    )?;
    region.destroy()
}

fn uncommitted(guest: &Guest) -> Result<()> {
    let root = root(guest)?;
    let name = guest.read(&format!("{root}/create_ram_region"))?;
    let region = format!("{CXL}/{name}");
    let bind = format!("{DRIVERS}/{SYSRAM}/bind");
    let decoder = guest.sh_ok(&format!("basename {CXL}/endpoint*/decoder*.0"))?;
    let decoder = decoder.trim();
    let in_region = |file: &str| format!("{region}/{file}");
    let in_decoder = |file: &str| format!("{CXL}/{decoder}/{file}");
    let log = Log::from_now(guest)?;

    // However far it is, it is too early.
    for (file, content) in [
        (format!("{root}/create_ram_region"), name.as_str()),
        (in_region("interleave_ways"), "1"),
        (in_region("interleave_granularity"), "256"),
        (in_region("size"), "0x10000000"),
        (in_decoder("mode"), "ram"),
        (in_decoder("dpa_size"), "0x10000000"),
        (in_region("target0"), decoder),
    ] {
        guest.write(&file, content)?;
        guest.write_refused(&bind, &name, Errno::NXIO)?;
    }
    guest.write(&in_region("commit"), "1")?;
    guest.write(&bind, &name)?;
    guest.write(&format!("{DRIVERS}/{SYSRAM}/unbind"), &name)?;
    guest.write(&in_region("commit"), "0")?;
    guest.write_refused(&bind, &name, Errno::NXIO)?;
    // It is the everyday state of a region, and no cause for alarm.
    log.assert_none("cxl_sysram_region")?;
    guest
        .sh_ok(&format!("cxlr destroy-region {name}"))
        .map(drop)
}

fn system_ram(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let region = Region::stock(guest, "0x100")?;
    region.assert_all("Movable")?;
    // The stock driver's memory stays online without it.
    region.unbind("cxl_region")?;
    let blocks = region.blocks()?;
    let fault = Fault::load(guest)?;
    fault.refuse_offline(blocks[0])?;

    let log = Log::from_now(guest)?;
    guest.write_refused(
        &format!("{DRIVERS}/{SYSRAM}/bind"),
        &region.name(),
        Errno::BUSY,
    )?;
    log.assert_line(&[&region.name(), "System RAM"])?;
    ensure(
        ways::driver(guest, &region.name())?.is_none(),
        "a driver has the region that it refused",
    )?;
    region.assert_all("Movable")?;

    fault.mend()?;
    fault.unload()?;
    region.bind(SYSRAM)?;
    region.assert_all("absent")?;
    set_default(guest, DEBIAN_DEFAULT)?;
    region.destroy()
}

/// The folder of the root decoder. It has another number when its port was bound anew.
fn root(guest: &Guest) -> Result<String> {
    let seen = guest.look(&[&format!("{CXL}/decoder*/create_ram_region")])?;
    let folder = seen.keys().next().and_then(|file| file.rsplit_once('/'));
    folder
        .map(|(folder, _)| folder.to_owned())
        .ok_or_else(|| Error::test("no decoder makes regions"))
}

fn loading_takes_nothing(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    guest.sh_ok("rmmod cxl_regions")?;
    let unbound = Region::committed(guest, "0x100 -s 256M")?;
    let stock = Region::stock(guest, "0x100 -s 256M")?;
    let create = format!("{}/create_ram_region", root(guest)?);
    let raw = guest.read(&create)?;
    guest.write(&create, &raw)?;
    let names = [unbound.name(), stock.name(), raw.clone()];
    let bound = |guest: &Guest| -> Result<Vec<Option<String>>> {
        names.iter().map(|name| ways::driver(guest, name)).collect()
    };
    let before = bound(guest)?;
    ensure(
        before == [None, Some("cxl_region".to_owned()), None],
        format!("before loading, the drivers are {before:?}"),
    )?;

    guest.sh_ok("modprobe cxl_regions && udevadm settle")?;
    let after = bound(guest)?;
    ensure(
        after == before,
        format!("loading made {after:?} of {before:?}"),
    )?;
    stock.assert_all("Movable")?;

    // Offered to every driver on the bus, a region goes to the stock driver or to nobody.
    for name in [&unbound.name(), &raw] {
        let _ = guest.write("/sys/bus/cxl/drivers_probe", name);
    }
    let probed = bound(guest)?;
    ensure(
        probed.iter().flatten().all(|driver| driver == "cxl_region"),
        format!("a probe of the bus made {probed:?} of {before:?}"),
    )?;

    guest.sh_ok("udevadm settle")?;
    for name in names.iter().rev() {
        guest.sh_ok(&format!("cxlr destroy-region {name}"))?;
    }
    set_default(guest, DEBIAN_DEFAULT)
}

fn unloading(guest: &Guest) -> Result<()> {
    let refused = |module: &str| -> Result<()> {
        let said = guest.sh(&format!("rmmod {module}"))?.failure()?;
        ensure(
            said.contains("in use"),
            format!("unloading {module} failed otherwise: {said}"),
        )
    };
    let region = Region::committed(guest, "0x100")?;
    region.bind(SYSRAM)?;
    refused("cxl_regions")?;
    guest.write(&region.online_type(), "online_movable")?;
    region.bind_kmem()?;
    refused("cxl_regions")?;
    refused("kmem")?;
    region.assert_all("Movable")?;
    guest.write(&region.state(), "unplugged")?;
    refused("cxl_regions")?;
    region.unbind_kmem()?;
    refused("cxl_regions")?;
    region.unbind(SYSRAM)?;
    guest.sh_ok("rmmod cxl_regions && rmmod kmem && modprobe -a kmem cxl_regions")?;
    region.destroy()
}

fn stock_kmem(guest: &Guest) -> Result<()> {
    guest.sh_ok(
        "rmmod cxl_regions && rmmod kmem && \
         insmod $(find /lib/modules -path '*/kernel/drivers/dax/kmem.ko*')",
    )?;
    let log = Log::from_now(guest)?;
    guest.sh("modprobe cxl_regions")?.failure()?;
    log.assert_line(&["cxl_regions", "Unknown symbol", "dax_kmem"])?;
    ensure(
        !guest
            .sh(&format!("test -e {DRIVERS}/{SYSRAM}"))?
            .succeeded(),
        "a region driver is there without our kmem",
    )?;
    guest
        .sh_ok("rmmod kmem && modprobe -a kmem cxl_regions")
        .map(drop)
}

fn goes_to_kmem(guest: &Guest) -> Result<()> {
    let autoprobe = "/sys/bus/dax/drivers_autoprobe";
    guest.sh_ok("modprobe -a device_dax fsdev_dax")?;
    let tell = |file: &str| -> Result<()> {
        for driver in ["device_dax", "fsdev_dax"] {
            guest.write(&format!("/sys/bus/dax/drivers/{driver}/{file}"), "dax0.0")?;
        }
        Ok(())
    };
    tell("new_id")?;
    for probes in ["1", "0"] {
        guest.write(autoprobe, probes)?;
        let region = Region::sysram(guest, "0x100", "online_movable")?;
        region.assert_all("Movable")?;
        let bound = drivers(guest, &[region.dax()])?;
        ensure(
            bound == ["kmem"],
            format!("with autoprobing {probes}, the dax device is with {bound:?}"),
        )?;
        region.destroy()?;
    }
    guest.write(autoprobe, "1")?;
    tell("remove_id")
}

fn persistent(guest: &Guest) -> Result<()> {
    // The capacity of a device is given away from its start, which is volatile.
    let ram = Region::sysram(guest, "0x100", "online_movable")?;
    let created = guest.sh_ok("cxlr --json create-region -t pmem --driver none 0x100")?;
    ensure(
        created.contains("region1"),
        format!("cxlr made another region: {created}"),
    )?;
    let log = Log::from_now(guest)?;
    for driver in [SYSRAM, "cxl_devdax_region"] {
        let bind = format!("{DRIVERS}/{driver}/bind");
        guest.write_refused(&bind, "region1", Errno::OPNOTSUPP)?;
        log.assert_line(&["region1", driver, "pmem"])?;
    }
    ensure(
        guest.read(&format!("{CXL}/region1/commit"))? == "1",
        "the refused region is not committed any more",
    )?;
    guest.write(&format!("{DRIVERS}/cxl_region/bind"), "region1")?;
    guest.wait_for("the persistent region has its device", || {
        Ok(guest
            .sh(&format!("test -e {CXL}/pmem_region1/driver"))?
            .succeeded())
    })?;
    ram.assert_all("Movable")?;
    guest.sh_ok("cxlr destroy-region region1")?;
    ram.destroy()
}

/// Every kind of interleaving in one machine: two host bridges with two devices each, one with four behind a switch.
fn interleaves() -> Topology {
    let device = |number: u64| MemoryDevice {
        serial: 0x100 + number,
        volatile: Some(512 * MIB),
        persistent: None,
        dynamic: None,
        sparse: false,
        file: None,
    };
    let bridge = |ports| HostBridge {
        decoders_for_one_port: true,
        ports,
    };
    let window = |targets: &[usize]| Window {
        size: 4 * GIB,
        targets: targets.to_vec(),
        granularity: None,
    };
    Topology {
        name: "interleaves",
        description: "two host bridges with two devices of 512 MiB each, one with four behind a switch",
        memory: 2 * GIB,
        memory_limit: 8 * GIB,
        host_bridges: vec![
            bridge(
                (0..2)
                    .map(|number| Device::Memory(device(number)))
                    .collect(),
            ),
            bridge(
                (2..4)
                    .map(|number| Device::Memory(device(number)))
                    .collect(),
            ),
            bridge(vec![Device::Switch(Switch {
                devices: (4..8).map(device).collect(),
                managed: false,
            })]),
        ],
        windows: vec![
            Window {
                granularity: Some(8 << 10),
                ..window(&[0, 1])
            },
            window(&[0]),
            window(&[2]),
        ],
        nvdimm: None,
        speeds: false,
    }
}

fn interleaved(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    // Across two bridges only alternating orders work, and this is none.
    for memdevs in [
        "0x100 0x101 0x102 0x103 -d decoder0.0",
        "0x101 0x100 -d decoder0.1",
        "0x107 0x105 0x104 0x106 -d decoder0.2",
    ] {
        let region = Region::sysram(guest, memdevs, "online_movable")?;
        region.assert_all("Movable")?;
        let size = hexadecimal(guest, &format!("{}/size", region.path()))? >> 10;
        let gained = total_memory(guest)? - before;
        ensure(
            gained == size,
            format!("{memdevs}: a region of {size} KiB brought {gained} KiB"),
        )?;
        let node = guest.read(&format!("{}/target_node", region.dax()))?;
        let node = node
            .parse()
            .map_err(|_| Error::test(format!("the node is '{node}'")))?;
        let data = Data::put(guest, node)?;
        // One memdev of several goes: no byte that went through the others is lost either.
        let memdev = guest.sh_ok(&format!(
            "cd {CXL}; decoder=$(<{}/target1); basename $(readlink -f $(readlink -f $decoder)/../uport)",
            region.path()
        ))?;
        let memdev = memdev.trim();
        guest.write(&format!("{DRIVERS}/cxl_mem/unbind"), memdev)?;
        data.assert_intact()?;
        data.remove()?;
        ensure(
            total_memory(guest)? == before,
            format!("{memdevs}: the region's memory left something behind"),
        )?;
        guest.write("/sys/bus/cxl/flush", "1")?;
        guest.write(&format!("{DRIVERS}/cxl_mem/bind"), memdev)?;
        region.destroy()?;
    }
    Ok(())
}

fn eight(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    let policies = ["online_movable", "offline"];
    let mut regions = Vec::new();
    for number in 0..8 {
        let policy = policies[number % 2];
        let region = Region::sysram(guest, &format!("{:#x}", 0x100 + number), policy)?;
        regions.push((region, policy));
    }
    let check = |regions: &[(Region<'_>, &str)]| -> Result<()> {
        for (region, policy) in regions {
            let wanted = match *policy {
                "offline" => "offline",
                _ => "online",
            };
            let states = block_states(guest, &region.blocks()?)?;
            ensure(
                states.len() == 8 && states.iter().all(|state| state == wanted),
                format!("{} under {policy} is {states:?}", region.name()),
            )?;
        }
        Ok(())
    };
    check(&regions)?;
    let gained = total_memory(guest)? - before;
    ensure(
        gained == 4 << 20,
        format!("four regions of 1 GiB that are online brought {gained} KiB"),
    )?;
    // From the middle outwards; who stays is not disturbed.
    while !regions.is_empty() {
        let (region, _) = regions.remove(regions.len() / 2);
        region.destroy()?;
        check(&regions)?;
    }
    ensure(
        total_memory(guest)? == before,
        "the regions' memory left something behind",
    )
}
