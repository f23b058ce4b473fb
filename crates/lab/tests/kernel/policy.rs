// SPDX-License-Identifier: MIT OR Apache-2.0
//! A region's policy: nothing is online before it, and no block enters a zone that it forbids, whoever asks.
//!
//! Memory in a kernel zone soon holds data of the kernel's own and does not come back, so what goes there has a guest of
//! its own.

use lab::Guest;
use lab::Result;
use lab::guest;
use lab::suite::Test;
use rustix::io::Errno;

use crate::support::DEBIAN_DEFAULT;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::Region;
use crate::support::block_file;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::own_map;
use crate::support::set_default;
use crate::support::total_memory;
use crate::udev::Rule;
use crate::witness::Change;
use crate::witness::Witness;
use crate::witness::zones_entered;

/// What the system may do with new memory by itself.
const DEFAULTS: [&str; 4] = ["offline", "online", "online_kernel", "online_movable"];

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || loaded("one");
    vec![
        Test::new("policy: whatever the system's default, memory waits for the policy and then comes online as it says", one(), default_does_not_matter),
        Test::new("policy: whatever the system's default and udev's rule, kernel-zone policies are kept too", loaded("eight"), kernel_zone_policies).last(),
        Test::new("policy: a udev rule that onlines each new block finds nothing to do", one(), udev_rule_is_too_late),
        Test::new("policy: somebody who never stops onlining blocks gets none into another zone", one(), relentless_agent),
        Test::new("policy: a single block may go offline and back, but not into another zone", one(), single_blocks),
        Test::new("policy: a device-wide request against the policy is refused and changes nothing", one(), requests_against_it),
        Test::new("policy: online_type is asked for before kmem is, and stays as it is while kmem has the memory", one(), online_type_comes_first),
        Test::new("policy: with offline, memory is there and nobody has brought it online", one(), offline_leaves_the_choice),
        Test::new(
            "policy: with online the kernel chooses a zone once, for all blocks",
            own_map("one"),
            kernel_chooses_once,
        ),
    ]
}

/// Binds region and policy step by step; nothing may be online before the last one.
fn bring_up<'g>(
    guest: &'g Guest,
    witness: &Witness<'_>,
    memdev: &str,
    policy: &str,
) -> Result<Region<'g>> {
    witness.take(&[])?;
    let before = total_memory(guest)?;
    let region = Region::committed(guest, memdev)?;
    region.bind("cxl_sysram_region")?;
    region.assert_all("absent")?;
    guest.write(&region.online_type(), policy)?;
    // Whatever else could have been set off by now has run.
    guest.sh_ok("udevadm settle")?;
    region.assert_all("absent")?;
    let early = witness.take(&region.blocks()?)?;
    ensure(
        early.is_empty(),
        format!("blocks moved before the policy was in force: {early:?}"),
    )?;
    ensure(
        total_memory(guest)? == before,
        "memory came before the policy was in force",
    )?;
    region.bind_kmem()?;
    Ok(region)
}

/// Fails unless each of the region's blocks went online in `zone`, and nothing else happened to any.
fn assert_came_up_in(region: &Region<'_>, changes: &[Change], zone: &str) -> Result<()> {
    let mut online: Vec<u64> = changes
        .iter()
        .filter(|change| change.online && change.errno == 0 && change.zone == zone)
        .map(|change| change.block)
        .collect();
    online.sort_unstable();
    ensure(
        online == region.blocks()? && changes.len() == online.len(),
        format!("each block was to go to {zone}, once, but: {changes:?}"),
    )
}

fn default_does_not_matter(guest: &Guest) -> Result<()> {
    let witness = Witness::start(guest)?;
    for default in DEFAULTS {
        set_default(guest, default)?;
        let region = bring_up(guest, &witness, "mem0", "online_movable")?;
        region.assert_all("Movable")?;
        assert_came_up_in(&region, &witness.take(&region.blocks()?)?, "Movable")?;
        region.destroy()?;

        let region = bring_up(guest, &witness, "mem0", "offline")?;
        region.assert_all("offline")?;
        let changes = witness.take(&region.blocks()?)?;
        ensure(
            changes.is_empty(),
            format!("under 'offline' nothing goes online by itself, but: {changes:?}"),
        )?;
        region.destroy()?;
    }
    set_default(guest, DEBIAN_DEFAULT)?;
    witness.stop()
}

fn kernel_zone_policies(guest: &Guest) -> Result<()> {
    let witness = Witness::start(guest)?;
    let rule = Rule::install(guest, "online_movable")?;
    let combinations = DEFAULTS
        .iter()
        .flat_map(|default| [(default, "online"), (default, "online_kernel")]);
    let mut regions = Vec::new();
    for (number, (default, policy)) in combinations.enumerate() {
        set_default(guest, default)?;
        let region = bring_up(guest, &witness, &format!("mem{number}"), policy)?;
        guest.sh_ok("udevadm settle")?;
        region.assert_all("Normal")?;
        assert_came_up_in(&region, &witness.take(&region.blocks()?)?, "Normal")?;
        rule.assert_ran_for(&region)?;
        regions.push(region);
    }
    rule.remove()?;

    // All is in place: now single blocks.
    for region in &regions[..2] {
        let policy = guest.read(&region.online_type())?;
        let block = offline_any_block(guest, region)?;
        let log = Log::from_now(guest)?;
        guest.write_refused(&block_file(block), "online_movable", Errno::PERM)?;
        log.assert_line(&[&region.name(), "online_movable is against", &policy])?;
        guest.write(&block_file(block), "online_kernel")?;
        region.assert_all("Normal")?;
        let zones = witness.take(&region.blocks()?)?;
        ensure(
            zones_entered(&zones) == ["Normal"],
            format!("a block of {policy} left its zone: {zones:?}"),
        )?;
    }
    witness.stop()
}

/// Takes one block offline that the kernel has no data of its own in.
fn offline_any_block(guest: &Guest, region: &Region<'_>) -> Result<u64> {
    for block in region.blocks()? {
        if guest.write(&block_file(block), "offline").is_ok() {
            return Ok(block);
        }
    }
    Err(lab::Error::test("every block has data of the kernel's own"))
}

fn udev_rule_is_too_late(guest: &Guest) -> Result<()> {
    let witness = Witness::start(guest)?;
    for default in DEFAULTS {
        set_default(guest, default)?;
        for online_type in ["online", "online_kernel"] {
            let rule = Rule::install(guest, online_type)?;
            let region = bring_up(guest, &witness, "mem0", "online_movable")?;
            guest.sh_ok("udevadm settle")?;
            rule.assert_ran_for(&region)?;
            region.assert_all("Movable")?;
            assert_came_up_in(&region, &witness.take(&region.blocks()?)?, "Movable")?;
            region.destroy()?;
            rule.remove()?;
        }
    }
    set_default(guest, DEBIAN_DEFAULT)?;
    witness.stop()
}

fn relentless_agent(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let blocks = region.blocks()?;
    let files: Vec<String> = blocks.iter().map(|block| block_file(*block)).collect();
    let witness = Witness::start(guest)?;
    let agent = guest.start(guest::program(&[
        "bash",
        "-c",
        &format!(
            "while :; do for f in {}; do echo online_kernel > $f; done; done 2> /dev/null",
            files.join(" ")
        ),
    ]))?;
    for _ in 0..5 {
        guest.write(&region.state(), "unplugged")?;
        region.assert_all("absent")?;
        guest.write(&region.state(), "online_movable")?;
        region.assert_all("Movable")?;
    }
    // With one block offline the agent has its chance; each of its attempts is refused.
    let log = Log::from_now(guest)?;
    guest.write(&block_file(blocks[3]), "offline")?;
    log.wait_for("online_kernel is against")?;
    agent
        .control()
        .signal(9)
        .map_err(|error| lab::Error::test(error.to_string()))?;
    agent.output(guest::HANG)?;
    let changes = witness.take(&blocks)?;
    ensure(
        zones_entered(&changes) == ["Movable"],
        format!("a block went to another zone: {changes:?}"),
    )?;
    ensure(
        changes
            .iter()
            .any(|change| change.zone == "Normal" && change.errno == -Errno::PERM.raw_os_error()),
        format!("nobody tried another zone: {changes:?}"),
    )?;
    witness.stop()?;
    region.destroy()
}

fn single_blocks(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let blocks = region.blocks()?;
    let size = crate::support::block_size(guest)?;
    for block in [
        blocks[0],
        blocks[blocks.len() / 2],
        blocks[blocks.len() - 1],
    ] {
        guest.write(&block_file(block), "offline")?;
        let log = Log::from_now(guest)?;
        guest.write_refused(&block_file(block), "online_kernel", Errno::PERM)?;
        let (first, last) = (block * size, (block + 1) * size - 1);
        log.assert_line(&[
            &region.name(),
            &format!("[{first:#x}-{last:#x}]"),
            "online_kernel is against the region's policy online_movable",
        ])?;
        ensure(
            guest.read(&block_file(block))? == "offline",
            "a refused block stays offline",
        )?;
        guest.write(&block_file(block), "online_movable")?;
        region.assert_all("Movable")?;
    }
    // The kernel's own choice for a block between others of the zone is that zone.
    let block = blocks[blocks.len() / 2];
    guest.write(&block_file(block), "offline")?;
    guest.write(&block_file(block), "online")?;
    region.assert_all("Movable")?;
    // At the zone's end it chooses a kernel zone.
    let block = blocks[blocks.len() - 1];
    guest.write(&block_file(block), "offline")?;
    guest.write_refused(&block_file(block), "online", Errno::PERM)?;
    guest.write(&block_file(block), "online_movable")?;
    region.assert_all("Movable")?;
    region.destroy()
}

fn requests_against_it(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let refused = [
        (region.state(), "online"),
        (region.state(), "online_kernel"),
        (region.hotplug(), "online"),
    ];
    let witness = Witness::start(guest)?;
    for (state, zones) in [("online_movable", "Movable"), ("unplugged", "absent")] {
        guest.write(&region.state(), state)?;
        witness.take(&region.blocks()?)?;
        for (file, word) in &refused {
            let log = Log::from_now(guest)?;
            guest.write_refused(file, word, Errno::PERM)?;
            log.assert_line(&[
                &region.name(),
                &format!("{word} refused"),
                "policy is online_movable",
            ])?;
            region.assert_all(zones)?;
            ensure(
                guest.read(&region.state())? == state,
                "a refused request changes no state",
            )?;
        }
        let changes = witness.take(&region.blocks()?)?;
        ensure(
            changes.is_empty(),
            format!("refused requests moved blocks: {changes:?}"),
        )?;
    }
    witness.stop()?;
    region.destroy()
}

fn online_type_comes_first(guest: &Guest) -> Result<()> {
    let region = Region::committed(guest, "mem0")?;
    region.bind("cxl_sysram_region")?;
    let file = region.online_type();
    let name = format!("sysram_{}", region.name());
    let bind = format!("{DRIVERS}/cxl_dax_kmem_region/bind");
    let expect = |wanted: &str| -> Result<()> {
        let found = guest.read(&file)?;
        ensure(
            found == wanted,
            format!("online_type is '{found}' and should be '{wanted}'"),
        )
    };
    expect("invalid")?;
    guest.write_refused(&bind, &name, Errno::NXIO)?;
    for word in [
        "invalid",
        "\n",
        "movable",
        "ONLINE",
        "online ",
        "online_movable2",
        "-1",
        "3",
    ] {
        guest.write_refused(&file, word, Errno::INVAL)?;
        expect("invalid")?;
    }
    guest.write_refused(&bind, &name, Errno::NXIO)?;
    region.assert_all("absent")?;
    for word in ["online_kernel\n", "online", "offline\n", "online_movable"] {
        guest.write(&file, word)?;
        expect(word.trim_end())?;
    }
    guest.write_refused(&file, "invalid", Errno::INVAL)?;
    expect("online_movable")?;

    region.bind_kmem()?;
    for word in ["online_movable", "offline"] {
        guest.write_refused(&file, word, Errno::BUSY)?;
        expect("online_movable")?;
    }
    guest.write_refused(&file, "nonsense", Errno::INVAL)?;
    region.assert_all("Movable")?;

    guest.write(&format!("{DRIVERS}/cxl_dax_kmem_region/unbind"), &name)?;
    region.assert_all("absent")?;
    expect("online_movable")?;
    guest.write(&file, "offline")?;
    region.bind_kmem()?;
    region.assert_all("offline")?;
    region.destroy()
}

fn offline_leaves_the_choice(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "offline")?;
    region.assert_all("offline")?;
    ensure(guest.read(&region.state())? == "offline", "state says so")?;
    // Whoever wants the memory says how.
    guest.write(&region.state(), "online_movable")?;
    region.assert_all("Movable")?;
    guest.write(&region.state(), "unplugged")?;
    region.assert_all("absent")?;
    region.destroy()
}

/// In this guest it chooses the movable zone for memory that has no neighbours in any.
fn kernel_chooses_once(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online")?;
    region.assert_all("Movable")?;
    for block in region.blocks()? {
        guest.write(&block_file(block), "offline")?;
        guest.write_refused(&block_file(block), "online_kernel", Errno::PERM)?;
        guest.write(&block_file(block), "online")?;
        region.assert_all("Movable")?;
    }
    guest.write_refused(&region.state(), "online_kernel", Errno::BUSY)?;
    guest.write(&region.state(), "online")?;
    region.assert_all("Movable")?;
    region.destroy()
}
