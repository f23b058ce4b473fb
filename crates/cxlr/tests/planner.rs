// SPDX-License-Identifier: MIT OR Apache-2.0
//! The planner against the model of the kernel: what it plans is accepted, what it refuses is impossible, and each refusal
//! names its rule.

mod common;

use std::path::Path;

use common::*;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::fixture::Machine;
use cxl_sysfs::fixture::Topology;
use cxlr::interrupt::Interrupt;
use cxlr::plan;
use cxlr::plan::attach::Wanted;
use cxlr::plan::create::Request;
use cxlr::problem::Refusal;
use cxlr::size::Size;
use cxlr::transaction;
use proptest::prelude::*;
use region_policy::matrix::PartitionMode;
use region_policy::online_type::OnlineType;

const MIB: u64 = 1 << 20;

fn plan(machine: &Machine, request: &Request) -> Result<plan::create::Plan, Refusal> {
    plan::create::plan(&Snapshot::read(machine).expect("a snapshot"), request)
}

/// The memdevs of a region by position.
fn targets(machine: &Machine, region: &str) -> Vec<String> {
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    let region = snapshot.region(region).expect("the region");
    let memdev = |target: &Option<String>| {
        let decoder = snapshot.endpoint_decoder(target.as_deref()?)?;
        Some(snapshot.memdev_of(decoder)?.name.clone())
    };
    region.targets.iter().filter_map(memdev).collect()
}

/// Two host bridges with two memdevs each: mem0 and mem1 below the first, mem2 and mem3 below the second.
fn two_by_two() -> Topology {
    Topology::new()
        .host_bridge("hb0")
        .host_bridge("hb1")
        .memdev("hb0", GIB)
        .memdev("hb0", GIB)
        .memdev("hb1", GIB)
        .memdev("hb1", GIB)
        .window(8 * GIB, 8192, &["hb0", "hb1"])
        .window(8 * GIB, 256, &["hb0"])
}

#[test]
fn memdevs_named_in_any_order_are_put_into_one_that_works() {
    let machine = two_by_two().build();
    let plan = create(
        &machine,
        &request(&["mem0", "mem1", "mem2", "mem3"], Wanted::Nothing),
    );
    assert_eq!(
        targets(&machine, &plan.region),
        ["mem0", "mem2", "mem1", "mem3"]
    );
}

#[test]
fn an_order_that_works_is_kept() {
    let machine = two_by_two().build();
    let plan = create(
        &machine,
        &request(&["mem1", "mem3", "mem0", "mem2"], Wanted::Nothing),
    );
    assert_eq!(
        targets(&machine, &plan.region),
        ["mem1", "mem3", "mem0", "mem2"]
    );
}

#[test]
fn memdevs_are_found_by_number_serial_and_host() {
    let machine = two_by_two().build();
    for name in [
        "mem2",
        "2",
        "0x102",
        "serial:0x102",
        "serial:258",
        "0000:42:00.0",
    ] {
        let snapshot = Snapshot::read(&machine).expect("a snapshot");
        let found = plan::memdevs::find(&snapshot, &[name.to_owned()]).expect(name);
        assert_eq!(found[0].name, "mem2", "{name}");
    }
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    let both = plan::memdevs::find(&snapshot, &["mem1,0x100".to_owned()])
        .expect("a list, as cxl takes it");
    assert_eq!(both.len(), 2);
}

#[test]
fn the_root_decoder_is_chosen_by_what_it_reaches() {
    let machine = two_by_two().build();
    // Only the window over one host bridge takes two memdevs of that bridge, only the other takes one of each.
    let decoder = |memdevs: &[&str]| {
        let plan = plan(&machine, &request(memdevs, Wanted::Nothing)).expect("a plan");
        plan.steps[0].what.clone()
    };
    assert_eq!(decoder(&["mem0", "mem1"]), "create region1 in decoder0.1");
    assert_eq!(decoder(&["mem0", "mem2"]), "create region0 in decoder0.0");
}

#[test]
fn the_default_size_is_all_that_there_is() {
    let machine = Topology::new()
        .host_bridge("hb0")
        .memdev("hb0", GIB + 300 * MIB)
        .memdev("hb0", 2 * GIB)
        .window(16 * GIB, 256, &["hb0"])
        .build();
    let plan = create(&machine, &request(&["mem0", "mem1"], Wanted::Nothing));
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    // The smaller memdev decides, rounded down to 256 MiB.
    assert_eq!(
        snapshot.region(&plan.region).map(|region| region.size),
        Some(2 * (GIB + 256 * MIB))
    );
}

#[test]
fn a_persistent_region_gets_its_identity_and_no_system_ram() {
    let machine = Topology::new()
        .host_bridge("hb0")
        .memdev_with("hb0", GIB, GIB)
        .window(4 * GIB, 256, &["hb0"])
        .build();
    let pmem = Request {
        mode: PartitionMode::Pmem,
        uuid: Some("6b2e9b1c-5d0a-4a70-9b63-2f3c1f0f7a11".to_owned()),
        ..request(&["mem0"], Wanted::StockDefault)
    };
    let region = create(&machine, &pmem).region;
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    assert_eq!(
        snapshot
            .region(&region)
            .and_then(|region| region.mode.clone())
            .as_deref(),
        Some("pmem")
    );
    let refused = Request {
        wanted: Wanted::Sysram(OnlineType::Online),
        ..pmem
    };
    insta::assert_snapshot!(
        "pmem_on_sysram",
        plan(&machine, &refused).expect_err("refused")
    );
}

/// Each rule, with a machine and a request that break it.
#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn every_refusal_names_its_rule_and_its_remedy() {
    let movable = Wanted::Sysram(OnlineType::OnlineMovable);
    let sized = |memdevs: &[&str], size: u64| Request {
        size: Some(Size(size)),
        ..request(memdevs, Wanted::Nothing)
    };
    let at = |decoder: &str, memdevs: &[&str]| Request {
        decoder: Some(decoder.to_owned()),
        ..request(memdevs, Wanted::Nothing)
    };
    let used = || {
        let machine = two_by_two().build();
        create(&machine, &sized(&["mem0"], 512 * MIB));
        machine
    };
    let passthrough = || {
        let machine = Topology::new()
            .passthrough_bridge("hb0")
            .memdev("hb0", GIB)
            .window(8 * GIB, 256, &["hb0"])
            .build();
        create(&machine, &sized(&["mem0"], 256 * MIB));
        machine
    };
    // Two regions on two memdevs of one host bridge, of which the lower is destroyed again.
    let gap = || {
        let machine = two_by_two().build();
        let first = create(&machine, &at("decoder0.1", &["mem0"])).region;
        create(&machine, &at("decoder0.1", &["mem1"]));
        destroy(&machine, &[&first]);
        machine
    };
    let deep = || {
        Topology::new()
            .host_bridge("hb0")
            .host_bridge("hb1")
            .switch("sw0", "hb0")
            .switch("sw1", "hb0")
            .memdev("sw0", GIB)
            .memdev("sw1", GIB)
            .memdev("hb1", GIB)
            .memdev("hb1", GIB)
            .window(8 * GIB, 16384, &["hb0", "hb1"])
            .build()
    };
    let five = || {
        let bridge = Topology::new().host_bridge("hb0");
        (0..5)
            .fold(bridge, |bridge, _| bridge.memdev("hb0", GIB))
            .window(8 * GIB, 256, &["hb0"])
            .build()
    };
    // A region in the upper window, through a port that the lower window needs as well.
    let upper = || {
        let machine = two_by_two().build();
        create(&machine, &at("decoder0.1", &["mem0"]));
        machine
    };
    let three = || {
        Topology::new()
            .host_bridge("hb0")
            .memdev("hb0", GIB)
            .memdev("hb0", GIB)
            .memdev("hb0", GIB)
            .window(8 * GIB, 256, &["hb0"])
            .build()
    };
    let cases: Vec<(&str, Machine, Request)> = vec![
        (
            "unknown_memdev",
            two_by_two().build(),
            request(&["mem9"], movable),
        ),
        (
            "named_twice",
            two_by_two().build(),
            request(&["mem0", "0x100"], movable),
        ),
        (
            "unknown_decoder",
            two_by_two().build(),
            at("decoder9.9", &["mem0"]),
        ),
        (
            "wrong_ways",
            two_by_two().build(),
            Request {
                ways: Some(4),
                ..request(&["mem0", "mem1"], movable)
            },
        ),
        (
            "five_ways",
            five(),
            request(&["mem0", "mem1", "mem2", "mem3", "mem4"], movable),
        ),
        (
            "not_below",
            two_by_two().build(),
            at("decoder0.1", &["mem2"]),
        ),
        (
            "odd_ways",
            two_by_two().build(),
            at("decoder0.0", &["mem0"]),
        ),
        (
            "unbalanced_bridges",
            two_by_two().build(),
            at("decoder0.0", &["mem0", "mem1"]),
        ),
        (
            "three_below_a_port",
            three(),
            request(&["mem0", "mem1", "mem2"], movable),
        ),
        (
            "too_coarse",
            deep(),
            request(&["mem0", "mem1", "mem2", "mem3"], movable),
        ),
        (
            "granularity_of_the_window",
            two_by_two().build(),
            Request {
                granularity: Some(256),
                ..at("decoder0.0", &["mem0", "mem2"])
            },
        ),
        (
            "no_granularity",
            two_by_two().build(),
            Request {
                granularity: Some(1000),
                ..at("decoder0.1", &["mem0"])
            },
        ),
        (
            "unaligned_size",
            two_by_two().build(),
            sized(&["mem0", "mem2"], GIB + 256 * MIB),
        ),
        (
            "smaller_than_a_decoder_knows",
            two_by_two().build(),
            sized(&["mem0", "mem2"], 1000),
        ),
        ("too_large", two_by_two().build(), sized(&["mem0"], 2 * GIB)),
        ("too_large_for_what_is_left", used(), sized(&["mem0"], GIB)),
        (
            "no_window_fits",
            two_by_two().build(),
            request(&["mem2"], movable),
        ),
        (
            "no_decoder_in_the_port",
            passthrough(),
            sized(&["mem0"], 256 * MIB),
        ),
        (
            "below_a_higher_region",
            upper(),
            at("decoder0.0", &["mem1", "mem2"]),
        ),
        ("behind_a_gap", gap(), at("decoder0.1", &["mem0"])),
        (
            "no_kmem_word",
            two_by_two().build(),
            Request {
                mode: PartitionMode::DynamicCapacity,
                ..request(&["mem0"], Wanted::StockDefault)
            },
        ),
    ];
    for (name, machine, request) in cases {
        let before = machine.writes().len();
        let refusal = plan(&machine, &request).expect_err(name);
        assert_eq!(
            machine.writes().len(),
            before,
            "{name}: planning writes nothing"
        );
        insta::assert_snapshot!(name, refusal);
    }
}

/// Host bridges with memdevs directly below them or below switches, as the numbers say.
fn topology(bridges: &[Vec<u8>], window: usize, granularity: u32) -> (Machine, usize) {
    let mut topology = Topology::new();
    let mut names = Vec::new();
    let mut memdevs = 0;
    for (number, below) in bridges.iter().enumerate() {
        let bridge = format!("hb{number}");
        topology = topology.host_bridge(&bridge);
        for (place, members) in below.iter().enumerate() {
            if *members == 1 {
                topology = topology.memdev(&bridge, GIB);
                memdevs += 1;
            } else {
                let switch = format!("sw{number}{place}");
                topology = topology.switch(&switch, &bridge);
                for _ in 0..*members {
                    topology = topology.memdev(&switch, GIB);
                    memdevs += 1;
                }
            }
        }
        names.push(bridge);
    }
    let over: Vec<&str> = names.iter().take(window).map(String::as_str).collect();
    (
        topology.window(64 * GIB, granularity, &over).build(),
        memdevs,
    )
}

/// Tries one order by hand: whether the kernel takes it.
fn accepts(machine: &Machine, order: &[String], granularity: u32) -> bool {
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    let cxl = "/sys/bus/cxl/devices";
    let write = |path: String, value: &str| machine.write(Path::new(&path), value).is_ok();
    let region = snapshot.root_decoders[0]
        .next_ram_region
        .clone()
        .expect("a name");
    let mut taken = write(format!("{cxl}/decoder0.0/create_ram_region"), &region)
        && write(
            format!("{cxl}/{region}/interleave_granularity"),
            &granularity.to_string(),
        )
        && write(
            format!("{cxl}/{region}/interleave_ways"),
            &order.len().to_string(),
        )
        && write(
            format!("{cxl}/{region}/size"),
            &format!("{:#x}", 256 * MIB * order.len() as u64),
        );
    for (position, memdev) in order.iter().enumerate() {
        let endpoint = snapshot.endpoint_of(memdev).expect("an endpoint");
        let decoder = snapshot
            .decoders_of(&endpoint.name)
            .next()
            .expect("a decoder")
            .name
            .clone();
        taken = taken
            && write(format!("{cxl}/{decoder}/mode"), "ram")
            && write(
                format!("{cxl}/{decoder}/dpa_size"),
                &format!("{:#x}", 256 * MIB),
            )
            && write(format!("{cxl}/{region}/target{position}"), &decoder);
    }
    taken && write(format!("{cxl}/{region}/commit"), "1")
}

fn permutations(names: &[String]) -> Vec<Vec<String>> {
    if names.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (number, first) in names.iter().enumerate() {
        let mut rest = names.to_vec();
        rest.remove(number);
        for mut tail in permutations(&rest) {
            tail.insert(0, first.clone());
            all.push(tail);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// What is planned is accepted; what is refused, no order of the same memdevs would make acceptable.
    #[test]
    fn the_planner_finds_an_order_exactly_where_there_is_one(
        bridges in prop::collection::vec(prop::collection::vec(1u8..=3, 1..=3), 1..=3),
        window in 1usize..=3,
        granularity in prop::sample::select(vec![256u32, 4096, 8192]),
        chosen in prop::collection::vec(any::<prop::sample::Index>(), 1..=4),
    ) {
        let fresh = || topology(&bridges, window.min(bridges.len()), granularity);
        let (machine, memdevs) = fresh();
        let mut names: Vec<String> = Vec::new();
        for index in chosen {
            let name = format!("mem{}", index.index(memdevs));
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        match plan(&machine, &request(&refs, Wanted::Nothing)) {
            Ok(plan) => {
                transaction::run(&machine, &Interrupt::default(), &plan.steps)
                    .map_err(|failure| TestCaseError::fail(failure.to_string()))?;
                if accepts(&fresh().0, &names, granularity) {
                    prop_assert_eq!(targets(&machine, &plan.region), names, "an order that works is kept");
                }
            }
            Err(refusal) => {
                for order in permutations(&names) {
                    prop_assert!(!accepts(&fresh().0, &order, granularity), "refused, but {:?} works: {}", order, refusal);
                }
            }
        }
    }
}
