// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kmem` as a drop-in for the stock module: regions without a policy keep what they had.

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Install;
use lab::Result;
use lab::suite::Test;
use lab::topology::catalogue;

use crate::fault::Fault;
use crate::support::DEBIAN_DEFAULT;
use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::set_default;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let stock = Boot::new(catalogue::find("four").expect("it is in the catalogue"));
    let ours = stock.clone().modules(Install::Installed);
    vec![
        Test::new(
            "stock: a region's memory comes online by the system's default",
            stock,
            defaults,
        )
        .last(),
        Test::new(
            "kmem: a region without a policy comes online by the system's default, as it does on stock",
            ours,
            defaults,
        )
        .last(),
        Test::new(
            "kmem: a default that one block does not follow leaves nothing behind",
            loaded("one"),
            failing_default,
        ),
        Test::new(
            "kmem: an unbind takes blocks that are all offline away, and leaves those that are online",
            loaded("one"),
            unbinding,
        ),
        Test::new(
            "kmem: cannot be unloaded while memory is added, and can afterwards",
            loaded("one"),
            unloading,
        ),
    ]
}

/// What is seen of a region's memory is the same with either module.
fn defaults(guest: &Guest) -> Result<()> {
    for (memdev, (default, zones)) in [
        ("offline", "offline"),
        ("online_movable", "Movable"),
        ("online_kernel", "Normal"),
        ("online", "Normal"),
    ]
    .into_iter()
    .enumerate()
    {
        set_default(guest, default)?;
        let region = Region::stock(guest, &format!("mem{memdev}"))?;
        region.assert_all(zones)?;
        let state = format!("{}/state", region.dax_on_bus());
        let found = guest.read(&state)?;
        ensure(
            found == default,
            format!("state reads '{found}' under the default '{default}'"),
        )?;
        let resource = guest.sh_ok(&format!(
            "grep -A2 ' : {}$' /proc/iomem | sed 's/^.* : //'",
            region.name()
        ))?;
        ensure(
            resource == format!("{}\ndax{memdev}.0\nSystem RAM (kmem)\n", region.name()),
            format!("/proc/iomem shows:\n{resource}"),
        )?;
        // What is in a kernel zone need not come back.
        if zones != "Normal" {
            guest.write(&state, "unplugged")?;
            region.assert_all("absent")?;
            guest.write(&state, "online_movable")?;
            region.assert_all("Movable")?;
            guest.write(&state, "unplugged")?;
            region.assert_all("absent")?;
        }
    }
    Ok(())
}

/// Where the stock module says that all is well.
fn failing_default(guest: &Guest) -> Result<()> {
    let fault = Fault::load(guest)?;
    set_default(guest, "online_movable")?;
    let region = Region::committed(guest, "mem0")?;
    let block = region.blocks()?[3];
    fault.refuse_online(block)?;
    let log = Log::from_now(guest)?;
    region.bind("cxl_region")?;
    log.wait_for("probe with driver kmem failed")?;
    log.assert_line(&["dax", &format!("memory{block}"), "rolled back"])?;
    region.assert_all("absent")?;
    let dax = region.dax_on_bus();
    ensure(
        guest.read(&format!("{dax}/state")).is_err(),
        "the device has no driver",
    )?;
    fault.mend()?;
    let name = dax.rsplit('/').next().unwrap_or_default();
    guest.write("/sys/bus/dax/drivers/kmem/bind", name)?;
    region.assert_all("Movable")?;
    guest.write(&format!("{dax}/state"), "unplugged")?;
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)?;
    fault.unload()
}

/// Without a policy, as the stock module does it.
fn unbinding(guest: &Guest) -> Result<()> {
    const KMEM: &str = "/sys/bus/dax/drivers/kmem";
    for (default, zones, afterwards) in [
        ("offline", "offline", "absent"),
        ("online_movable", "Movable", "Movable"),
    ] {
        set_default(guest, default)?;
        let region = Region::stock(guest, "mem0")?;
        region.assert_all(zones)?;
        guest.write(&format!("{KMEM}/unbind"), &region.dax_name())?;
        region.assert_all(afterwards)?;
        let left = guest.sh_ok("grep -E 'dax|kmem' /proc/iomem; true")?;
        ensure(
            left.is_empty() == (afterwards == "absent"),
            format!("{afterwards}, and /proc/iomem shows: {left}"),
        )?;
        guest.write(&format!("{KMEM}/bind"), &region.dax_name())?;
        region.assert_all(zones)?;
        guest.write(&format!("{}/state", region.dax_on_bus()), "unplugged")?;
        region.destroy()?;
    }
    set_default(guest, DEBIAN_DEFAULT)
}

fn unloading(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let region = Region::stock(guest, "mem0")?;
    let state = format!("{}/state", region.dax_on_bus());
    guest.sh_ok("rmmod cxl_regions")?;
    let refusal = guest.sh("rmmod kmem")?.failure()?;
    ensure(
        refusal.contains("in use"),
        format!("rmmod says why: {refusal}"),
    )?;
    region.assert_all("Movable")?;
    ensure(
        guest.read(&state)? == "online_movable",
        "the device still has its driver",
    )?;

    guest.write(&state, "unplugged")?;
    guest.sh_ok("rmmod kmem")?;
    region.assert_all("absent")?;
    ensure(guest.read(&state).is_err(), "the device has no driver")?;
    let left = guest.sh_ok("grep -E 'dax|kmem' /proc/iomem; true")?;
    if !left.is_empty() {
        return Err(Error::test(format!("the addresses are free again: {left}")));
    }

    // It takes up what is there as it is loaded.
    guest.sh_ok("modprobe kmem")?;
    region.assert_all("Movable")?;
    guest.write(&state, "unplugged")?;
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)?;
    guest.sh_ok("modprobe cxl_regions").map(drop)
}
