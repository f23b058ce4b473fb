// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cxlr` on the real kernel: the same command with our modules and without, whole or not at all.

use lab::Boot;
use lab::Guest;
use lab::Result;
use lab::suite::Test;
use lab::topology::catalogue;
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
use crate::udev::Rule;
use crate::ways;
use crate::witness::Witness;
use crate::witness::zones_entered;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let ours = || loaded("one-hdm");
    let stock = || Boot::new(catalogue::find("one").expect("it is in the catalogue"));
    vec![
        Test::new(
            "cxlr: a region is created, listed, unplugged, plugged and destroyed",
            ours(),
            life,
        ),
        Test::new(
            "cxlr: what the policy forbids is refused, and changes nothing",
            ours(),
            against_policy,
        ),
        Test::new(
            "cxlr: where the memory does not come online, nothing of the region is left",
            ours(),
            failing_create,
        ),
        Test::new(
            "cxlr: a region whose memory cannot go is not destroyed, and stays as it is",
            ours(),
            failing_destroy,
        ),
        Test::new(
            "cxlr: a region for applications is created in its mode, listed and destroyed",
            ours(),
            for_applications,
        ),
        Test::new("cxlr: bad input changes nothing", ours(), bad_input),
        Test::new(
            "cxlr: on the stock kernel, whatever the default and udev's rule, memory enters the wanted zone alone",
            stock(),
            stock_zones,
        ),
        Test::new(
            "cxlr: on the stock kernel, a region for applications never is with kmem",
            stock(),
            stock_for_applications,
        ),
        Test::new(
            "cxlr: on the stock kernel, a region that was enabled a moment ago is taken down and handed over in good order",
            stock(),
            stock_just_enabled,
        ),
        Test::new(
            "cxlr: on the stock kernel, memory that kmem left behind keeps its region",
            stock(),
            stock_left_behind,
        )
        .last(),
        Test::new(
            "cxlr: memory that stayed behind is taken up as it is, and nobody else gets its region",
            ours(),
            left_behind,
        ),
    ]
}

/// What jq finds in `cxlr list --json`.
fn listed(guest: &Guest, filter: &str) -> Result<String> {
    let found = guest.sh_ok(&format!(
        "set -o pipefail; cxlr --json list | jq -c '{filter}'"
    ))?;
    Ok(found.trim().to_owned())
}

/// Fails unless there is no region, and no memdev gives anything.
fn assert_nothing_left(guest: &Guest) -> Result<()> {
    let regions = ways::regions(guest)?;
    ensure(regions.is_empty(), format!("there still are {regions:?}"))?;
    let taken = guest.sh_ok(&format!(
        "cd {CXL}; grep -L -e '^0x0*$' decoder*/dpa_size; true"
    ))?;
    ensure(
        taken.trim().is_empty(),
        format!("capacity is taken without a region: {taken}"),
    )
}

fn life(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    guest.sh_ok(
        "cxlr create-region -t ram --driver sysram --online-type online_movable 0x100 -s 512M",
    )?;
    let seen = listed(guest, ".regions[] | [.region, .size, .driver, .policy]")?;
    ensure(
        seen == r#"["region0",536870912,"cxl_sysram_region","online_movable"]"#,
        format!("'cxlr list' shows the region as {seen}"),
    )?;
    ensure(
        total_memory(guest)? == before + (512 << 10),
        "the region's memory is not in MemTotal",
    )?;
    for (state, memory) in [
        ("unplugged", 0),
        ("online_movable", 512 << 10),
        ("unplugged", 0),
    ] {
        guest.sh_ok(&format!("cxlr hotplug region0 {state}"))?;
        ensure(
            guest.read("/sys/bus/dax/devices/dax0.0/state")? == state
                && total_memory(guest)? == before + memory,
            format!("after 'cxlr hotplug region0 {state}' the memory is otherwise"),
        )?;
    }
    guest.sh_ok("cxlr destroy-region region0")?;
    assert_nothing_left(guest)
}

fn against_policy(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    for state in ["online_kernel", "online"] {
        let said = guest
            .sh(&format!("cxlr hotplug region0 {state}"))?
            .failure()?;
        ensure(
            said.contains("online_movable"),
            format!("the refusal of {state} does not name the policy: {said}"),
        )?;
        region.assert_all("Movable")?;
    }
    region.destroy()
}

fn failing_create(guest: &Guest) -> Result<()> {
    // Where the region will lie: it lies there again.
    let region = Region::committed(guest, "0x100")?;
    let blocks = region.blocks()?;
    region.destroy()?;
    let before = total_memory(guest)?;
    let fault = Fault::load(guest)?;
    for block in [blocks[0], blocks[blocks.len() - 1]] {
        fault.refuse_online(block)?;
        let said = guest
            .sh("cxlr create-region -t ram --driver sysram --online-type online_movable 0x100")?
            .failure()?;
        ensure(
            said.contains("cxl_dax_kmem_region"),
            format!("the failure does not tell which step failed: {said}"),
        )?;
        assert_nothing_left(guest)?;
        ensure(
            total_memory(guest)? == before,
            "memory of the failed region is still there",
        )?;
    }
    fault.mend()?;
    fault.unload()
}

fn failing_destroy(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    let blocks = region.blocks()?;
    let fault = Fault::load(guest)?;
    fault.refuse_offline(blocks[3])?;
    guest.sh("cxlr destroy-region region0")?.failure()?;
    let states = block_states(guest, &blocks)?;
    ensure(
        states.iter().all(|state| state == "online"),
        format!("the region was not left as it was: {states:?}"),
    )?;
    ensure(
        guest.read(&region.state())? == "online_movable",
        "the region has lost its drivers",
    )?;
    fault.mend()?;
    fault.unload()?;
    region.destroy()?;
    assert_nothing_left(guest)
}

fn bad_input(guest: &Guest) -> Result<()> {
    for arguments in [
        "0x100 -s 2G",
        "0x100 -s 100M",
        "0x100 -w 2",
        "0x100 0x100",
        "0x100 -g 100",
        "0x100 --online-type movable",
        "0x100 --driver devdax --online-type online_movable",
        "0x100 --driver devdax --dax-mode system-ram",
        "0x100 --driver sysram --dax-mode devdax",
        "0x100 -d decoder9.9",
        "0x999",
        "",
    ] {
        let command = format!("cxlr create-region -t ram {arguments}");
        let said = guest.sh(&command)?.failure()?;
        ensure(
            !said.trim().is_empty(),
            format!("'{command}' fails without a word"),
        )?;
        assert_nothing_left(guest)?;
    }
    guest.sh("cxlr destroy-region region7")?.failure()?;
    guest.sh("cxlr hotplug region7 unplugged")?.failure()?;
    Ok(())
}

fn for_applications(guest: &Guest) -> Result<()> {
    let before = total_memory(guest)?;
    for (arguments, mode, driver) in [
        ("", "devdax", "device_dax"),
        ("--dax-mode fsdev", "fsdev", "fsdev_dax"),
    ] {
        guest.sh_ok(&format!(
            "cxlr create-region -t ram --driver devdax {arguments} 0x100"
        ))?;
        let seen = listed(
            guest,
            ".regions[] | [.driver, .dax_mode, .daxregion.devices[].driver]",
        )?;
        ensure(
            seen == format!(r#"["cxl_devdax_region","{mode}","{driver}"]"#),
            format!("'cxlr list' shows the region as {seen}"),
        )?;
        let said = guest.sh("cxlr hotplug region0 online_movable")?.failure()?;
        ensure(
            said.contains("--driver sysram"),
            format!("the refusal does not tell the way: {said}"),
        )?;
        ensure(
            total_memory(guest)? == before,
            "the region's memory is system RAM",
        )?;
        guest.sh_ok("cxlr destroy-region region0")?;
        assert_nothing_left(guest)?;
    }
    Ok(())
}

fn stock_for_applications(guest: &Guest) -> Result<()> {
    let witness = Witness::start(guest)?;
    let before = total_memory(guest)?;
    for (mode, driver) in [("devdax", "device_dax"), ("fsdev", "fsdev_dax")] {
        guest.sh_ok(&format!(
            "cxlr create-region -t ram --driver devdax --dax-mode {mode} 0x100"
        ))?;
        guest.sh_ok("udevadm settle")?;
        let seen = listed(guest, ".regions[] | [.driver, .daxregion.devices[].driver]")?;
        ensure(
            seen == format!(r#"["cxl_region","{driver}"]"#),
            format!("'cxlr list' shows the region as {seen}"),
        )?;
        guest.sh_ok("cxlr destroy-region region0")?;
        assert_nothing_left(guest)?;
    }
    // The names that the drivers were told are taken back: the next region goes to kmem, as ever.
    let changes = witness.changes()?;
    ensure(
        changes.is_empty() && total_memory(guest)? == before,
        format!("blocks went online: {changes:?}"),
    )?;
    witness.stop()
}

fn stock_zones(guest: &Guest) -> Result<()> {
    let witness = Witness::start(guest)?;
    let before = total_memory(guest)?;
    for default in ["offline", "online", "online_kernel", "online_movable"] {
        set_default(guest, default)?;
        for hostile in [false, true] {
            let rule = hostile
                .then(|| Rule::install(guest, "online"))
                .transpose()?;
            guest.sh_ok(
                "cxlr create-region -t ram --driver sysram --online-type online_movable 0x100",
            )?;
            guest.sh_ok("udevadm settle")?;
            let changes = witness.changes()?;
            ensure(
                zones_entered(&changes) == ["Movable"],
                format!("under the default {default}, blocks went online so: {changes:?}"),
            )?;
            let gained = total_memory(guest)? - before;
            ensure(
                gained == 1 << 20,
                format!("under the default {default}, a region of 1 GiB brought {gained} KiB"),
            )?;
            guest.sh_ok("cxlr destroy-region region0")?;
            assert_nothing_left(guest)?;
            if let Some(rule) = rule {
                rule.remove()?;
            }
        }
    }
    set_default(guest, DEBIAN_DEFAULT)?;
    witness.stop()
}

/// Fails unless a command ends with this status, and says all of these words.
fn refused(guest: &Guest, command: &str, status: u8, words: &[&str]) -> Result<()> {
    let said = guest.sh_ok(&format!("{command} 2>&1; echo status $?"))?;
    let status = format!("status {status}");
    ensure(
        said.contains(&status) && words.iter().all(|word| said.contains(word)),
        format!("of '{command}' {status} and {words:?} were expected, and it said: {said}"),
    )
}

/// The dax device comes some time after the driver: at different moments of what the tool does.
fn stock_just_enabled(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let before = total_memory(guest)?;
    let log = Log::from_now(guest)?;
    let just_enabled = || -> Result<String> {
        let region = Region::committed(guest, "0x100")?;
        Ok(format!(
            "echo {} > {DRIVERS}/cxl_region/bind",
            region.name()
        ))
    };
    for _ in 0..5 {
        let enable = just_enabled()?;
        guest.sh_ok(&format!("set -e; {enable}; cxlr destroy-region region0"))?;
        assert_nothing_left(guest)?;

        let enable = just_enabled()?;
        guest.sh_ok(&format!(
            "set -e; {enable}; cxlr bind region0 --driver sysram --online-type online_movable; cxlr bind region0 --driver none; \
             cxlr destroy-region region0"
        ))?;
        assert_nothing_left(guest)?;
        ensure(
            total_memory(guest)? == before,
            "the region's memory left something behind in MemTotal",
        )?;
    }
    log.assert_none("stuck online")?;
    set_default(guest, DEBIAN_DEFAULT)
}

fn stock_left_behind(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let region = Region::stock(guest, "0x100")?;
    let data = Data::put(guest, 1)?;
    guest.write("/sys/bus/dax/drivers/kmem/unbind", &region.dax_name())?;
    for command in [
        "destroy-region region0",
        "bind region0 --driver none",
        "bind region0 --driver sysram",
        "bind region0 --driver devdax",
    ] {
        let words = ["left behind", "restart the machine"];
        refused(guest, &format!("cxlr {command}"), 4, &words)?;
        data.assert_intact()?;
    }
    region.assert_all("Movable")?;
    // As the refusals say.
    guest.write_refused(
        "/sys/bus/dax/drivers/kmem/bind",
        &region.dax_name(),
        Errno::BUSY,
    )
}

fn left_behind(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    let data = Data::put(guest, 1)?;
    let fault = Fault::load(guest)?;
    fault.refuse_offline(region.blocks()?[0])?;
    region.unbind_kmem()?;
    region.unbind("cxl_sysram_region")?;

    let remedy = ["cxlr bind region0 --driver sysram"];
    for command in [
        "destroy-region region0",
        "bind region0 --driver auto",
        "bind region0 --driver devdax",
        "hotplug region0 online_movable",
    ] {
        refused(guest, &format!("cxlr {command}"), 4, &remedy)?;
    }
    let otherwise = "cxlr bind region0 --driver sysram --online-type online_kernel";
    let words = [
        "stayed behind as online_movable",
        "--online-type online_movable",
    ];
    refused(guest, otherwise, 1, &words)?;
    refused(guest, "cxlr destroy-region region0", 4, &remedy)?;

    guest.sh_ok("cxlr bind region0 --driver sysram --online-type online_movable")?;
    region.assert_all("Movable")?;
    data.assert_intact()?;
    data.remove()?;
    fault.mend()?;
    fault.unload()?;
    region.destroy()?;
    assert_nothing_left(guest)
}
