// SPDX-License-Identifier: MIT OR Apache-2.0
//! A region comes and goes many times, and the kernel has as many objects as before.

use std::collections::BTreeMap;

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::suite::Test;

use crate::support::ensure;
use crate::support::loaded;

/// How often in one row. More than the kernel keeps of freed objects on a processor, so that one lost in each cycle shows.
const CYCLES: i64 = 50;

/// From nothing to nothing, by shell builtins alone: programs would be most of it.
const CYCLE: &str = r"
devices=/sys/bus/cxl/devices; drivers=/sys/bus/cxl/drivers
root=$(dirname $devices/decoder*/create_ram_region); decoder=$(basename $devices/endpoint*/decoder*.0)
cycle() {
    local region state
    read -r region < $root/create_ram_region
    echo $region > $root/create_ram_region
    local folder=$devices/$region sysram=sysram_$region
    echo 1 > $folder/interleave_ways
    echo 256 > $folder/interleave_granularity
    echo 0x10000000 > $folder/size
    echo ram > $devices/$decoder/mode
    echo 0x10000000 > $devices/$decoder/dpa_size
    echo $decoder > $folder/target0
    echo 1 > $folder/commit
    echo $region > $drivers/cxl_sysram_region/bind
    echo online_movable > $folder/$sysram/online_type
    echo $sysram > $drivers/cxl_dax_kmem_region/bind
    read -r state < $folder/$sysram/dax_$region/dax${region#region}.0/state
    test $state = online_movable
    echo $sysram > $drivers/cxl_dax_kmem_region/unbind
    echo $region > $drivers/cxl_sysram_region/unbind
    echo 0 > $folder/commit
    echo > $folder/target0
    echo 0 > $devices/$decoder/dpa_size
    echo $region > $root/delete_region
}
set -e
";

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "cycles: a region that comes and goes many times leaves no object behind",
        loaded("one-hdm"),
        nothing_grows,
    )]
}

/// How many objects the kernel has of each size, caches on processors emptied. Ours are all allocated by size.
fn objects(guest: &Guest) -> Result<BTreeMap<String, i64>> {
    let counts = guest.sh_ok(
        "echo 3 > /proc/sys/vm/drop_caches; for file in /sys/kernel/slab/*/shrink; do echo 1 > $file; done; \
         awk '$1 ~ /^(kmalloc|kernfs)/ {print $1, $2}' /proc/slabinfo",
    )?;
    counts
        .lines()
        .map(|line| {
            let parsed = line
                .split_once(' ')
                .and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
            parsed.ok_or_else(|| Error::test(format!("/proc/slabinfo reads '{line}'")))
        })
        .collect()
}

fn devices(guest: &Guest) -> Result<String> {
    guest.sh_ok("ls /sys/bus/cxl/devices /sys/bus/dax/devices /sys/devices/system/memory")
}

fn run(guest: &Guest, cycles: i64) -> Result<()> {
    guest.sh_ok(&format!(
        "{CYCLE} for ((i = 0; i < {cycles}; i++)); do cycle; done; udevadm settle"
    ))?;
    Ok(())
}

fn nothing_grows(guest: &Guest) -> Result<()> {
    run(guest, 5)?;
    let before = devices(guest)?;
    let mut counts = vec![objects(guest)?];
    // What grows for another reason does not do so twice.
    for _ in 0..2 {
        run(guest, CYCLES)?;
        counts.push(objects(guest)?);
    }
    let grown = |name: &str, row: usize| {
        let count = |row: usize| counts[row].get(name).copied().unwrap_or_default();
        count(row + 1) - count(row)
    };
    let leaks: Vec<_> = counts[0]
        .keys()
        .map(|name| (name, grown(name, 0), grown(name, 1)))
        .filter(|(_, first, second)| *first >= CYCLES && *second >= CYCLES)
        .collect();
    ensure(
        leaks.is_empty(),
        format!("in twice {CYCLES} cycles these grew each time: {leaks:?}"),
    )?;
    let after = devices(guest)?;
    ensure(
        after == before,
        format!("the devices were\n{before}and are\n{after}"),
    )
}
