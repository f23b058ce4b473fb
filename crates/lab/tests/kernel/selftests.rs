// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own selftests, unmodified, with our modules.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::suite::Test;

use crate::support::DEBIAN_DEFAULT;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::own_map;
use crate::support::set_default;

const KMEM: &str = "DAX_KMEM_TEST_DEV=auto /usr/lib/kselftest/dax/dax-kmem-hotplug.sh";

/// It expects `state` to be stale after blocks were taken offline one by one. Ours tells the truth, so the check has
/// nothing to look at.
const STALE_STATE: &str = "could not offline all device blocks for desync-unbind test # SKIP";

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || loaded("one");
    vec![
        Test::new(
            "selftest: kmem's passes with ours on a stock region",
            one(),
            kmem_on_a_stock_region,
        ),
        Test::new(
            "selftest: kmem's passes with ours while it unbinds online memory, which binding takes up again",
            one(),
            kmem_unbinding,
        ),
        Test::new(
            "selftest: kmem's finds on a region with a policy that the system's default does not matter",
            one(),
            kmem_on_our_region,
        ),
        Test::new(
            "selftest: memory hotplug's passes with a region's blocks among the others",
            own_map("one"),
            memory_hotplug,
        ),
    ]
}

/// Fails unless the selftest's output has this summary and all these lines.
fn expect(output: &str, totals: &str, lines: &[&str]) -> Result<()> {
    let totals = format!("# Totals: {totals}");
    let missing: Vec<&str> = lines
        .iter()
        .copied()
        .chain([totals.as_str()])
        .filter(|wanted| !output.contains(wanted))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::test(format!(
            "the selftest was to say {missing:?}:\n{output}"
        )))
    }
}

fn kmem_on_a_stock_region(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let region = Region::stock(guest, "mem0")?;
    let output = guest.sh_ok(KMEM)?;
    expect(
        &output,
        "pass:8 fail:0 xfail:0 xpass:0 skip:2 error:0",
        &[STALE_STATE],
    )?;
    region.assert_all("Movable")?;
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)
}

fn kmem_unbinding(guest: &Guest) -> Result<()> {
    set_default(guest, "online_movable")?;
    let region = Region::stock(guest, "mem0")?;
    let output = guest.sh_ok(&format!("DAX_KMEM_TEST_UNBIND=1 {KMEM}"))?;
    expect(
        &output,
        "pass:9 fail:0 xfail:0 xpass:0 skip:1 error:0",
        &[STALE_STATE],
    )?;

    // Stock leaves the memory stranded until the next boot.
    region.assert_all("Movable")?;
    let dax = region.dax_on_bus();
    ensure(
        guest.read(&format!("{dax}/state")).is_err(),
        "the selftest leaves the device without a driver",
    )?;
    let name = dax.rsplit('/').next().unwrap_or_default();
    guest.write("/sys/bus/dax/drivers/kmem/bind", name)?;
    region.assert_all("Movable")?;
    ensure(
        guest.read(&format!("{dax}/state"))? == "online_movable",
        "the memory is taken up as it is",
    )?;
    guest.write(&format!("{dax}/state"), "unplugged")?;
    region.assert_all("absent")?;
    region.destroy()?;
    set_default(guest, DEBIAN_DEFAULT)
}

fn kmem_on_our_region(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let output = guest.sh(KMEM)?.stdout;
    expect(
        &output,
        "pass:7 fail:1 xfail:0 xpass:0 skip:2 error:0",
        &[
            "bind-time policy not honored: state=online_movable (expected offline)",
            STALE_STATE,
        ],
    )?;
    region.assert_all("Movable")?;
    region.destroy()
}

/// It writes `online` to single blocks, wherever they are: in this guest the kernel then chooses the movable zone,
/// which is the region's policy. It begins with the system's own, of which not so many can go as it is told to take.
fn memory_hotplug(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let output = guest.sh_ok("/usr/lib/kselftest/memory-hotplug/mem-on-off-test.sh -r 30")?;
    let went = |block: u64| format!("online->offline memory{block}\n-> Success");
    let blocks = region.blocks()?;
    ensure(
        blocks
            .into_iter()
            .any(|block| output.contains(&went(block))),
        format!("no block of the region went offline:\n{output}"),
    )?;
    region.assert_all("Movable")?;
    region.destroy()
}
