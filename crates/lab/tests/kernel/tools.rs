// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's `cxl` and `daxctl`, which know nothing of our drivers, beside them and upon them.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::suite::Test;

use crate::support::CXL;
use crate::support::DEBIAN_DEFAULT;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::set_default;
use crate::support::total_memory;
use crate::ways;

/// What is promised of the tools, in either version.
const PROMISES: [(&str, Steps); 8] = [
    (
        "'cxl create-region' gives its region to the stock driver, though ours are there",
        create,
    ),
    (
        "'cxl list' and 'daxctl list' show our region as any other",
        list,
    ),
    (
        "all that they list of a region is the same with our drivers as with the stock driver",
        same_lists,
    ),
    (
        "all that they list of a region for applications is the same with our drivers as with the stock driver",
        same_lists_for_applications,
    ),
    (
        "'cxl disable-region' and 'cxl enable-region' take our region from us and give it to the stock driver",
        disable,
    ),
    (
        "'daxctl offline-memory' and 'online-memory' work within the policy",
        memory,
    ),
    (
        "'daxctl reconfigure-device' makes our dax device devdax, and system RAM under its policy again",
        our_device,
    ),
    (
        "'daxctl reconfigure-device' works with our kmem on a stock region as it did",
        stock_device,
    ),
];

type Steps = fn(&Guest) -> Result<()>;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let own = loaded("one-hdm");
    let later = own.clone().later_tools();
    let mut tests = vec![
        Test::new(
            "tools: 'cxl destroy-region -f' takes our region down",
            own.clone(),
            destroy,
        ),
        Test::new(
            "later tools: they are later than the guest's own",
            later.clone(),
            versions,
        ),
        Test::new(
            "later tools: 'cxl destroy-region' leaves our region alone while its decoders are locked, and takes it down once it is disabled",
            later.clone(),
            disable_and_destroy,
        ),
    ];
    for (promise, steps) in PROMISES {
        tests.push(Test::new(format!("tools: {promise}"), own.clone(), steps));
        tests.push(Test::new(
            format!("later tools: {promise}"),
            later.clone(),
            steps,
        ));
    }
    tests
}

fn versions(guest: &Guest) -> Result<()> {
    for tool in ["cxl", "daxctl"] {
        let version = |program: &str| -> Result<u32> {
            let said = guest.sh_ok(&format!("{program} --version"))?;
            said.trim()
                .parse()
                .map_err(|_| Error::test(format!("'{program} --version' says '{said}'")))
        };
        let (own, later) = (version(&format!("/usr/bin/{tool}"))?, version(tool)?);
        ensure(
            own < later,
            format!("{tool} is {later}, and the guest's own {own}"),
        )?;
    }
    Ok(())
}

/// What jq finds in a tool's output, one value to a line.
fn listed(guest: &Guest, command: &str, filter: &str) -> Result<Vec<String>> {
    let found = guest.sh_ok(&format!("set -o pipefail; {command} | jq -r '{filter}'"))?;
    Ok(found.lines().map(str::to_owned).collect())
}

fn our_region(guest: &Guest) -> Result<Region<'_>> {
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    region.assert_all("Movable")?;
    Ok(region)
}

fn create(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let before = total_memory(guest)?;
    let memdev = listed(guest, "cxl list -M", ".[0].memdev")?.concat();
    let root = listed(guest, "cxl list -D -d root", ".[0].decoder")?.concat();
    let created = listed(
        guest,
        &format!("cxl create-region -t ram -d {root} -m {memdev}"),
        ".region",
    )?;
    ensure(
        created == ["region0"],
        format!("'cxl create-region' made {created:?}"),
    )?;
    let driver = ways::driver(guest, "region0")?;
    ensure(
        driver.as_deref() == Some("cxl_region"),
        format!("the region's driver is {driver:?}"),
    )?;
    wait_for_stock_memory(guest)?;
    guest.sh_ok("cxl disable-region -f region0 && cxl destroy-region region0")?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory left something behind",
    )?;
    set_default(guest, DEBIAN_DEFAULT)
}

/// Waits until kmem has the region that was given to the stock driver, where the system default is `online_movable`.
fn wait_for_stock_memory(guest: &Guest) -> Result<()> {
    guest.wait_for("the memory is online", || {
        Ok(guest
            .read("/sys/bus/dax/devices/dax0.0/state")
            .is_ok_and(|state| state == "online_movable"))
    })
}

fn list(guest: &Guest) -> Result<()> {
    let region = our_region(guest)?;
    let filter = r#".[] | "\(.region) \(.size) \(.type) \(.decode_state)""#;
    let regions = listed(guest, "cxl list -R", filter)?;
    ensure(
        regions == ["region0 1073741824 ram commit"],
        format!("'cxl list -R' shows {regions:?}"),
    )?;
    let filter = r#".[] | "\(.chardev) \(.size) \(.mode) \(.online_memblocks) \(.total_memblocks) \(.movable)""#;
    let devices = listed(guest, "daxctl list -D", filter)?;
    ensure(
        devices == ["dax0.0 1073741824 system-ram 8 8 true"],
        format!("'daxctl list' shows {devices:?}"),
    )?;
    region.destroy()
}

/// All that the two tools can say of regions and of what is below them.
const LISTS: [&str; 3] = [
    "cxl list -B -D -E -M -P -R -T -X -i",
    "daxctl list -R -D -M -i",
    "daxctl list -r 0",
];

fn lists(guest: &Guest) -> Result<Vec<String>> {
    let list = |command: &&str| guest.sh_ok(&format!("{command} 2>&1"));
    LISTS.iter().map(list).collect()
}

/// Fails unless what was listed of a stock region is what was `found` of ours, but for where the dax device is.
fn assert_same(wanted: Vec<String>, found: Vec<String>, dax_region: &str) -> Result<()> {
    for ((command, wanted), found) in LISTS.iter().zip(wanted).zip(found) {
        // Decoders under memory are locked, which later tools tell.
        let wanted = wanted
            .replace(r"\/region0\/dax_region0", dax_region)
            .replace(r#""locked":false"#, r#""locked":true"#);
        ensure(
            wanted == found,
            format!("'{command}' says of a stock region\n{wanted}\nand of ours\n{found}"),
        )?;
    }
    Ok(())
}

fn same_lists(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let stock = Region::stock(guest, "0x100")?;
    stock.assert_all("Movable")?;
    let wanted = lists(guest)?;
    stock.destroy()?;
    let region = our_region(guest)?;
    let found = lists(guest)?;
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)?;
    // One step further down.
    let dax_region = r"\/region0\/sysram_region0\/dax_region0";
    assert_same(wanted, found, dax_region)
}

fn same_lists_for_applications(guest: &Guest) -> Result<()> {
    const DRIVERS: &str = "/sys/bus/dax/drivers";
    set_default(guest, "online_movable")?;
    let stock = Region::stock(guest, "0x100")?;
    guest.sh_ok("daxctl reconfigure-device -m devdax -f dax0.0")?;
    let wanted = lists(guest)?;
    guest.write(&format!("{DRIVERS}/device_dax/unbind"), "dax0.0")?;
    guest.sh_ok(&format!(
        "modprobe fsdev_dax; echo dax0.0 > {DRIVERS}/fsdev_dax/new_id; \
         test -e {DRIVERS}/fsdev_dax/dax0.0 || echo dax0.0 > {DRIVERS}/fsdev_dax/bind"
    ))?;
    let wanted_in_fsdev = lists(guest)?;
    guest.write(&format!("{DRIVERS}/fsdev_dax/unbind"), "dax0.0")?;
    guest.write(&format!("{DRIVERS}/fsdev_dax/remove_id"), "dax0.0")?;
    stock.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)?;

    let region = Region::committed(guest, "0x100")?;
    for (mode, wanted) in [("devdax", wanted), ("fsdev", wanted_in_fsdev)] {
        guest.sh_ok(&format!(
            "cxlr bind region0 --driver devdax --dax-mode {mode}"
        ))?;
        assert_same(wanted, lists(guest)?, r"\/region0\/dax_region0")?;
    }
    region.destroy()
}

fn disable(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let before = total_memory(guest)?;
    let region = our_region(guest)?;
    guest.sh_ok("cxl disable-region region0")?;
    ensure(
        ways::driver(guest, "region0")?.is_none(),
        "the disabled region has a driver",
    )?;
    region.assert_all("absent")?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory left something behind",
    )?;
    ensure(
        guest.read(&format!("{CXL}/region0/locked"))? == "0",
        "the region's decoders are locked, though its memory is gone",
    )?;
    guest.sh_ok("cxl enable-region region0")?;
    let driver = ways::driver(guest, "region0")?;
    ensure(
        driver.as_deref() == Some("cxl_region"),
        format!("the enabled region's driver is {driver:?}"),
    )?;
    wait_for_stock_memory(guest)?;
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)
}

fn destroy(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    our_region(guest)?;
    guest.sh_ok("cxl destroy-region -f region0")?;
    assert_nothing_left(guest, before)
}

fn disable_and_destroy(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    let region = our_region(guest)?;
    let refused = guest.sh("cxl destroy-region -f region0")?.failure()?;
    ensure(
        refused.contains("cannot destroy a locked region"),
        format!("'cxl destroy-region -f' says: {refused}"),
    )?;
    region.assert_all("Movable")?;
    guest.sh_ok("cxl disable-region region0 && cxl destroy-region region0")?;
    assert_nothing_left(guest, before)
}

/// Fails unless region and memory are gone, and the modules can be unloaded.
fn assert_nothing_left(guest: &Guest, before: u64) -> Result<()> {
    ensure(
        ways::regions(guest)?.is_empty() && total_memory(guest)? == before,
        "the region or its memory is still there",
    )?;
    guest
        .sh_ok("rmmod cxl_regions && rmmod kmem && modprobe -a kmem cxl_regions")
        .map(drop)
}

fn memory(guest: &Guest) -> Result<()> {
    let region = our_region(guest)?;
    guest.sh_ok("daxctl offline-memory dax0.0")?;
    region.assert_all("offline")?;
    let refused = guest
        .sh("daxctl online-memory --no-movable dax0.0")?
        .failure()?;
    ensure(
        refused.contains("dax0.0"),
        format!("'daxctl online-memory --no-movable' says: {refused}"),
    )?;
    let zones = region.zones()?;
    ensure(
        zones
            .iter()
            .all(|zone| zone == "offline" || zone == "Movable"),
        format!("against the policy, the blocks are {zones:?}"),
    )?;
    guest.sh_ok("daxctl online-memory dax0.0")?;
    region.assert_all("Movable")?;
    region.destroy()
}

fn our_device(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    let region = our_region(guest)?;
    reconfigure(guest, &region, before)?;
    region.assert_all("Movable")?;
    let policy = guest.read(&region.online_type())?;
    ensure(
        policy == "online_movable",
        format!("the policy has become '{policy}'"),
    )?;
    region.destroy()?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory left something behind",
    )
}

fn stock_device(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let before = total_memory(guest)?;
    let region = Region::stock(guest, "0x100")?;
    reconfigure(guest, &region, before)?;
    region.assert_all("Movable")?;
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)
}

/// There and back: from system RAM to devdax, where the device is a file to map, to system RAM.
fn reconfigure(guest: &Guest, region: &Region<'_>, before: u64) -> Result<()> {
    let mode = |guest: &Guest| listed(guest, "daxctl list -D", ".[] | .mode");
    guest.sh_ok("daxctl reconfigure-device -m devdax -f dax0.0")?;
    ensure(
        mode(guest)? == ["devdax"] && guest.sh("test -c /dev/dax0.0")?.succeeded(),
        "the dax device is not devdax",
    )?;
    region.assert_all("absent")?;
    ensure(
        total_memory(guest)? == before,
        "the memory is still there under devdax",
    )?;
    // Without -f it refuses, on stock kernels too, where the system brings memory online by itself.
    guest.sh_ok("daxctl reconfigure-device -m system-ram -f dax0.0")?;
    ensure(
        mode(guest)? == ["system-ram"],
        "the dax device is not system RAM again",
    )
}
