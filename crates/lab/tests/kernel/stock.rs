// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the stock kernel does: the ground that our modules stand on, and what they are compared with.

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Result;
use lab::suite::Test;
use lab::topology::catalogue;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || Boot::new(catalogue::find("one").expect("it is in the catalogue"));
    vec![
        Test::new(
            "stock: cxl creates a region and its memory comes online",
            one(),
            region_comes_online,
        ),
        Test::new(
            "stock: the kernel's own kmem selftest passes",
            one(),
            kmem_selftest,
        ),
    ]
}

/// Creates a region with Debian's tool, its memory movable so that it can be taken away again.
fn create(guest: &Guest) -> Result<()> {
    guest.write(
        "/sys/devices/system/memory/auto_online_blocks",
        "online_movable",
    )?;
    guest
        .sh_ok("cxl create-region -t ram -d decoder0.0 -m $(cxl list -M | jq -r '.[0].memdev')")?;
    guest.wait_for("the region's dax device is bound to kmem", || {
        Ok(guest
            .sh("test -e /sys/bus/dax/drivers/kmem/dax0.0/state")?
            .succeeded())
    })
}

fn destroy(guest: &Guest) -> Result<()> {
    guest.write("/sys/bus/dax/devices/dax0.0/state", "unplugged")?;
    guest.sh_ok("cxl destroy-region -f region0")?;
    guest.write("/sys/devices/system/memory/auto_online_blocks", "online")
}

fn region_comes_online(guest: &Guest) -> Result<()> {
    let total = || -> Result<u64> {
        let kibibytes = guest.sh_ok("awk '/^MemTotal:/ {print $2}' /proc/meminfo")?;
        kibibytes
            .trim()
            .parse()
            .map_err(|_| Error::test(format!("MemTotal is '{kibibytes}'")))
    };
    let before = total()?;
    create(guest)?;
    let gained = total()? - before;
    if gained != 1 << 20 {
        return Err(Error::test(format!(
            "a region of 1 GiB brought {gained} KiB of memory"
        )));
    }
    let state = guest.read("/sys/bus/dax/devices/dax0.0/state")?;
    if state != "online_movable" {
        return Err(Error::test(format!("the dax device is '{state}'")));
    }
    destroy(guest)
}

fn kmem_selftest(guest: &Guest) -> Result<()> {
    create(guest)?;
    let output =
        guest.sh_ok("DAX_KMEM_TEST_DEV=auto /usr/lib/kselftest/dax/dax-kmem-hotplug.sh")?;
    if !output.contains("# Totals: pass:9 fail:0 xfail:0 xpass:0 skip:1 error:0") {
        return Err(Error::test(format!(
            "the selftest did not pass as it does on the stock kernel:\n{output}"
        )));
    }
    destroy(guest)
}
