// SPDX-License-Identifier: MIT OR Apache-2.0
//! Regions over dynamic capacity, on a model of the kernel: what is refused, what is written, what is shown.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::*;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::fixture::Machine;
use cxl_sysfs::fixture::Topology;
use cxl_sysfs::memdev::Refusals;
use cxlr::interrupt::Interrupt;
use cxlr::list;
use cxlr::monitor;
use cxlr::plan;
use cxlr::plan::attach::Wanted;
use cxlr::problem::Problem;
use cxlr::release;
use cxlr::release::Which;
use region_policy::dax_mode::DaxMode;
use region_policy::extent::Tag;
use region_policy::online_type::OnlineType;
use rustix::io::Errno;

const MOVABLE: Wanted = Wanted::Sysram(OnlineType::OnlineMovable);

fn topology() -> Topology {
    Topology::new()
        .host_bridge("hb0")
        .host_bridge("hb1")
        .dynamic_memdev("hb0", 2 * GIB)
        .memdev("hb1", GIB)
        .window(4 * GIB, 256, &["hb0"])
        .window(4 * GIB, 256, &["hb1"])
}

fn machine() -> Machine {
    topology().region_drivers().build()
}

fn tag() -> Option<Tag> {
    Tag::parse(b"5be13bce-ae34-4a77-b6c3-16df975fcf1a")
}

/// A region with four extents: two alone, two of one set.
fn machine_with_extents() -> Machine {
    let machine = machine();
    create(&machine, &dynamic_request("mem0", MOVABLE));
    for (number, tag) in [None, tag(), None, tag()].into_iter().enumerate() {
        machine.give("region0", number as u64 * GIB / 4, GIB / 4, tag);
    }
    machine
}

fn names(machine: &Machine) -> Vec<String> {
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    let names = snapshot.extents.iter().map(|extent| extent.name.clone());
    names.collect()
}

fn chosen(machine: &Machine, which: Which) -> Vec<String> {
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    release::choose(&snapshot, "region0", which).unwrap_or_else(|refusal| panic!("{refusal}"))
}

#[test]
fn a_region_starts_empty_under_its_policy() {
    let machine = machine();
    let plan = create(&machine, &dynamic_request("mem0", MOVABLE));
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    let region = snapshot.region(&plan.region).expect("the region");
    let sysram = region.sysram.as_ref().expect("a policy");
    assert!(region.committed && sysram.driver.is_some());
    assert_eq!(sysram.online_type, Some(OnlineType::OnlineMovable));
    assert!(!sysram.allow_kernel_zones);
    assert_eq!(region.size, 2 * GIB, "all that there can be");
    assert!(snapshot.extents.is_empty() && snapshot.dax_devices.is_empty());
    let decoders = snapshot.endpoint_decoders;
    let modes = decoders
        .iter()
        .filter_map(|decoder| decoder.mode.as_deref());
    assert_eq!(modes.collect::<Vec<_>>(), ["dynamic_ram_a"]);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let kernel = Wanted::Sysram(OnlineType::OnlineKernel);
    let system_default = Wanted::Sysram(OnlineType::Online);
    for (machine, request, reason) in [
        (
            machine(),
            dynamic_request("mem0", kernel),
            "--allow-kernel-zones",
        ),
        (
            machine(),
            dynamic_request("mem0", system_default),
            "--allow-kernel-zones",
        ),
        (
            machine(),
            dynamic_request("mem0", Wanted::StockDefault),
            "cxl_region does not serve dc regions",
        ),
        (
            machine(),
            dynamic_request("mem1", MOVABLE),
            "mem1 has no dc capacity",
        ),
        (
            machine(),
            request(&["mem0"], MOVABLE),
            "mem0 has no ram capacity",
        ),
        (
            machine(),
            request(&["mem1"], Wanted::SysramForGood(OnlineType::OnlineKernel)),
            "leave out --allow-kernel-zones",
        ),
        (
            topology().build(),
            dynamic_request("mem0", MOVABLE),
            "modprobe cxl_regions",
        ),
        (
            topology().build(),
            dynamic_request("mem0", Wanted::Nothing),
            "modprobe cxl_regions",
        ),
    ] {
        let snapshot = Snapshot::read(&machine).expect("a snapshot");
        let refusal = plan::create::plan(&snapshot, &request).expect_err(reason);
        assert!(refusal.to_string().contains(reason), "{reason}: {refusal}");
        assert!(machine.writes().is_empty());
    }
    let both = plan::create::Request {
        memdevs: vec!["mem0".to_owned(), "mem1".to_owned()],
        ..dynamic_request("mem0", MOVABLE)
    };
    let snapshot = Snapshot::read(&machine()).expect("a snapshot");
    let refusal = plan::create::plan(&snapshot, &both).expect_err("two memdevs");
    assert!(refusal.to_string().contains("one memdev"), "{refusal}");
}

#[test]
fn a_decoder_of_a_destroyed_region_can_be_used_for_the_other_kind() {
    let machine = Topology::new()
        .host_bridge("hb0")
        .memdev("hb0", GIB)
        .dynamic_memdev("hb0", GIB)
        .window(4 * GIB, 256, &["hb0"])
        .region_drivers()
        .build();
    create(&machine, &dynamic_request("mem1", MOVABLE));
    destroy(&machine, &["region0"]);
    let before = looks(&machine);
    create(
        &machine,
        &request(&["mem0"], Wanted::Devdax(DaxMode::Devdax)),
    );
    destroy(&machine, &["region0"]);
    create(&machine, &dynamic_request("mem1", MOVABLE));
    destroy(&machine, &["region0"]);
    assert_same(&before, &looks(&machine), "three regions came and went");
    assert_eq!(machine.violations(), Vec::<String>::new());
}

#[test]
fn extents_are_given_back_one_by_one_by_set_or_all() {
    for (which, goes, stays) in [
        (Which::Numbered(0), vec![0], vec![1, 2, 3]),
        (Which::Numbered(3), vec![1, 3], vec![0, 2]),
        (Which::Tagged(tag().expect("a tag")), vec![1, 3], vec![0, 2]),
        (Which::All, vec![0, 1, 2, 3], vec![]),
    ] {
        let called = |numbers: Vec<u32>| -> Vec<String> {
            let names = numbers.iter().map(|number| format!("extent0.{number}"));
            names.collect()
        };
        let machine = machine_with_extents();
        let chosen = chosen(&machine, which);
        assert_eq!(chosen, called(goes), "{which:?}");
        release::run(&machine, &Interrupt::default(), &chosen)
            .unwrap_or_else(|problem| panic!("{which:?}: {problem}"));
        assert_eq!(names(&machine), called(stays), "{which:?}");
    }
}

#[test]
fn extents_that_stay_are_named() {
    let machine = machine_with_extents();
    machine.pin("region0");
    let chosen = chosen(&machine, Which::Numbered(2));
    let problem = release::run(&machine, &Interrupt::default(), &chosen).expect_err("it is in use");
    assert!(
        matches!(&problem, Problem::Kept { kept, others: false } if kept.len() == 1),
        "{problem}"
    );
    assert!(
        problem.to_string().contains("none was given back"),
        "{problem}"
    );
    assert!(problem.to_string().contains("extent0.2: busy"), "{problem}");
    assert_eq!(problem.exit_status(), 3);
    assert_eq!(
        machine.silences(),
        0,
        "what is known to stay is not waited for"
    );
    assert_eq!(names(&machine).len(), 4);
}

#[test]
fn who_may_not_ask_is_refused_and_what_cannot_be_asked_for_is_named() {
    let machine = machine_with_extents();
    let chosen = chosen(&machine, Which::All);
    let (first, second) = (machine.twin(), machine.twin());
    first.fail_write(first.writes().len(), Errno::ACCESS);
    let problem = release::run(&first, &Interrupt::default(), &chosen).expect_err("not root");
    assert_eq!(problem.exit_status(), 4, "{problem}");
    assert_eq!(names(&first).len(), 4);

    second.fail_write(second.writes().len() + 2, Errno::IO);
    let problem = release::run(&second, &Interrupt::default(), &chosen).expect_err("one stays");
    assert_eq!(problem.exit_status(), 3, "{problem}");
    assert!(
        problem.to_string().contains("the others were given back"),
        "{problem}"
    );
    assert_eq!(names(&second), ["extent0.2"]);
}

#[test]
fn what_the_host_does_not_have_is_not_given_back() {
    let machine = machine_with_extents();
    create(&machine, &request(&["mem1"], MOVABLE));
    let before = machine.writes().len();
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    let other = Tag::parse(b"00000000-0000-0000-0000-000000000001").expect("a tag");
    for (region, which, reason) in [
        ("region0", Which::Numbered(9), "no extent with the number 9"),
        ("region0", Which::Tagged(other), "no extent with the tag"),
        (
            "region1",
            Which::All,
            "region1 is not over dynamic capacity",
        ),
        ("region7", Which::All, "there is no region region7"),
    ] {
        let refusal = release::choose(&snapshot, region, which).expect_err(reason);
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }
    assert_eq!(machine.writes().len(), before);
}

#[test]
fn a_list_shows_extents_and_tags() {
    let machine = machine_with_extents();
    let listing = list::Listing::read(&machine).expect("a listing");
    insta::assert_snapshot!(list::text::region(&listing, "region0"));
    insta::assert_snapshot!(format!("{:#}", list::json::region(&listing, "region0")));
    let all = list::text::all(&listing);
    assert!(
        all.contains("mem0  serial 0x100  dc 2 GiB (in use)"),
        "{all}"
    );
}

#[test]
fn a_monitor_shows_what_is_there_and_then_what_happens() {
    let machine = machine_with_extents();
    let release = Path::new("/sys/bus/cxl/devices/extent0.1/release");
    machine.write(release, "1").expect("it is taken");
    let mut out = Vec::new();
    monitor::run(&machine, false, true, &mut out).expect("nothing stands in the way");
    let text = String::from_utf8(out).expect("text");
    let events: Vec<(String, String, String)> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let extent = &line["extent"];
            (
                word(&line["event"]),
                word(&extent["extent"]),
                word(&extent["state"]),
            )
        })
        .collect();
    let expected = [
        ("present", "extent0.0", "in use"),
        ("present", "extent0.1", "leaving"),
        ("present", "extent0.2", "in use"),
        ("present", "extent0.3", "leaving"),
        ("removed", "extent0.1", "leaving"),
        ("removed", "extent0.3", "leaving"),
    ];
    let events: Vec<(&str, &str, &str)> = events
        .iter()
        .map(|(event, name, state)| (event.as_str(), name.as_str(), state.as_str()))
        .collect();
    assert_eq!(events, expected);
}

#[test]
fn a_monitor_and_a_list_tell_why_offers_were_refused() {
    let machine = machine_with_extents();
    machine.refuse_offer("mem0", "the end of the group did not come in time");
    machine.refuse_offer("mem0", "the group has several tags");
    let mut out = Vec::new();
    monitor::run(&machine, false, true, &mut out).expect("nothing stands in the way");
    let text = String::from_utf8(out).expect("text");
    let refused: Vec<(String, String, u64)> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &serde_json::Value| line["event"] == "refused")
        .map(|line| {
            let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            (
                word("memdev"),
                word("reason"),
                line["offers"].as_u64().unwrap_or_default(),
            )
        })
        .collect();
    let expected = [
        "the end of the group did not come in time",
        "the group has several tags",
    ];
    let expected = expected.map(|why| ("mem0".to_owned(), why.to_owned(), 1));
    assert_eq!(refused, expected);

    machine.refuse_offer("mem0", "tag in use");
    let mut out = Vec::new();
    monitor::run(&machine, false, false, &mut out).expect("nothing stands in the way");
    let text = String::from_utf8(out).expect("text");
    assert!(
        text.ends_with("  refused  mem0  an offer: tag in use\n"),
        "{text}"
    );

    let listing = list::Listing::read(&machine).expect("a listing");
    let all = list::text::all(&listing);
    assert!(all.contains("last refusal: tag in use"), "{all}");
}

#[test]
fn refusals_between_two_looks_are_one_line() {
    let look = |count, latest: &str| {
        let refusals = Refusals {
            count,
            latest: Some(latest.to_owned()),
        };
        BTreeMap::from([("mem0".to_owned(), refusals)])
    };
    let before = look(2, "one");
    assert_eq!(monitor::refused(&before, &before), []);
    let now = look(5, "another");
    assert_eq!(monitor::refused(&before, &now), [("mem0", 3, "another")]);
    // Its driver went and came, and it refused one since.
    let now = look(1, "another");
    assert_eq!(monitor::refused(&before, &now), [("mem0", 1, "another")]);
}
