// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions that applications map themselves: the mode is chosen before the device is there, the device goes to that driver
//! and to no other, and its memory never becomes system RAM.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::guest;
use lab::running::Running;
use lab::running::Step;
use lab::suite::Test;
use lab_protocol::Stream;
use rustix::io::Errno;

use crate::support::CXL;
use crate::support::DEBIAN_DEFAULT;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::set_default;
use crate::support::total_memory;
use crate::teardown::discard_all;
use crate::ways;
use crate::ways::Hardware;
use crate::ways::Scene;
use crate::ways::Way;

const DEVDAX: &str = "cxl_devdax_region";
const DAX_DEVICE: &str = "cxl_dax_device_region";
const DAX_DRIVERS: &str = "/sys/bus/dax/drivers";
const NODE: &str = "/dev/dax0.0";

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || loaded("one-hdm");
    let mut tests = vec![
        Test::new(
            "devdax: a region becomes a device to map, once its mode is chosen, and keeps what was written to it",
            one(),
            mapped,
        ),
        Test::new(
            "devdax: the device goes to the driver of its mode alone, whoever else was told to take it, loaded or not",
            one(),
            nobody_else,
        ),
        Test::new(
            "devdax: kmem refuses the device, however it is asked, and says so",
            one(),
            refused_by_kmem,
        ),
        Test::new(
            "devdax: the mode is switched with all devices, and back, by us and by the stock drivers' files",
            one(),
            switched,
        ),
        Test::new(
            "devdax: a switch that fails leaves every device where it was",
            one(),
            failing_switch,
        ),
        Test::new(
            "devdax: 'daxctl' lists, shrinks, creates and destroys devices of a region",
            one(),
            daxctl,
        ),
        Test::new(
            "devdax: a region in use keeps its module loaded and its decoders locked",
            one(),
            held,
        ),
    ];
    tests.push(Test::new(
        "devdax: a persistent region beside it is mapped through its namespace, and goes to kmem and back, as ever",
        loaded("mixed"),
        persistent_beside,
    ));
    tests.push(Test::new(
        "devdax: many who bind, unbind, switch and map at once leave a region that works, and no system RAM",
        one(),
        crowd,
    ));
    // The others come down to these.
    let kinds = ["detaching", "deleting", "unbinding", "'cxl destroy"];
    let is_one = |way: &Way| kinds.iter().any(|kind| way.name.starts_with(kind));
    for way in ways::DECODERS.into_iter().filter(is_one) {
        tests.push(Test::new(
            format!(
                "devdax: {} ends the mapping before its memory is gone",
                way.name
            ),
            one(),
            move |guest| torn_down(guest, way, |guest| devdax(guest, "0x100", "devdax")),
        ));
    }
    let of_memdev = |way: &Way| way.name.starts_with("unbinding cxl_mem");
    for way in ways::DECODERS.into_iter().filter(of_memdev) {
        tests.push(Test::new(
            format!(
                "devdax: {} ends the mapping of a device that was system RAM before",
                way.name
            ),
            one(),
            move |guest| torn_down(guest, way, system_ram_before),
        ));
    }
    tests.push(Test::new(
        "devdax: a device that was taken from its driver with the memdev is given to no driver any more",
        one(),
        not_taken_again,
    ));
    tests
}

/// Binds a region to both drivers in this mode.
fn devdax<'g>(guest: &'g Guest, arguments: &str, mode: &str) -> Result<Region<'g>> {
    let region = Region::committed(guest, arguments)?;
    region.bind(DEVDAX)?;
    guest.write(&dax_mode(&region), mode)?;
    bind_devices(guest, &region)?;
    Ok(region)
}

/// The name of the device below the region.
fn dax_region(region: &Region<'_>) -> String {
    format!("dax_{}", region.name())
}

/// The file with the region's mode.
fn dax_mode(region: &Region<'_>) -> String {
    format!("{}/{}/dax_mode", region.path(), dax_region(region))
}

fn bind_devices(guest: &Guest, region: &Region<'_>) -> Result<()> {
    guest.write(&format!("{DRIVERS}/{DAX_DEVICE}/bind"), &dax_region(region))
}

fn unbind_devices(guest: &Guest, region: &Region<'_>) -> Result<()> {
    guest.write(
        &format!("{DRIVERS}/{DAX_DEVICE}/unbind"),
        &dax_region(region),
    )
}

/// The driver of a dax device, or an empty string.
fn driver_of(guest: &Guest, device: &str) -> Result<String> {
    let name = guest.sh_ok(&format!(
        "basename \"$(readlink /sys/bus/dax/devices/{device}/driver)\"; true"
    ))?;
    Ok(name.trim().to_owned())
}

fn assert_driver(guest: &Guest, device: &str, wanted: &str) -> Result<()> {
    let driver = driver_of(guest, device)?;
    ensure(
        driver == wanted,
        format!("the driver of {device} is '{driver}', and not '{wanted}'"),
    )
}

/// Tells a driver on the dax bus to take what is called so, or not to any more.
fn name_to(guest: &Guest, driver: &str, file: &str, device: &str) -> Result<()> {
    guest.write(&format!("{DAX_DRIVERS}/{driver}/{file}"), device)
}

/// An application that has a dax device mapped.
pub struct Application<'g> {
    running: Running<'g>,
}

impl<'g> Application<'g> {
    /// Starts the agent's program of that name on a device, which maps it.
    pub fn start(guest: &'g Guest, program: &str, device: &str) -> Result<Self> {
        let running = guest.start(guest::program(&["/init", program, device]))?;
        let application = Self { running };
        let said = application.hear()?;
        ensure(
            said == "mapped",
            format!("{device} is not mapped, but '{said}'"),
        )?;
        Ok(application)
    }

    /// What it says next: a line.
    fn hear(&self) -> Result<String> {
        match self.running.next(Some(guest::HANG))? {
            Step::Output(Stream::Stdout, said) => {
                Ok(String::from_utf8_lossy(&said).trim_end().to_owned())
            }
            Step::Output(Stream::Stderr, said) => Err(Error::test(format!(
                "the application failed: {}",
                String::from_utf8_lossy(&said)
            ))),
            Step::Ended(end) => Err(Error::test(format!("the application ended: {end:?}"))),
        }
    }

    /// Tells it something, and hears what is in the memory then.
    pub fn tell(&self, line: &str) -> Result<String> {
        let gone = |error| Error::test(format!("the guest is gone: {error}"));
        self.running
            .control()
            .input(format!("{line}\n").as_bytes())
            .map_err(gone)?;
        self.hear()
    }

    /// Has it end.
    pub fn end(self) -> Result<()> {
        let gone = |error| Error::test(format!("the guest is gone: {error}"));
        self.running.control().close_input().map_err(gone)?;
        self.running.output(guest::HANG)?.success().map(drop)
    }

    /// Fails unless its memory is gone when it asks for it.
    pub fn assert_memory_is_gone(self) -> Result<()> {
        match self.tell("get") {
            Err(_) => Ok(()),
            Ok(text) => Err(Error::test(format!("the memory is still there: '{text}'"))),
        }
    }
}

/// Fails unless this text is at the start of the device.
fn assert_reads(guest: &Guest, device: &str, wanted: &str) -> Result<()> {
    let application = Application::start(guest, "map", device)?;
    let text = application.tell("get")?;
    application.end()?;
    ensure(
        text == wanted,
        format!("{device} has '{text}' in it, and not '{wanted}'"),
    )
}

fn write_text(guest: &Guest, device: &str, text: &str) -> Result<()> {
    let application = Application::start(guest, "map", device)?;
    application.tell(&format!("put {text}"))?;
    application.end()
}

fn mapped(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    let region = Region::committed(guest, "0x100")?;
    region.bind(DEVDAX)?;
    let mode = dax_mode(&region);
    let devices = || guest.sh_ok("ls /sys/bus/dax/devices");
    ensure(
        guest.read(&mode)? == "invalid" && devices()?.is_empty(),
        "there is a mode or a device before anybody chose",
    )?;
    guest.write_refused(
        &format!("{DRIVERS}/{DAX_DEVICE}/bind"),
        &dax_region(&region),
        Errno::NXIO,
    )?;
    for word in ["invalid", "kmem", "device_dax", "devdax ", ""] {
        guest.write_refused(&mode, &format!("{word}\n"), Errno::INVAL)?;
    }
    ensure(
        guest.read(&mode)? == "invalid",
        "a word that was refused chose a mode",
    )?;
    guest.write(&mode, "devdax\n")?;
    ensure(devices()?.is_empty(), "choosing a mode made a device")?;
    bind_devices(guest, &region)?;

    let folder = format!("{}/{}", region.path(), dax_region(&region));
    let bound = guest.sh_ok(&format!(
        "for d in {0} {folder} {folder}/dax0.0; do basename $(readlink $d/driver); done",
        region.path()
    ))?;
    ensure(
        bound.lines().eq([DEVDAX, DAX_DEVICE, "device_dax"]),
        format!("the drivers from the region down are {bound}"),
    )?;
    ensure(
        guest.read(&format!("{folder}/dax0.0/size"))? == (1u64 << 30).to_string(),
        "the device is not all of the region",
    )?;
    region.assert_all("absent")?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory is system RAM",
    )?;
    write_text(guest, NODE, "remember me")?;
    assert_reads(guest, NODE, "remember me")?;

    // Not initialised in between, and not by us.
    unbind_devices(guest, &region)?;
    ensure(devices()?.is_empty(), "unbinding left a device behind")?;
    ensure(
        guest.read(&mode)? == "devdax",
        "the mode is forgotten where the region still has it",
    )?;
    bind_devices(guest, &region)?;
    assert_reads(guest, NODE, "remember me")?;
    region.unbind(DEVDAX)?;
    ensure(
        guest.read(&mode).is_err() && devices()?.is_empty(),
        "unbinding the region left something behind",
    )?;
    region.destroy()
}

fn nobody_else(guest: &Guest) -> Result<()> {
    let log = Log::from_now(guest)?;
    for (mode, driver) in [("fsdev", "fsdev_dax"), ("devdax", "device_dax")] {
        // Neither is there when it is needed.
        guest.sh_ok("rmmod device_dax fsdev_dax 2>/dev/null; true")?;
        devdax(guest, "0x100", mode)?;
        assert_driver(guest, "dax0.0", driver)?;
        guest.sh_ok("cxlr destroy-region region0")?;
        // All are there, and were told to take what is called so.
        guest.sh_ok("modprobe -a device_dax fsdev_dax && udevadm settle")?;
        for other in ["kmem", "device_dax", "fsdev_dax"] {
            name_to(guest, other, "new_id", "dax0.0")?;
        }
        devdax(guest, "0x100", mode)?;
        assert_driver(guest, "dax0.0", driver)?;
        for other in ["kmem", "device_dax", "fsdev_dax"] {
            name_to(guest, other, "remove_id", "dax0.0")?;
        }
        guest.sh_ok("cxlr destroy-region region0")?;
    }
    // kmem would have refused, and nobody asked it.
    log.assert_none("refused")
}

fn refused_by_kmem(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    let region = devdax(guest, "0x100", "devdax")?;
    write_text(guest, NODE, "not for kmem")?;
    name_to(guest, "device_dax", "unbind", "dax0.0")?;
    let log = Log::from_now(guest)?;
    // Naming it is the first attempt.
    name_to(guest, "kmem", "new_id", "dax0.0")?;
    log.assert_line(&["dax0.0", "refused", "region0"])?;
    let bind = format!("{DAX_DRIVERS}/kmem/bind");
    guest.write_refused(&bind, "dax0.0", Errno::OPNOTSUPP)?;
    name_to(guest, "kmem", "remove_id", "dax0.0")?;
    region.assert_all("absent")?;
    assert_driver(guest, "dax0.0", "")?;
    name_to(guest, "device_dax", "bind", "dax0.0")?;

    let said = guest
        .sh("daxctl reconfigure-device -m system-ram -f dax0.0")?
        .failure()?;
    ensure(
        said.contains("dax0.0"),
        format!("'daxctl reconfigure-device' says: {said}"),
    )?;
    region.assert_all("absent")?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory is system RAM",
    )?;
    // It took the device from its driver first; choosing the mode again gives it one.
    guest.write(&dax_mode(&region), "devdax")?;
    assert_driver(guest, "dax0.0", "device_dax")?;
    assert_reads(guest, NODE, "not for kmem")?;
    name_to(guest, "kmem", "remove_id", "dax0.0")?;
    region.destroy()
}

fn switched(guest: &Guest) -> Result<()> {
    let region = devdax(guest, "0x100", "devdax")?;
    let mode = dax_mode(&region);
    write_text(guest, NODE, "the same memory")?;
    guest.write(&mode, "fsdev")?;
    assert_driver(guest, "dax0.0", "fsdev_dax")?;
    ensure(
        guest.read(&mode)? == "fsdev" && Application::start(guest, "map", NODE).is_err(),
        "a device for file systems was mapped",
    )?;
    guest.write(&mode, "devdax")?;
    assert_driver(guest, "dax0.0", "device_dax")?;
    assert_reads(guest, NODE, "the same memory")?;

    // As the stock drivers have it.
    name_to(guest, "device_dax", "unbind", "dax0.0")?;
    name_to(guest, "fsdev_dax", "new_id", "dax0.0")?;
    assert_driver(guest, "dax0.0", "fsdev_dax")?;
    name_to(guest, "fsdev_dax", "remove_id", "dax0.0")?;
    name_to(guest, "fsdev_dax", "unbind", "dax0.0")?;
    name_to(guest, "device_dax", "bind", "dax0.0")?;
    assert_reads(guest, NODE, "the same memory")?;
    region.destroy()
}

fn failing_switch(guest: &Guest) -> Result<()> {
    let region = devdax(guest, "0x100", "devdax")?;
    let mode = dax_mode(&region);
    let assert_devdax = || {
        assert_driver(guest, "dax0.0", "device_dax")?;
        ensure(
            guest.read(&mode)? == "devdax",
            "the mode is changed where the devices are not",
        )
    };
    // Somebody uses it, and goes on to.
    let application = Application::start(guest, "map", NODE)?;
    application.tell("put in use")?;
    let log = Log::from_now(guest)?;
    guest.write_refused(&mode, "fsdev", Errno::BUSY)?;
    log.assert_line(&["dax0.0", "in use"])?;
    assert_devdax()?;
    ensure(
        application.tell("get")? == "in use",
        "the application lost its memory",
    )?;
    application.end()?;
    // Somebody has it open, and has not mapped it. (The application had closed it.)
    let refused = guest
        .sh(&format!("exec 3<> {NODE}; echo fsdev > {mode}"))?
        .failure()?;
    ensure(
        refused.contains("busy"),
        format!("a device that is open was switched: {refused}"),
    )?;
    assert_devdax()?;

    // There is no such driver.
    guest.sh_ok("rmmod fsdev_dax 2>/dev/null; f=$(modinfo -n fsdev_dax) && mv $f $f.away")?;
    guest.write_refused(&mode, "fsdev", Errno::NODEV)?;
    assert_devdax()?;
    guest.sh_ok(
        "for f in $(find /lib/modules -name 'fsdev_dax*.away'); do mv $f ${f%.away}; done",
    )?;

    // The last of several devices cannot be had: the others go back.
    guest.sh_ok(
        "set -e; daxctl disable-device dax0.0; daxctl reconfigure-device -s 512M dax0.0; \
         daxctl enable-device dax0.0; daxctl create-device -r 0 -s 256M; daxctl create-device -r 0 -s 256M; \
         daxctl disable-device dax0.2",
    )?;
    let start = guest.read(&format!("{}/resource", region.path()))?;
    let start = u64::from_str_radix(start.trim_start_matches("0x"), 16)
        .map_err(|_| Error::test(format!("the region starts at '{start}'")))?;
    let taken = start + (768 << 20);
    guest.sh_ok(&format!(
        "modprobe range_taken start={taken:#x} size={:#x}",
        2u64 << 20
    ))?;
    let log = Log::from_now(guest)?;
    guest.write_refused(&mode, "fsdev", Errno::BUSY)?;
    log.assert_line(&["dax_region0", "fsdev_dax"])?;
    assert_devdax()?;
    assert_driver(guest, "dax0.1", "device_dax")?;
    assert_driver(guest, "dax0.2", "")?;
    guest.sh_ok("rmmod range_taken")?;
    guest.write(&mode, "fsdev")?;
    for device in ["dax0.0", "dax0.1", "dax0.2"] {
        assert_driver(guest, device, "fsdev_dax")?;
    }
    region.destroy()
}

fn daxctl(guest: &Guest) -> Result<()> {
    let region = devdax(guest, "0x100", "devdax")?;
    let list = || {
        guest.sh_ok(
            "set -o pipefail; daxctl list -D | jq -r 'sort_by(.chardev)[] | \"\\(.chardev) \\(.size) \\(.mode)\"'",
        )
    };
    let assert_listed = |wanted: &[&str]| -> Result<()> {
        let seen = list()?;
        ensure(
            seen.lines().eq(wanted.iter().copied()),
            format!("'daxctl list' shows {seen}"),
        )
    };
    assert_listed(&["dax0.0 1073741824 devdax"])?;
    guest.sh_ok(
        "set -e; daxctl disable-device dax0.0; daxctl reconfigure-device -s 256M dax0.0; \
         daxctl enable-device dax0.0; daxctl create-device -r 0 -s 512M",
    )?;
    assert_listed(&["dax0.0 268435456 devdax", "dax0.1 536870912 devdax"])?;
    write_text(guest, NODE, "first")?;
    write_text(guest, "/dev/dax0.1", "second")?;
    assert_reads(guest, NODE, "first")?;

    // Both go to the other mode and back, and one that is made meanwhile goes with them.
    guest.write(&dax_mode(&region), "fsdev")?;
    guest.sh_ok("daxctl create-device -r 0 -s 256M")?;
    assert_driver(guest, "dax0.2", "device_dax")?;
    guest.sh_ok("cxlr bind region0 --driver devdax --dax-mode fsdev")?;
    for device in ["dax0.0", "dax0.1", "dax0.2"] {
        assert_driver(guest, device, "fsdev_dax")?;
    }
    guest.write(&dax_mode(&region), "devdax")?;
    assert_reads(guest, "/dev/dax0.1", "second")?;
    guest.sh_ok("daxctl destroy-device -f dax0.1")?;
    assert_listed(&["dax0.0 268435456 devdax", "dax0.2 268435456 devdax"])?;
    let regions = guest.sh_ok("cxl list -RX | jq -r '.[] | .daxregion.devices | length'")?;
    ensure(
        regions.trim() == "2",
        format!("'cxl list -RX' shows {} devices", regions.trim()),
    )?;
    region.destroy()
}

fn held(guest: &Guest) -> Result<()> {
    let region = Region::committed(guest, "0x100")?;
    let locked = format!("{}/locked", region.path());
    let unload = |module: &str| guest.sh(&format!("rmmod {module}"))?.failure().map(drop);
    region.bind(DEVDAX)?;
    unload("cxl_regions")?;
    guest.write(&dax_mode(&region), "devdax")?;
    bind_devices(guest, &region)?;
    unload("cxl_regions")?;
    unload("kmem")?;
    ensure(guest.read(&locked)? == "1", "the decoders are not locked")?;
    guest.write_refused(&format!("{}/commit", region.path()), "0", Errno::PERM)?;
    guest.write_refused(
        &format!("{DRIVERS}/cxl_sysram_region/bind"),
        &region.name(),
        Errno::BUSY,
    )?;

    // Whoever unbinds it means it: the mapping ends.
    let application = Application::start(guest, "map", NODE)?;
    application.tell("put still here")?;
    region.unbind(DEVDAX)?;
    ensure(
        application.tell("get").is_err(),
        "the application still has its memory, though the region is unbound",
    )?;
    ensure(guest.read(&locked)? == "0", "the decoders are still locked")?;
    guest.sh_ok("rmmod cxl_regions && rmmod kmem && modprobe -a kmem cxl_regions")?;
    region.destroy()
}

fn persistent_beside(guest: &Guest) -> Result<()> {
    // The capacity of a device is given away from its start, which is volatile.
    let ours = devdax(guest, "0x100", "devdax")?;
    write_text(guest, NODE, "ours")?;
    set_default(guest, "online_movable")?;
    let before = total_memory(guest)?;
    guest.sh_ok("cxlr create-region -t pmem 0x100 && udevadm settle")?;
    guest.sh_ok("ndctl create-namespace -m devdax -s 512M && udevadm settle")?;
    let device = guest.sh_ok("set -o pipefail; ndctl list -N | jq -r '.[].chardev'")?;
    let device = device.trim();
    let node = format!("/dev/{device}");
    assert_driver(guest, device, "device_dax")?;
    write_text(guest, &node, "persistent")?;
    assert_reads(guest, &node, "persistent")?;

    guest.sh_ok(&format!(
        "daxctl reconfigure-device -m system-ram -f {device}"
    ))?;
    assert_driver(guest, device, "kmem")?;
    ensure(
        total_memory(guest)? > before,
        "the namespace's memory is not system RAM",
    )?;
    guest.sh_ok(&format!("daxctl reconfigure-device -m devdax -f {device}"))?;
    assert_driver(guest, device, "device_dax")?;
    name_to(guest, "kmem", "remove_id", device)?;
    assert_reads(guest, NODE, "ours")?;
    guest.sh_ok("ndctl destroy-namespace -f all && cxlr destroy-region region1")?;
    set_default(guest, DEBIAN_DEFAULT)?;
    ours.destroy()
}

/// What each of a crowd does, again and again. None of it need succeed.
///
/// Nobody unbinds a stock driver from a device that somebody has open and binds it again, which no kernel survives: the driver makes
/// its character device anew over the old one.
const CROWD: [&str; 6] = [
    "echo fsdev > $region/dax_region0/dax_mode; echo devdax > $region/dax_region0/dax_mode",
    "echo dax_region0 > $cxl/cxl_dax_device_region/unbind; echo dax_region0 > $cxl/cxl_dax_device_region/bind",
    "echo dax0.0 > $dax/kmem/new_id; echo dax0.0 > $dax/kmem/bind; echo dax0.0 > $dax/kmem/remove_id",
    "/init counted /dev/dax0.0",
    "cat $region/dax_region0/dax_mode; echo 0 > $region/commit; echo 1 > $region/commit",
    "echo region0 > $cxl/cxl_devdax_region/unbind; echo region0 > $cxl/cxl_devdax_region/bind; \
     echo devdax > $region/dax_region0/dax_mode; echo dax_region0 > $cxl/cxl_dax_device_region/bind",
];

fn crowd(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    let region = devdax(guest, "0x100", "devdax")?;
    let each: Vec<String> = CROWD
        .iter()
        .map(|what| format!("(for turn in {{1..40}}; do {what}; done) >/dev/null 2>&1 &"))
        .collect();
    guest.sh_ok(&format!(
        "region={}; cxl={DRIVERS}; dax={DAX_DRIVERS}\n{}\nwait",
        region.path(),
        each.join("\n")
    ))?;
    region.assert_all("absent")?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory is system RAM",
    )?;
    // Whatever it was left as: from here on it works, and goes.
    discard_all(guest)?;
    guest.sh_ok("rmmod cxl_regions && rmmod kmem && modprobe -a kmem cxl_regions")?;
    mapped(guest)
}

/// A region that is system RAM under a policy, whose device somebody gave to applications instead.
fn system_ram_before(guest: &Guest) -> Result<Region<'_>> {
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    guest.sh_ok("daxctl reconfigure-device -m devdax -f dax0.0")?;
    assert_driver(guest, "dax0.0", "device_dax")?;
    region.assert_all("absent")?;
    Ok(region)
}

/// Somebody gives the device to its driver again and again, while the memdev goes.
fn not_taken_again(guest: &Guest) -> Result<()> {
    let hardware = Hardware::find(guest)?;
    for turn in 0..3 {
        devdax(guest, "0x100", "devdax")?;
        let script = format!(
            "while [[ -e /sys/bus/dax/devices/dax0.0 ]]; do \
             echo dax0.0 > {DAX_DRIVERS}/device_dax/bind && echo taken; done 2> /dev/null; true"
        );
        let somebody = guest.start(guest::program(&["bash", "-c", &script]))?;
        hardware.unbind()?;
        let taken = somebody.output(guest::HANG)?.success()?;
        ensure(
            taken.is_empty(),
            format!("in turn {turn} the device was with its driver again: {taken}"),
        )?;
        hardware.settle()?;
        hardware.bind()?;
        discard_all(guest)?;
    }
    Ok(())
}

fn torn_down(guest: &Guest, way: Way, make: impl Fn(&Guest) -> Result<Region<'_>>) -> Result<()> {
    let scene = Scene {
        guest,
        region: make(guest)?,
        hardware: Hardware::find(guest)?,
    };
    let application = Application::start(guest, "count", NODE)?;
    (way.take)(&scene)?;
    let last = application.hear()?;
    application.end()?;
    scene.hardware.settle()?;
    (way.back)(&scene)?;
    scene.hardware.wait_until_whole()?;
    discard_all(guest)?;
    // What arrived is there: the memory was whole until the mapping ended.
    let region = devdax(guest, "0x100", "devdax")?;
    let counted = guest.sh_ok(&format!("/init counted /dev/{}", region.dax_name()))?;
    ensure(
        counted.trim() == last,
        format!("the last number that arrived is {last}, and the memory has {counted}"),
    )?;
    ensure(
        guest.read(&format!("{CXL}/{}/commit", region.name()))? == "1",
        "the new region is not committed",
    )?;
    region.destroy()
}
