// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's `cxl` and `daxctl`, which know nothing of our drivers, beside them and upon them.

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

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || loaded("one-hdm");
    vec![
        Test::new(
            "tools: 'cxl create-region' gives its region to the stock driver, though ours are there",
            one(),
            create,
        ),
        Test::new(
            "tools: 'cxl list' and 'daxctl list' show our region as any other",
            one(),
            list,
        ),
        Test::new(
            "tools: 'cxl disable-region' and 'cxl enable-region' take our region from us and give it to the stock driver",
            one(),
            disable,
        ),
        Test::new(
            "tools: 'cxl destroy-region -f' takes our region down",
            one(),
            destroy,
        ),
        Test::new(
            "tools: 'daxctl offline-memory' and 'online-memory' work within the policy",
            one(),
            memory,
        ),
        Test::new(
            "tools: 'daxctl reconfigure-device' makes our dax device devdax, and system RAM under its policy again",
            one(),
            our_device,
        ),
        Test::new(
            "tools: 'daxctl reconfigure-device' works with our kmem on a stock region as it did",
            one(),
            stock_device,
        ),
    ]
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
    let state = "/sys/bus/dax/devices/dax0.0/state";
    guest.wait_for("the memory is online", || {
        Ok(guest
            .read(state)
            .is_ok_and(|state| state == "online_movable"))
    })?;
    guest.sh_ok("cxl disable-region -f region0 && cxl destroy-region region0")?;
    ensure(
        total_memory(guest)? == before,
        "the region's memory left something behind",
    )?;
    set_default(guest, DEBIAN_DEFAULT)
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

fn disable(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let before = total_memory(guest)?;
    let region = our_region(guest)?;
    guest.sh_ok("cxl disable-region -f region0")?;
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
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)
}

fn destroy(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    our_region(guest)?;
    guest.sh_ok("cxl destroy-region -f region0")?;
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
