// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading whole machines: from memory, from a folder, half torn down and damaged.

use std::fs;
use std::path::Path;

use cxl_sysfs::Goal;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Sysfs;
use cxl_sysfs::Tree;
use cxl_sysfs::fixture::Machine;
use cxl_sysfs::fixture::Topology;
use region_policy::matrix::PartitionMode;
use region_policy::online_type::OnlineType;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Two host bridges with two memdevs each; one window over both, one over the first.
fn two_bridges() -> Machine {
    Topology::new()
        .host_bridge("pci0000:0c")
        .host_bridge("pci0000:2c")
        .memdev("pci0000:0c", 512 * MIB)
        .memdev("pci0000:0c", 512 * MIB)
        .memdev("pci0000:2c", 512 * MIB)
        .memdev("pci0000:2c", 512 * MIB)
        .window(4 * GIB, 8192, &["pci0000:0c", "pci0000:2c"])
        .window(4 * GIB, 256, &["pci0000:0c"])
        .region_drivers()
        .build()
}

/// Creates a region of one memdev by hand, as a shell user would, up to memory online in the movable zone.
fn with_a_region() -> Machine {
    let machine = two_bridges();
    let cxl = "/sys/bus/cxl/devices";
    for (path, value) in [
        ("decoder0.1/create_ram_region", "region1"),
        ("region1/interleave_granularity", "256"),
        ("region1/interleave_ways", "1"),
        ("region1/size", "0x20000000"),
        ("decoder3.0/mode", "ram"),
        ("decoder3.0/dpa_size", "0x20000000"),
        ("region1/target0", "decoder3.0"),
        ("region1/commit", "1"),
        ("../drivers/cxl_sysram_region/bind", "region1"),
        ("sysram_region1/online_type", "online_movable"),
        ("../drivers/cxl_dax_kmem_region/bind", "sysram_region1"),
    ] {
        machine
            .write(Path::new(&format!("{cxl}/{path}")), value)
            .expect(path);
    }
    let mut events = machine.events().expect("events");
    while events.wait(std::time::Duration::ZERO).expect("events") {}
    machine
}

/// A folder on disk with the machine in it.
fn on_disk(machine: &Machine) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    machine
        .looks()
        .write_to(folder.path())
        .expect("a tree on disk");
    folder
}

#[test]
fn a_machine_reads_the_same_from_memory_and_from_a_folder() {
    let machine = with_a_region();
    let folder = on_disk(&machine);
    let from_memory = Snapshot::read(&machine).expect("a snapshot");
    let from_disk = Snapshot::read(&Sysfs::at(folder.path())).expect("a snapshot");
    assert_eq!(from_memory, from_disk);
}

#[test]
fn every_kind_of_object_is_understood() {
    let snapshot = Snapshot::read(&with_a_region()).expect("a snapshot");
    let region = snapshot.region("region1").expect("the region");
    insta::assert_debug_snapshot!("memdev", snapshot.memdev("mem0"));
    insta::assert_debug_snapshot!("port", snapshot.port("port1"));
    insta::assert_debug_snapshot!("endpoint", snapshot.endpoint_of("mem0"));
    insta::assert_debug_snapshot!("root_decoder", snapshot.root_decoder("decoder0.0"));
    insta::assert_debug_snapshot!("endpoint_decoder", snapshot.endpoint_decoder("decoder3.0"));
    insta::assert_debug_snapshot!("region", region);
    insta::assert_debug_snapshot!("dax_device", snapshot.dax_devices_of("region1").next());
}

#[test]
fn the_way_from_a_memdev_to_the_root_is_known() {
    let snapshot = Snapshot::read(&two_bridges()).expect("a snapshot");
    let endpoint = snapshot.endpoint_of("mem2").expect("an endpoint");
    let names: Vec<_> = snapshot
        .path_to_root(endpoint)
        .into_iter()
        .map(|port| port.name.as_str())
        .collect();
    assert_eq!(names, ["endpoint5", "port2", "root0"]);
}

#[test]
fn what_a_region_takes_is_no_longer_free() {
    let before = Snapshot::read(&two_bridges()).expect("a snapshot");
    let after = Snapshot::read(&with_a_region()).expect("a snapshot");
    let free = |snapshot: &Snapshot| {
        let memdev = snapshot.memdev("mem0").expect("mem0");
        let window = snapshot.root_decoder("decoder0.1").expect("a window");
        (
            snapshot.free_capacity(memdev, PartitionMode::Ram),
            snapshot
                .free_ranges(window)
                .iter()
                .map(|range| range.end - range.start)
                .sum::<u64>(),
        )
    };
    assert_eq!(free(&before), (512 * MIB, 4 * GIB));
    assert_eq!(free(&after), (0, 4 * GIB - 512 * MIB));
}

#[test]
fn the_census_counts_what_is_there() {
    let machine = with_a_region();
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    let device = snapshot
        .dax_devices_of("region1")
        .next()
        .expect("a dax device");
    let census = device
        .census(&machine, snapshot.block_size.expect("a block size"))
        .expect("a census");
    assert_eq!(census.to_string(), "4 blocks, 4 online in Movable");
    assert!(census.is(Goal::Plugged(OnlineType::OnlineMovable)));
    assert!(!census.is(Goal::Plugged(OnlineType::OnlineKernel)));
}

#[test]
fn a_machine_without_cxl_is_empty_and_no_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(
        Snapshot::read(&Sysfs::at(folder.path())).expect("a snapshot"),
        Snapshot::default()
    );
}

#[test]
fn a_region_that_vanishes_is_left_out_and_a_damaged_one_is_named() {
    let folder = on_disk(&with_a_region());
    let region = folder.path().join("sys/bus/cxl/devices/region1");
    fs::write(region.join("interleave_ways"), "many\n").expect("damage");
    let error = Snapshot::read(&Sysfs::at(folder.path())).expect_err("damaged");
    assert!(
        error
            .to_string()
            .ends_with(r#"region1/interleave_ways says "many", which is not a small number"#),
        "{error}"
    );

    fs::remove_file(region.join("interleave_ways")).expect("as if it went away meanwhile");
    let snapshot = Snapshot::read(&Sysfs::at(folder.path())).expect("a snapshot");
    assert!(snapshot.regions.is_empty());
}
