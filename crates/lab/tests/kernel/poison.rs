// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bad memory on purpose: the files that a region has in debugfs, whichever driver has the region.

use lab::Guest;
use lab::Result;
use lab::suite::Test;

use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;

const TRACING: &str = "/sys/kernel/tracing";

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "poison: an offset in a region of ours is the same place on the same device as in a stock one",
        loaded("x2"),
        as_stock,
    )]
}

/// Offsets on both sides of where one device's turn ends, and at both ends of the region.
const OFFSETS: [u64; 6] = [0, 0xc0, 0x100, 0x1c0, 0x1040, 0x3fff_ffc0];

/// Poisons and mends the region at the offsets, and tells what the devices were asked for.
fn asked(guest: &Guest, region: &Region<'_>) -> Result<Vec<String>> {
    let folder = format!("/sys/kernel/debug/cxl/{}", region.name());
    guest.write(&format!("{TRACING}/trace"), "")?;
    for offset in OFFSETS {
        for file in ["inject_poison", "clear_poison"] {
            guest.write(&format!("{folder}/{file}"), &format!("{offset:#x}"))?;
        }
    }
    let beyond = guest.write(&format!("{folder}/inject_poison"), "0x40000000");
    ensure(
        beyond.is_err_and(|error| error.errno() == Some(rustix::io::Errno::INVAL)),
        "an offset beyond the region was accepted",
    )?;
    let trace = guest.sh_ok(&format!("grep -o 'cxl_poison: .*' {TRACING}/trace"))?;
    Ok(trace.lines().map(str::to_owned).collect())
}

fn as_stock(guest: &Guest) -> Result<()> {
    let switch = format!("{TRACING}/events/cxl/cxl_poison/enable");
    guest.write(&switch, "1")?;
    let region = Region::committed(guest, "0x100 0x101")?;
    region.bind("cxl_sysram_region")?;
    let ours = asked(guest, &region)?;
    region.unbind("cxl_sysram_region")?;
    guest.sh_ok("test ! -e /sys/kernel/debug/cxl/region0")?;
    // The stock driver would hand the memory to kmem; that is no part of this.
    guest.write("/sys/bus/dax/drivers_autoprobe", "0")?;
    region.bind("cxl_region")?;
    let stock = asked(guest, &region)?;
    region.unbind("cxl_region")?;
    guest.write("/sys/bus/dax/drivers_autoprobe", "1")?;
    guest.write(&switch, "0")?;
    region.destroy()?;
    ensure(
        ours == stock && ours.len() == 2 * OFFSETS.len(),
        format!("devices of ours were asked for {ours:#?}, of the stock driver's for {stock:#?}"),
    )
}
