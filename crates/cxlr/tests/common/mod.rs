// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests share: requests, and machines before and after.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::path::Path;
use std::path::PathBuf;

use cxl_sysfs::Snapshot;
use cxl_sysfs::dax;
use cxl_sysfs::fixture::Machine;
use cxl_sysfs::fixture::Topology;
use cxl_sysfs::memory;
use cxl_sysfs::memory::Census;
use cxlr::interrupt::Interrupt;
use cxlr::plan;
use cxlr::plan::Step;
use cxlr::plan::attach::Wanted;
use cxlr::plan::create::Plan;
use cxlr::plan::create::Request;
use cxlr::transaction;
use region_policy::matrix::PartitionMode;
use rustix::io::Errno;

pub const GIB: u64 = 1 << 30;

/// The first memory block of the first window of a model.
pub const FIRST_BLOCK: u64 = 0x4_9000_0000 / (128 << 20);

/// Two memdevs on two host bridges, so that a region crosses all kinds of ports.
pub fn two_memdevs() -> Topology {
    Topology::new()
        .host_bridge("hb0")
        .host_bridge("hb1")
        .memdev("hb0", GIB / 2)
        .memdev("hb1", GIB / 2)
        .window(4 * GIB, 256, &["hb0", "hb1"])
}

/// All attributes and links.
pub type Looks = Vec<(PathBuf, String)>;

/// A request for all that some memdevs have.
pub fn request(memdevs: &[&str], wanted: Wanted) -> Request {
    Request {
        memdevs: memdevs.iter().map(|name| (*name).to_owned()).collect(),
        mode: PartitionMode::Ram,
        decoder: None,
        ways: None,
        granularity: None,
        size: None,
        uuid: None,
        wanted,
    }
}

/// The same, over dynamic capacity.
pub fn dynamic_request(memdev: &str, wanted: Wanted) -> Request {
    Request {
        mode: PartitionMode::DynamicCapacity,
        ..request(&[memdev], wanted)
    }
}

/// Plans a region and creates it.
pub fn create(machine: &Machine, request: &Request) -> Plan {
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    let plan = plan::create::plan(&snapshot, request).unwrap_or_else(|refusal| panic!("{refusal}"));
    transaction::run(machine, &Interrupt::default(), &plan.steps)
        .unwrap_or_else(|failure| panic!("{failure}"));
    plan
}

/// Plans the end of regions.
pub fn destroy_steps(machine: &Machine, regions: &[&str]) -> Vec<Step> {
    let names: Vec<String> = regions.iter().map(|name| (*name).to_owned()).collect();
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    plan::destroy::plan(machine, &snapshot, &names).unwrap_or_else(|problem| panic!("{problem}"))
}

/// Plans the end of regions and carries it out.
pub fn destroy(machine: &Machine, regions: &[&str]) {
    let steps = destroy_steps(machine, regions);
    transaction::run(machine, &Interrupt::default(), &steps)
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Counts the blocks of a region.
pub fn census(machine: &Machine, region: &str) -> Census {
    let block_size = memory::block_size(machine).expect("a block size");
    let devices = dax::of_region(machine, region).expect("dax devices");
    devices.iter().fold(Census::default(), |all, device| {
        all.plus(&device.census(machine, block_size).expect("a census"))
    })
}

/// The machine, without what has no meaning: the mode of a decoder that holds no capacity, which cannot be taken back.
pub fn looks(machine: &Machine) -> Looks {
    let looks: Looks = machine.looks().contents();
    looks
        .into_iter()
        .filter(|(path, _)| path.file_name() != Some("mode".as_ref()))
        .collect()
}

/// Whether a path is one of the system-wide settings that are held for a moment, or that drivers remember.
pub fn is_setting(path: &Path) -> bool {
    path.ends_with("drivers_autoprobe")
        || path.ends_with("auto_online_blocks")
        || path.ends_with("remove_id")
}

/// Runs the steps on twins of a machine with write number 0, 1, 2… failing, until it gets through, and says after how many.
/// After each failure the twin must look as it did before.
pub fn every_write_fails_once(what: &str, machine: &Machine, steps: &[Step]) -> usize {
    let before = looks(machine);
    for number in 0.. {
        let machine = machine.twin();
        let at = machine.writes().len() + number;
        machine.fail_write(at, Errno::IO);
        let result = transaction::run(&machine, &Interrupt::default(), steps);
        assert_eq!(
            machine.violations(),
            Vec::<String>::new(),
            "{what}, write {number}"
        );
        let Err(failure) = result else {
            assert!(
                machine.writes().len() <= at,
                "{what}: write {number} failed and nobody noticed"
            );
            return number;
        };
        // A setting that could not be put back is the one thing that cannot be undone, and it is named.
        if failure.left.is_empty() {
            assert_same(
                &before,
                &looks(&machine),
                &format!("{what}, write {number} ({})", failure.step),
            );
        } else {
            let (path, _) = &machine.writes()[at];
            assert!(
                is_setting(path),
                "{what}, write {number} to {}: {:?}",
                path.display(),
                failure.left
            );
            assert!(
                failure.left.iter().any(|left| left.contains("echo")),
                "{:?}",
                failure.left
            );
        }
    }
    unreachable!("the loop ends when no write is left to fail")
}

/// Compares, and shows only what differs.
pub fn assert_same(before: &Looks, after: &Looks, what: &str) {
    let lost: Vec<_> = before
        .iter()
        .filter(|entry| !after.contains(entry))
        .collect();
    let gained: Vec<_> = after
        .iter()
        .filter(|entry| !before.contains(entry))
        .collect();
    assert!(
        lost.is_empty() && gained.is_empty(),
        "{what}\n  was: {lost:#?}\n  is: {gained:#?}"
    );
}
