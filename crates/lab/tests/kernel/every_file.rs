// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whoever looks at everything finds it, and harms nobody: each file of each device on the CXL and DAX buses, and the lists of
//! the stock tools.

use lab::Guest;
use lab::Result;
use lab::fabric::DcRegion;
use lab::suite::Test;

use crate::dynamic_capacity;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "files: all can be read, and stock tools list all, with static memory in use in every way",
            loaded("x2"),
            static_memory,
        ),
        Test::new(
            "files: all can be read, and stock tools list all, on a device with dynamic capacity alone",
            loaded("dc"),
            dynamic_capacity,
        ),
        Test::new(
            "files: all can be read, and stock tools list all, on a device with dynamic capacity and static memory",
            loaded("dc-static"),
            dynamic_capacity,
        ),
    ]
}

/// Looks at everything. What the kernel survives, and says, is checked after each test; `wanted` must be in the lists.
fn look_at_everything(guest: &Guest, wanted: &[&str]) -> Result<()> {
    let files = ["*/*", "mem*/*/*", "region*/access*/*", "dax*/mapping*/*"];
    for bus in ["cxl", "dax"] {
        let files = files.map(|file| format!("/sys/bus/{bus}/devices/{file}"));
        guest.look(&files.each_ref().map(String::as_str))?;
    }
    let lists = guest.sh_ok("cxl list -vv && cxl list -i && daxctl list -RDMi")?;
    for name in wanted {
        ensure(
            lists.contains(&format!("\"{name}\"")),
            format!("the stock tools do not list {name}, but {lists}"),
        )?;
    }
    guest.sh_ok("cxlr list && cxlr --json list").map(drop)
}

fn static_memory(guest: &Guest) -> Result<()> {
    look_at_everything(guest, &["mem0", "mem1"])?;
    let names = |region: &Region<'_>| [region.name(), region.dax_name()];
    let sysram = Region::sysram(guest, "0x100", "online_movable")?;
    let [region, dax] = names(&sysram);
    look_at_everything(guest, &["mem0", "mem1", &region, &dax])?;
    let devdax = Region::committed(guest, "0x101")?;
    guest.sh_ok(&format!("cxlr bind {} --driver devdax", devdax.name()))?;
    let [other, other_dax] = names(&devdax);
    look_at_everything(guest, &["mem1", &region, &dax, &other, &other_dax])?;
    devdax.destroy()?;
    let stock = Region::stock(guest, "0x101")?;
    let [other, other_dax] = names(&stock);
    look_at_everything(guest, &[&region, &dax, &other, &other_dax])?;
    stock.destroy()?;
    sysram.destroy()?;
    look_at_everything(guest, &["mem0", "mem1"])
}

fn dynamic_capacity(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, dynamic_capacity::SERIAL, 0);
    look_at_everything(guest, &["mem0"])?;
    let extents = [0, 1].map(dynamic_capacity::extent);
    for region in [dynamic_capacity::sysram, dynamic_capacity::devdax] {
        let region = region(guest)?;
        look_at_everything(guest, &["mem0", "region0"])?;
        fabric.add(&extents)?;
        dynamic_capacity::wait_until_in_use(guest, &region, &extents)?;
        look_at_everything(guest, &["mem0", "region0", "dax0.0"])?;
        fabric.release(&extents)?;
        dynamic_capacity::wait_until_in_use(guest, &region, &[])?;
        dynamic_capacity::destroy(guest, &region)?;
        look_at_everything(guest, &["mem0"])?;
    }
    Ok(())
}
