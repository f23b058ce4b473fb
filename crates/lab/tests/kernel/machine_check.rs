// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory errors in a region that has a cache among its addresses: see `kernel/testing/linear_cache.c`.

use lab::Guest;
use lab::Result;
use lab::suite::Test;

use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![
        // Pages that failed stay bad.
        Test::new(
            "machine check: what is lost in a region's cache is lost behind it too, and the other way round",
            loaded("one"),
            passed_on,
        )
        .last(),
    ]
}

const START: u64 = 0x4_9000_0000;
const CACHE: u64 = 512 << 20;

/// Memory that the kernel has given up, in KiB.
fn given_up(guest: &Guest) -> Result<String> {
    let line = guest.sh_ok("awk '/^HardwareCorrupted:/ {print $2}' /proc/meminfo")?;
    Ok(line.trim().to_owned())
}

fn passed_on(guest: &Guest) -> Result<()> {
    let region = Region::committed(guest, "0x100")?;
    guest.sh_ok(&format!(
        "modprobe linear_cache region={} cache={CACHE}",
        region.name()
    ))?;
    region.bind("cxl_sysram_region")?;
    guest.write(&region.online_type(), "online_movable")?;
    region.bind_kmem()?;

    let report = "/sys/module/linear_cache/parameters/report";
    let pairs = [
        (START + 0x10_0000, START + CACHE + 0x10_0000),
        (START + CACHE + 0x20_0000, START + 0x20_0000),
    ];
    for (position, (named, lost)) in (1..).zip(pairs) {
        let log = Log::from_now(guest)?;
        guest.write(report, &format!("{named:#x}"))?;
        log.wait_for(&format!("memory at {lost:#x} is lost"))?;
        let expected = (4 * position).to_string();
        ensure(
            given_up(guest)? == expected,
            format!("{} KiB were given up, not {expected}", given_up(guest)?),
        )?;
    }
    // Elsewhere it is nobody's but the kernel's own.
    let log = Log::from_now(guest)?;
    guest.write(report, "0x1000000")?;
    log.wait_for("Machine check events logged")?;
    region.unbind("cxl_sysram_region")?;
    log.assert_none("is lost with")
}
