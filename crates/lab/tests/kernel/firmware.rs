// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions that firmware has committed: the kernel makes them from the decoders as it finds them.
//!
//! A kernel that is started by the one before it finds them as well: see [`Guest::kexec`].

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Install;
use lab::Result;
use lab::suite::Test;
use lab::topology::catalogue;

use crate::fault::Fault;
use crate::support::CXL;
use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "firmware: a region that it committed stays with the stock driver until it is handed over, \
         whole or not at all, and back",
        with_decoders(),
        hand_over,
    )]
}

/// A guest whose decoders may outlive its kernel; a passthrough host bridge has none to find.
pub fn with_decoders() -> Boot {
    Boot::new(catalogue::find("x2").expect("it is in the catalogue"))
        .modules(Install::Installed)
        .with_kexec()
}

/// The one region of the guest, once the stock driver has it and its memory is with kmem.
pub fn assembled(guest: &Guest) -> Result<Region<'_>> {
    guest.wait_for_hardware()?;
    let region = Region::named(guest, "region0")?;
    let state = format!("{}/state", region.dax_on_bus());
    guest.wait_for("the region that firmware committed is with kmem", || {
        Ok(guest.read(&state).is_ok())
    })?;
    ensure(
        driver(guest, &region)? == "cxl_region",
        "the region is not with the stock driver",
    )?;
    Ok(region)
}

/// The driver of a region.
fn driver(guest: &Guest, region: &Region<'_>) -> Result<String> {
    let driver = guest.sh_ok(&format!("basename $(readlink {}/driver)", region.path()))?;
    Ok(driver.trim().to_owned())
}

/// All that can be seen of regions, dax devices and memory blocks; which drivers are loaded is none of that.
fn looks(guest: &Guest) -> Result<String> {
    guest.sh_ok("cxlr --json list | jq -S 'del(.system.region_drivers)'")
}

fn hand_over(guest: &Guest) -> Result<()> {
    guest.sh_ok("cxlr create-region -t ram 0x100 0x101 --driver none")?;
    guest.kexec("memhp_default_state=online_movable")?;
    let region = assembled(guest)?;
    region.assert_all("Movable")?;

    // Modules that nobody gave anything to change nothing.
    let before = looks(guest)?;
    guest.load_modules()?;
    let loaded = looks(guest)?;
    ensure(
        before == loaded,
        format!("loading the modules changed what was\n{before}\nto what is\n{loaded}"),
    )?;

    not_at_all(guest, &region, &before)?;

    // The whole of it.
    let log = Log::from_now(guest)?;
    guest.sh_ok("cxlr bind region0 --driver sysram --online-type online_movable")?;
    ensure(
        driver(guest, &region)? == "cxl_sysram_region"
            && guest.read(&region.online_type())? == "online_movable"
            && guest.read(&region.state())? == "online_movable",
        "the region is not under its policy",
    )?;
    region.assert_all("Movable")?;
    log.assert_none("cxl_region: probe of")?;

    // And back: the default decides again.
    guest.sh_ok("cxlr bind region0 --driver auto")?;
    region.assert_all("Movable")?;
    let after = looks(guest)?;
    ensure(
        before == after,
        format!("what was\n{before}\ncame back as\n{after}"),
    )?;
    region.destroy()
}

/// A block that cannot go keeps the region where it is; memory that cannot come brings it back.
fn not_at_all(guest: &Guest, region: &Region<'_>, before: &str) -> Result<()> {
    let fault = Fault::load(guest)?;
    let blocks = region.blocks()?;
    fault.refuse_offline(blocks[3])?;
    let said = guest
        .sh("cxlr bind region0 --driver sysram --online-type online_movable")?
        .failure()?;
    ensure(
        said.contains("dax0.0"),
        format!("it is not said what stood in the way: {said}"),
    )?;
    fault.mend()?;
    let after = looks(guest)?;
    ensure(
        before == after,
        format!("memory that could not go is not as it was:\n{before}\nis\n{after}"),
    )?;

    // Then memory that goes, and does not come under our driver: a file that takes nothing lies over the last one that is
    // written.
    let bind = "/sys/bus/cxl/drivers/cxl_dax_kmem_region/bind";
    guest.sh_ok(&format!("mount --bind /dev/full {bind}"))?;
    let failed = guest.sh("cxlr bind region0 --driver sysram --online-type online_movable")?;
    guest.sh_ok(&format!("umount {bind}"))?;
    failed.failure()?;
    let after = looks(guest)?;
    ensure(
        before == after,
        format!("a region that could not be taken over is not as it was:\n{before}\nis\n{after}"),
    )?;
    fault.unload()?;
    guest
        .read(&format!("{CXL}/region0/sysram_region0/online_type"))
        .map_or(Ok(()), |_| Err(Error::test("our device is still there")))
}
