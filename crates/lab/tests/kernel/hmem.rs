// SPDX-License-Identifier: MIT OR Apache-2.0
//! Soft-reserved memory behind a CXL window: `dax_hmem` has it, or a region, and never both.
//!
//! The kernel waits until CXL had its chance (defer), then leaves a soft-reserved range to the region that contains all of
//! it (drop), or gives it to `dax_hmem` (register). Which it will be depends on the order in which modules are loaded; that
//! it is one of the two must not.

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Install;
use lab::Result;
use lab::suite::Test;
use lab::topology::GIB;
use lab::topology::catalogue;
use rustix::io::Errno;

use crate::firmware;
use crate::support::DRIVERS;
use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;
use crate::support::total_memory;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = Boot::new(catalogue::find("one").expect("it is in the catalogue"))
        .modules(Install::Loaded)
        .append(reserved(1));
    vec![
        Test::new(
            "hmem: what dax_hmem has no region driver takes, until it is given up (register)",
            one,
            registered,
        ),
        Test::new(
            "hmem: one of dax_hmem and the region has each byte, in every load order (defer, drop)",
            firmware::with_decoders(),
            in_every_order,
        )
        // What dax_hmem has at the end lies over the region, which must not be destroyed under it.
        .last(),
    ]
}

/// The first address of the first window.
const WINDOW: u64 = 0x4_9000_0000;

/// Soft-reserves so many GiB of the first window.
fn reserved(gibibytes: u64) -> String {
    format!(
        "memmap={gibibytes}G%{WINDOW:#x}+0xefffffff memhp_default_state=online_movable dax_hmem.dyndbg=+p"
    )
}

/// A dax device and the memory that it has.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    path: String,
    kmem: bool,
}

/// Who has the memory at `address`.
fn owners(guest: &Guest, address: u64) -> Result<Vec<Owner>> {
    let listed = guest.sh_ok(&format!(
        "for device in /sys/bus/dax/devices/*; do for mapping in $device/mapping*; do \
           test -e $mapping || continue; \
           test $(($(cat $mapping/start))) -le $(({address})) -a $(({address})) -le $(($(cat $mapping/end))) || continue; \
           echo $(readlink -f $device) $(basename $(readlink $device/driver)); \
         done; done"
    ))?;
    let owner = |line: &str| {
        let (path, driver) = line.split_once(' ').unwrap_or((line, ""));
        Owner {
            path: path.to_owned(),
            kmem: driver == "kmem",
        }
    };
    Ok(listed.lines().map(owner).collect())
}

/// Waits until somebody has brought the memory online, and fails unless it is the only one who has it, from its first byte
/// to its last.
fn only_owner(guest: &Guest) -> Result<Owner> {
    guest.wait_for("the reserved memory is with kmem", || {
        Ok(owners(guest, WINDOW)?.iter().any(|owner| owner.kmem))
    })?;
    guest.sh_ok("udevadm settle")?;
    let owner = owner_at(guest, WINDOW)?;
    let last = owner_at(guest, WINDOW + GIB - 1)?;
    ensure(
        owner == last,
        format!("the first byte of what is reserved is with {owner:?}, the last with {last:?}"),
    )?;
    Ok(owner)
}

/// Who alone has the memory at `address`.
fn owner_at(guest: &Guest, address: u64) -> Result<Owner> {
    let mut owners = owners(guest, address)?;
    match (owners.pop(), owners.is_empty()) {
        (Some(owner), true) => Ok(owner),
        (last, _) => Err(Error::test(format!(
            "the reserved memory at {address:#x} is with {owners:?} and {last:?}"
        ))),
    }
}

fn registered(guest: &Guest) -> Result<()> {
    // No region was there when the kernel asked.
    let owner = only_owner(guest)?;
    ensure(
        owner.path.contains("/hmem."),
        format!("dax_hmem did not take what no region has: {owner:?}"),
    )?;
    let [.., hmem, dax] = owner.path.split('/').collect::<Vec<_>>()[..] else {
        return Err(Error::test(format!("a device at {}", owner.path)));
    };
    guest.write(&format!("{}/state", owner.path), "unplugged")?;
    guest.write("/sys/bus/dax/drivers/kmem/unbind", dax)?;

    // Nothing in /proc/iomem tells now that dax_hmem has it, so the region gets the same addresses.
    let region = Region::committed(guest, "0x100")?;
    let log = Log::from_now(guest)?;
    for driver in ["cxl_sysram_region", "cxl_devdax_region"] {
        let bind = format!("{DRIVERS}/{driver}/bind");
        guest.write_refused(&bind, &region.name(), Errno::BUSY)?;
    }
    log.assert_line(&[&region.name(), "dax_hmem"])?;

    guest.write("/sys/bus/platform/drivers/hmem/unbind", hmem)?;
    region.bind("cxl_sysram_region")?;
    guest.write(&region.online_type(), "online_movable")?;
    region.bind_kmem()?;
    let owner = only_owner(guest)?;
    ensure(
        owner.path.contains("/sysram_region"),
        format!("what was given up is with {owner:?}"),
    )?;
    region.destroy()?;

    // As the next test finds it.
    guest.write("/sys/bus/platform/drivers/hmem/bind", hmem)?;
    only_owner(guest).map(drop)
}

/// The modules that the order may be about. `cxl_pci` brings `cxl_mem`, `dax_cxl` brings `dax_hmem`, which asks for `cxl_acpi`
/// and `cxl_pci` itself.
const MODULES: &str =
    "cxl_acpi,cxl_pci,cxl_mem,cxl_pmem,dax_hmem,dax_cxl,device_dax,fsdev_dax,kmem";

/// CXL is done before anybody asks for what is reserved; ours are not there.
const CXL_FIRST: &str = "cxl_acpi cxl_pci dax_hmem dax_cxl";

/// Ours are there first; `dax_hmem` is before CXL, and has to wait.
const OURS_FIRST: &str = "cxl_regions kmem dax_cxl";

/// What `dax_hmem` says of a range that it leaves to a region, and of one that it takes.
const DROPS: &str = "CXL claims resource, dropping";
const REGISTERS: &str = "CXL did not claim resource, registering";

fn in_every_order(guest: &Guest) -> Result<()> {
    guest.sh_ok("cxlr create-region -t ram 0x100 0x101 --driver none")?;
    // The stock kmem has it, and then ours.
    load_anew(guest, 1, CXL_FIRST, DROPS)?;
    guest.sh_ok("insmod /lib/modules/$(uname -r)/kernel/drivers/dax/kmem.ko.xz")?;
    with_the_region(&only_owner(guest)?)?;
    guest.sh_ok(
        "set -e; echo unplugged > /sys/bus/dax/drivers/kmem/dax*/state; rmmod kmem; modprobe kmem; modprobe cxl_regions",
    )?;
    one_owner(guest)?;
    load_anew(guest, 1, OURS_FIRST, DROPS)?;
    one_owner(guest)?;
    load_anew(guest, 2, OURS_FIRST, REGISTERS)?;
    beyond_the_region(guest)
}

fn with_the_region(owner: &Owner) -> Result<()> {
    ensure(
        owner.path.contains("/region0/dax_region0/"),
        format!("the memory is with {owner:?}"),
    )
}

/// Starts the kernel anew with so much reserved, and loads the modules in an order, until `dax_hmem` says what it does.
fn load_anew(guest: &Guest, gibibytes: u64, order: &str, says: &str) -> Result<()> {
    let log = Log::from_now(guest)?;
    guest.kexec(&format!(
        "{} modprobe.blacklist={MODULES}",
        reserved(gibibytes)
    ))?;
    guest.sh_ok(&format!(
        "for module in {order}; do modprobe $module && udevadm settle || exit; done"
    ))?;
    guest.wait_for_hardware()?;
    log.wait_for(says)
}

/// The region contains what is reserved: it has it, under the stock driver and under ours.
fn one_owner(guest: &Guest) -> Result<()> {
    with_the_region(&only_owner(guest)?)?;
    let memory = total_memory(guest)?;
    guest.sh_ok("cxlr bind region0 --driver sysram --online-type online_movable")?;
    let owner = only_owner(guest)?;
    ensure(
        owner.path.contains("/sysram_region0/"),
        format!("the memory is with {owner:?} then"),
    )?;
    ensure(
        total_memory(guest)? == memory,
        "memory was gained or lost by it",
    )
}

/// More is reserved than the region has, so it is for `dax_hmem`, and ours refuses the region.
fn beyond_the_region(guest: &Guest) -> Result<()> {
    let log = Log::from_now(guest)?;
    let before = owners(guest, WINDOW)?;
    guest
        .sh("cxlr bind region0 --driver sysram --online-type online_movable")?
        .failure()?;
    log.assert_line(&["region0", "beyond this region", "dax_hmem"])?;
    let after = owners(guest, WINDOW)?;
    ensure(
        before == after,
        format!("the memory was with {before:?}, and is with {after:?}"),
    )?;
    // All of it, and alone.
    for address in [WINDOW, WINDOW + 2 * GIB - 1] {
        let owner = owner_at(guest, address)?;
        ensure(
            owner.path.contains("/hmem."),
            format!("the memory at {address:#x} is with {owner:?}"),
        )?;
    }
    Ok(())
}
