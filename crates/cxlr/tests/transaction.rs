// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole transactions on a model of the kernel, with a failure at every single write.

mod common;

use std::path::Path;
use std::path::PathBuf;

use common::*;
use cxl_sysfs::Goal;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::device::DAX_AUTOPROBE;
use cxl_sysfs::fixture::Kmem;
use cxl_sysfs::fixture::Machine;
use cxl_sysfs::fixture::Topology;
use cxl_sysfs::memory::AUTO_ONLINE;
use cxl_sysfs::tree::Events;
use cxl_sysfs::tree::Guard;
use cxlr::interrupt::Interrupt;
use cxlr::list;
use cxlr::plan;
use cxlr::plan::attach::Wanted;
use cxlr::plan::create::Request;
use cxlr::problem::Cause;
use cxlr::settings;
use cxlr::transaction;
use region_policy::dax_mode::DaxMode;
use region_policy::online_type::OnlineType;
use rustix::io::Errno;

const MOVABLE: Goal = Goal::Plugged(OnlineType::OnlineMovable);

/// A machine, and what is asked of it.
type Case = (&'static str, fn() -> Machine, Request);

/// A memdev whose memory comes and goes.
fn dynamic_memdev() -> Machine {
    Topology::new()
        .host_bridge("hb0")
        .dynamic_memdev("hb0", 2 * GIB)
        .window(4 * GIB, 256, &["hb0"])
        .region_drivers()
        .build()
}

/// What has no memory until the fabric gives some.
fn empty_creations() -> Vec<Case> {
    let sysram = Wanted::Sysram(OnlineType::OnlineMovable);
    vec![
        (
            "dynamic capacity",
            dynamic_memdev,
            dynamic_request("mem0", sysram),
        ),
        (
            "dynamic capacity, for good",
            dynamic_memdev,
            dynamic_request("mem0", Wanted::SysramForGood(OnlineType::OnlineKernel)),
        ),
    ]
}

fn creations() -> Vec<Case> {
    let sysram = Wanted::Sysram(OnlineType::OnlineMovable);
    vec![
        (
            "region drivers",
            || two_memdevs().region_drivers().build(),
            request(&["mem1", "mem0"], sysram),
        ),
        (
            "stock with state",
            || two_memdevs().build(),
            request(&["mem1", "mem0"], sysram),
        ),
        (
            "stock with hotplug",
            || two_memdevs().kmem(Kmem::Hotplug).build(),
            request(&["mem0", "mem1"], sysram),
        ),
        (
            "stock with blocks",
            || two_memdevs().kmem(Kmem::Blocks).build(),
            request(&["mem0", "mem1"], sysram),
        ),
        (
            "the system default",
            || two_memdevs().build(),
            request(&["mem0", "mem1"], Wanted::StockDefault),
        ),
        (
            "no driver",
            || two_memdevs().build(),
            request(&["mem0", "mem1"], Wanted::Nothing),
        ),
        (
            "policy offline",
            || two_memdevs().region_drivers().build(),
            request(&["mem0", "mem1"], Wanted::Sysram(OnlineType::Offline)),
        ),
        (
            "region drivers, for applications",
            || two_memdevs().region_drivers().build(),
            request(&["mem1", "mem0"], Wanted::Devdax(DaxMode::Fsdev)),
        ),
        (
            "stock, for applications",
            || two_memdevs().build(),
            request(&["mem0", "mem1"], Wanted::Devdax(DaxMode::Devdax)),
        ),
        (
            "stock, policy online_kernel",
            || two_memdevs().build(),
            request(&["mem0", "mem1"], Wanted::Stock(OnlineType::OnlineKernel)),
        ),
    ]
}

#[test]
fn a_region_is_created_and_its_memory_is_as_asked_for() {
    for (what, machine, request) in creations() {
        let machine = machine();
        let before = looks(&machine);
        let plan = create(&machine, &request);
        let snapshot = Snapshot::read(&machine).expect("a snapshot");
        let region = snapshot.region(&plan.region).expect(what);
        assert!(region.committed, "{what}");
        assert_eq!(region.size, GIB, "{what}");
        assert_eq!(region.driver.as_deref(), plan.way.driver(), "{what}");
        match request.wanted {
            Wanted::Sysram(policy) | Wanted::Stock(policy) => {
                assert!(
                    census(&machine, &plan.region).is(Goal::Plugged(policy)),
                    "{what}: {}",
                    census(&machine, &plan.region)
                );
            }
            Wanted::StockDefault => assert!(
                census(&machine, &plan.region).is(Goal::Plugged(OnlineType::Online)),
                "{what}"
            ),
            Wanted::Devdax(mode) => {
                assert_eq!(snapshot.dax_devices.len(), 1, "{what}");
                assert_eq!(
                    snapshot.dax_devices[0].driver.as_deref(),
                    Some(mode.driver()),
                    "{what}"
                );
                assert_eq!(machine.dax_ids(), 0, "{what}: names are taken back");
            }
            Wanted::SysramForGood(_) | Wanted::Nothing => {
                assert_eq!(snapshot.dax_devices.len(), 0, "{what}");
            }
        }
        let settings = |looks: &Looks| {
            looks
                .iter()
                .filter(|(path, _)| is_setting(path))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            settings(&before),
            settings(&looks(&machine)),
            "{what}: system-wide settings are put back"
        );
        assert_eq!(machine.violations(), Vec::<String>::new(), "{what}");

        // And all the way back.
        destroy(&machine, &[&plan.region]);
        assert_same(&before, &looks(&machine), what);
        assert_eq!(machine.violations(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn creating_is_undone_wherever_it_fails() {
    for (what, machine, request) in creations().into_iter().chain(empty_creations()) {
        let machine = machine();
        let snapshot = Snapshot::read(&machine).expect("a snapshot");
        let steps = plan::create::plan(&snapshot, &request).expect(what).steps;
        let writes = every_write_fails_once(what, &machine, &steps);
        assert!(writes >= 10, "{what}: only {writes} writes were tried");
    }
}

#[test]
fn destroying_is_undone_wherever_it_fails() {
    for (what, machine, request) in creations().into_iter().chain(empty_creations()) {
        let machine = machine();
        create(&machine, &request);
        let steps = destroy_steps(&machine, &["region0"]);
        let writes = every_write_fails_once(what, &machine, &steps);
        assert!(writes >= 6, "{what}: only {writes} writes were tried");
    }
}

/// A machine with one region, which is to be given to a driver.
type Handover = (&'static str, fn() -> Topology, Wanted, Wanted);

fn handovers() -> Vec<Handover> {
    let movable = Wanted::Sysram(OnlineType::OnlineMovable);
    let kernel = Wanted::Sysram(OnlineType::OnlineKernel);
    let ours: fn() -> Topology = || two_memdevs().region_drivers();
    let stock: fn() -> Topology = two_memdevs;
    vec![
        ("firmware's to ours", ours, Wanted::StockDefault, movable),
        ("ours back to stock", ours, movable, Wanted::StockDefault),
        ("another policy", ours, movable, kernel),
        ("from nobody", ours, Wanted::Nothing, movable),
        ("to nobody", ours, movable, Wanted::Nothing),
        (
            "stock under a policy",
            ours,
            movable,
            Wanted::Stock(OnlineType::Offline),
        ),
        (
            "without region drivers",
            stock,
            Wanted::Stock(OnlineType::OnlineKernel),
            movable,
        ),
        (
            "blocks",
            || two_memdevs().kmem(Kmem::Blocks),
            Wanted::Stock(OnlineType::OnlineKernel),
            movable,
        ),
    ]
}

fn bind_plan(machine: &Machine, wanted: Wanted) -> plan::bind::Plan {
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    plan::bind::plan(machine, &snapshot, "region0", wanted)
        .unwrap_or_else(|problem| panic!("{problem}"))
}

#[test]
fn a_region_is_handed_over_and_back() {
    for (what, topology, from, to) in handovers() {
        let machine = topology().build();
        create(&machine, &request(&["mem0", "mem1"], from));
        let before = looks(&machine);
        for wanted in [to, from] {
            let plan = bind_plan(&machine, wanted);
            transaction::run(&machine, &Interrupt::default(), &plan.steps).expect(what);
            let snapshot = Snapshot::read(&machine).expect("a snapshot");
            let region = snapshot.region("region0").expect(what);
            assert_eq!(region.driver.as_deref(), plan.way.driver(), "{what}");
            if let Wanted::Sysram(policy) | Wanted::Stock(policy) = wanted {
                assert!(
                    census(&machine, "region0").is(Goal::Plugged(policy)),
                    "{what}: {}",
                    census(&machine, "region0")
                );
            }
            assert_eq!(
                bind_plan(&machine, wanted).steps,
                Vec::new(),
                "{what}: what is there already is left alone"
            );
        }
        assert_same(&before, &looks(&machine), what);
        assert_eq!(machine.violations(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn handing_over_is_undone_wherever_it_fails() {
    for (what, topology, from, to) in handovers() {
        let machine = topology().build();
        create(&machine, &request(&["mem0", "mem1"], from));
        let steps = bind_plan(&machine, to).steps;
        let writes = every_write_fails_once(what, &machine, &steps);
        assert!(writes >= 2, "{what}: only {writes} writes were tried");
    }
}

#[test]
fn memory_goes_to_applications_and_is_not_taken_from_them() {
    let movable = Wanted::Sysram(OnlineType::OnlineMovable);
    let machine = two_memdevs().region_drivers().build();
    create(&machine, &request(&["mem0", "mem1"], movable));
    let applications = Wanted::Devdax(DaxMode::Devdax);
    let steps = bind_plan(&machine, applications).steps;
    every_write_fails_once("to applications", &machine, &steps);
    transaction::run(&machine, &Interrupt::default(), &steps).expect("applications have it");
    assert_eq!(bind_plan(&machine, applications).steps, Vec::new());

    // From one mode to the other the region keeps its drivers.
    let steps = bind_plan(&machine, Wanted::Devdax(DaxMode::Fsdev)).steps;
    assert_eq!(
        every_write_fails_once("to a file system", &machine, &steps),
        1
    );
    transaction::run(&machine, &Interrupt::default(), &steps).expect("a file system has it");
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    assert_eq!(
        snapshot.dax_devices[0].driver.as_deref(),
        Some(DaxMode::Fsdev.driver())
    );
    let listing = list::Listing::read(&machine).expect("a listing");
    let shown = list::json::region(&listing, "region0");
    let mode = &shown["daxregion"]["devices"][0]["mode"];
    assert_eq!(mode, "famfs", "as daxctl calls it");

    let refusal = plan::bind::plan(&machine, &snapshot, "region0", movable).expect_err("mapped");
    assert!(refusal.to_string().contains("dax0.0"), "{refusal}");
    assert_eq!(refusal.exit_status(), cxlr::problem::REFUSED);
}

#[test]
fn a_region_whose_memory_cannot_go_stays_with_its_driver() {
    for (what, topology, from, to) in handovers() {
        if from == Wanted::Nothing {
            continue;
        }
        let machine = topology().build();
        create(&machine, &request(&["mem0", "mem1"], from));
        let before = looks(&machine);
        machine.pin("region0");
        let steps = bind_plan(&machine, to).steps;
        let failure = transaction::run(&machine, &Interrupt::default(), &steps).expect_err(what);
        assert!(failure.step.starts_with("unplug"), "{what}: {failure}");
        assert_eq!(failure.left, Vec::<String>::new(), "{what}");
        assert_same(&before, &looks(&machine), what);
    }
}

#[test]
fn plugging_is_undone_wherever_it_fails() {
    for kmem in [Kmem::State, Kmem::Hotplug, Kmem::Blocks] {
        for from in Goal::ALL {
            let machine = in_state(kmem, from);
            for to in Goal::ALL {
                let machine = machine.twin();
                let Ok(plan) = hotplug_plan(&machine, to) else {
                    // Refused: the attribute has no word for it.
                    assert!(kmem != Kmem::Blocks, "{kmem:?} {from} to {to}");
                    continue;
                };
                let what = format!("{kmem:?} {from} to {to}");
                let writes = every_write_fails_once(&what, &machine, &plan.steps);
                assert_eq!(
                    writes == 0,
                    census(&machine, "region0").is(to),
                    "{what}: what is as it shall be is left alone"
                );
                transaction::run(&machine, &Interrupt::default(), &plan.steps).expect(&what);
                assert!(
                    census(&machine, "region0").is(to),
                    "{what}: {}",
                    census(&machine, "region0")
                );
            }
        }
    }
}

/// A machine with one region whose device is in a state.
fn in_state(kmem: Kmem, goal: Goal) -> Machine {
    let machine = two_memdevs().kmem(kmem).build();
    let policy = match goal {
        Goal::Unplugged => OnlineType::OnlineMovable,
        Goal::Plugged(policy) => policy,
    };
    create(&machine, &request(&["mem0", "mem1"], Wanted::Stock(policy)));
    if goal == Goal::Unplugged {
        let plan = hotplug_plan(&machine, goal).expect("a plan");
        transaction::run(&machine, &Interrupt::default(), &plan.steps).expect("unplugged");
    }
    machine
}

fn hotplug_plan(
    machine: &Machine,
    goal: Goal,
) -> Result<plan::hotplug::Plan, cxlr::problem::Problem> {
    plan::hotplug::plan(
        machine,
        &Snapshot::read(machine).expect("a snapshot"),
        "region0",
        goal,
    )
}

#[test]
fn when_nothing_can_be_undone_it_says_what_is_left_and_strands_nothing() {
    for (what, machine, request) in creations() {
        for number in 0.. {
            let machine = machine();
            let plan = plan::create::plan(&Snapshot::read(&machine).expect("a snapshot"), &request)
                .expect(what);
            machine.fail_from(number);
            let result = transaction::run(&machine, &Interrupt::default(), &plan.steps);
            assert_eq!(
                machine.violations(),
                Vec::<String>::new(),
                "{what}, from write {number}"
            );
            let Err(failure) = result else { break };
            assert_eq!(
                failure.left.is_empty(),
                number == 0,
                "{what}, from write {number}: {:?}",
                failure.left
            );
        }
    }
}

#[test]
fn a_kernel_that_lies_is_caught_by_counting() {
    for (what, machine, request) in creations() {
        if !matches!(request.wanted, Wanted::Sysram(OnlineType::OnlineMovable)) {
            continue;
        }
        let machine = machine();
        let before = looks(&machine);
        let plan = plan::create::plan(&Snapshot::read(&machine).expect("a snapshot"), &request)
            .expect(what);
        machine.break_block(FIRST_BLOCK + 3);
        let failure =
            transaction::run(&machine, &Interrupt::default(), &plan.steps).expect_err(what);
        assert!(
            matches!(failure.cause, Cause::Uncounted { .. }),
            "{what}: {failure}"
        );
        assert_eq!(failure.left, Vec::<String>::new(), "{what}");
        assert_same(&before, &looks(&machine), what);
        assert_eq!(machine.violations(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn memory_that_stays_online_keeps_its_region() {
    for (what, machine, request) in creations() {
        if matches!(
            request.wanted,
            Wanted::Nothing | Wanted::Devdax(_) | Wanted::Sysram(OnlineType::Offline)
        ) {
            continue;
        }
        let machine = machine();
        create(&machine, &request);
        let before = looks(&machine);
        machine.pin("region0");
        let failure = transaction::run(
            &machine,
            &Interrupt::default(),
            &destroy_steps(&machine, &["region0"]),
        )
        .expect_err(what);
        assert!(failure.step.starts_with("unplug"), "{what}: {failure}");
        assert_eq!(failure.left, Vec::<String>::new(), "{what}");
        assert_same(&before, &looks(&machine), what);
        assert_eq!(machine.violations(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn one_region_that_cannot_be_unplugged_keeps_all_named_ones() {
    let machine = two_memdevs()
        .window(4 * GIB, 256, &["hb0"])
        .window(4 * GIB, 256, &["hb1"])
        .build();
    let movable = Wanted::Sysram(OnlineType::OnlineMovable);
    let first = create(&machine, &request(&["mem0"], movable)).region;
    let second = create(&machine, &request(&["mem1"], movable)).region;
    let before = looks(&machine);
    machine.pin(&first);
    let steps = destroy_steps(&machine, &[&first, &second]);
    transaction::run(&machine, &Interrupt::default(), &steps).expect_err("pinned");
    assert_same(&before, &looks(&machine), "both regions are as they were");
    assert!(census(&machine, &second).is(MOVABLE));
}

#[test]
fn regions_of_one_memdev_are_destroyed_latest_first() {
    let machine = Topology::new()
        .host_bridge("hb0")
        .memdev("hb0", GIB)
        .window(4 * GIB, 256, &["hb0"])
        .build();
    let before = looks(&machine);
    let half = Request {
        size: Some(cxlr::size::Size(GIB / 2)),
        ..request(&["mem0"], Wanted::Nothing)
    };
    let first = create(&machine, &half).region;
    let second = create(&machine, &half).region;

    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    let refusal = plan::destroy::plan(&machine, &snapshot, std::slice::from_ref(&first))
        .expect_err("out of order");
    assert!(
        refusal.to_string().contains(&format!(
            "destroy both: cxlr destroy-region {first} {second}"
        )),
        "{refusal}"
    );
    assert_eq!(refusal.exit_status(), cxlr::problem::REFUSED);

    destroy(&machine, &[&first, &second]);
    let after: Vec<_> = looks(&machine);
    assert_same(&before, &after, "both are gone");
}

#[test]
fn a_signal_before_the_first_step_changes_nothing() {
    let machine = two_memdevs().build();
    let plan = plan::create::plan(
        &Snapshot::read(&machine).expect("a snapshot"),
        &request(&["mem0", "mem1"], Wanted::Sysram(OnlineType::OnlineMovable)),
    )
    .expect("a plan");
    let interrupt = Interrupt::default();
    interrupt.ask();
    let failure = transaction::run(&machine, &interrupt, &plan.steps).expect_err("interrupted");
    assert!(matches!(failure.cause, Cause::Interrupted));
    assert_eq!(machine.writes(), Vec::new());
}

#[test]
fn no_page_comes_online_under_the_system_default() {
    // A kernel that would put everything into a kernel zone by default; not one write leaves a block there.
    for (what, machine, request) in creations() {
        if !matches!(request.wanted, Wanted::Sysram(OnlineType::OnlineMovable)) {
            continue;
        }
        let machine = machine();
        machine.set_system_default("online_kernel");
        let plan = plan::create::plan(&Snapshot::read(&machine).expect("a snapshot"), &request)
            .expect(what);
        for step in &plan.steps {
            transaction::run(&machine, &Interrupt::default(), std::slice::from_ref(step))
                .expect(what);
            let zones = census(&machine, &plan.region).online;
            assert!(
                zones.keys().all(|zone| zone == "Movable"),
                "{what}, after \"{}\": {zones:?}",
                step.what
            );
        }
        let word = machine
            .read(std::path::Path::new(
                "/sys/devices/system/memory/auto_online_blocks",
            ))
            .expect("the default");
        assert_eq!(word.trim(), "online_kernel", "{what}");
    }
}

#[test]
fn what_the_policy_forbids_is_refused_before_anything_is_unplugged() {
    let machine = two_memdevs().region_drivers().build();
    create(
        &machine,
        &request(&["mem0", "mem1"], Wanted::Sysram(OnlineType::OnlineMovable)),
    );
    let writes = machine.writes().len();
    let refusal =
        hotplug_plan(&machine, Goal::Plugged(OnlineType::OnlineKernel)).expect_err("forbidden");
    assert_eq!(refusal.exit_status(), cxlr::problem::REFUSED);
    assert!(
        refusal.to_string().contains("ask for online_movable"),
        "{refusal}"
    );
    assert_eq!(machine.writes().len(), writes);
    assert!(
        hotplug_plan(&machine, Goal::Unplugged).is_ok(),
        "unplugging is never forbidden"
    );
}

/// The settings of the whole system that a transaction may hold.
fn settings_of(machine: &Machine) -> [String; 2] {
    [AUTO_ONLINE, DAX_AUTOPROBE].map(|path| machine.read(Path::new(path)).expect("a setting"))
}

#[test]
fn what_was_held_when_it_was_killed_is_put_back_by_the_next_one() {
    for (what, machine, request) in creations() {
        let machine = machine();
        let before = settings_of(&machine);
        let snapshot = Snapshot::read(&machine).expect("a snapshot");
        let plan = plan::create::plan(&snapshot, &request).expect("a plan");
        for number in 0.. {
            let machine = machine.twin();
            // From there on nothing has an effect any more, as after a kill.
            machine.fail_from(machine.writes().len() + number);
            let result = transaction::run(&machine, &Interrupt::default(), &plan.steps);
            machine.heal();
            settings::put_back(&machine).expect("put back");
            assert_eq!(settings_of(&machine), before, "{what}, write {number}");
            assert_eq!(
                machine.note().expect("no note"),
                None,
                "{what}, write {number}"
            );
            if result.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn what_somebody_has_changed_since_is_left_alone() {
    let machine = two_memdevs().build();
    let note = format!("{AUTO_ONLINE} offline online_movable\n{DAX_AUTOPROBE} 1 0\n");
    machine.leave_note(Some(&note)).expect("a note");
    machine
        .write(Path::new(AUTO_ONLINE), "online_kernel")
        .expect("changed");
    machine
        .write(Path::new(DAX_AUTOPROBE), "0")
        .expect("changed");
    settings::put_back(&machine).expect("put back");
    let [default, autoprobe] = settings_of(&machine);
    assert_eq!((default.trim(), autoprobe.trim()), ("online_kernel", "1"));
}

/// A machine on which someone asks to stop while the kernel is still creating the dax device.
struct StopsWhileWaiting<'a> {
    machine: &'a Machine,
    interrupt: Interrupt,
}

impl Tree for StopsWhileWaiting<'_> {
    fn read(&self, path: &Path) -> cxl_sysfs::Result<String> {
        self.machine.read(path)
    }
    fn write(&self, path: &Path, value: &str) -> cxl_sysfs::Result<()> {
        self.machine.write(path, value)
    }
    fn entries(&self, path: &Path) -> cxl_sysfs::Result<Vec<String>> {
        self.machine.entries(path)
    }
    fn link(&self, path: &Path) -> cxl_sysfs::Result<PathBuf> {
        self.machine.link(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.machine.exists(path)
    }
    fn events(&self) -> cxl_sysfs::Result<Box<dyn Events>> {
        self.interrupt.ask();
        self.machine.events()
    }
    fn lock(&self) -> cxl_sysfs::Result<Guard> {
        self.machine.lock()
    }
    fn leave_note(&self, note: Option<&str>) -> cxl_sysfs::Result<()> {
        self.machine.leave_note(note)
    }
    fn note(&self) -> cxl_sysfs::Result<Option<String>> {
        self.machine.note()
    }
}

#[test]
fn a_signal_while_waiting_for_the_kernel_undoes_what_was_done() {
    // The device that was waited for comes all the same, and kmem takes it if it is let.
    for (what, machine, request) in creations() {
        let machine = machine();
        let before = looks(&machine);
        let snapshot = Snapshot::read(&machine).expect("a snapshot");
        let plan = plan::create::plan(&snapshot, &request).expect("a plan");
        let interrupt = Interrupt::default();
        let tree = StopsWhileWaiting {
            machine: &machine,
            interrupt: interrupt.clone(),
        };
        let Err(failure) = transaction::run(&tree, &interrupt, &plan.steps) else {
            assert!(
                matches!(request.wanted, Wanted::Nothing | Wanted::Devdax(_)),
                "{what} waits for the kernel"
            );
            continue;
        };
        assert!(matches!(failure.cause, Cause::Interrupted), "{failure}");
        assert_eq!(failure.left, Vec::<String>::new(), "{what}");
        assert_same(&before, &looks(&machine), what);
        assert_eq!(machine.violations(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn a_signal_while_undoing_does_not_end_it() {
    for (what, machine, request) in creations() {
        let machine = machine();
        let before = looks(&machine);
        let snapshot = Snapshot::read(&machine).expect("a snapshot");
        let steps = plan::create::plan(&snapshot, &request).expect(what).steps;
        for number in 0.. {
            let machine = machine.twin();
            machine.fail_write(number, Errno::IO);
            machine.fail_write(number + 1, Errno::INTR);
            let Err(failure) = transaction::run(&machine, &Interrupt::default(), &steps) else {
                break;
            };
            let (path, _) = &machine.writes()[number];
            let (next, _) = &machine.writes()[(number + 1).min(machine.writes().len() - 1)];
            // Who holds a setting puts it back once, and names it where that fails.
            if is_setting(path) || is_setting(next) {
                continue;
            }
            assert_eq!(failure.left, Vec::<String>::new(), "{what}, write {number}");
            assert_same(&before, &looks(&machine), what);
        }
    }
}

#[test]
fn a_target_that_is_refused_and_kept_is_taken_out_again() {
    let machine = Topology::new()
        .host_bridge("hb0")
        .switch("sw0", "hb0")
        .switch("sw1", "hb0")
        .memdev("sw0", GIB)
        .memdev("sw0", GIB)
        .memdev("sw1", GIB)
        .memdev("sw1", GIB)
        .window(8 * GIB, 256, &["hb0"])
        .build();
    let before = looks(&machine);
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    let request = request(&["mem0", "mem2", "mem1", "mem3"], Wanted::Nothing);
    let mut steps = plan::create::plan(&snapshot, &request)
        .expect("a plan")
        .steps;
    // The order that the planner never chooses: the kernel sees that it is wrong when the last target is there, and
    // refuses that one without letting go of it.
    for action in steps
        .iter_mut()
        .flat_map(|step| std::iter::once(&mut step.action).chain(&mut step.undo))
    {
        let plan::Action::Write { path, .. } = action else {
            continue;
        };
        for (from, to) in [("target1", "target2"), ("target2", "target1")] {
            if path.ends_with(from) {
                path.set_file_name(to);
                break;
            }
        }
    }
    let failure =
        transaction::run(&machine, &Interrupt::default(), &steps).expect_err("a wrong order");
    assert!(
        failure.step.starts_with("put mem3 at position 3"),
        "{failure}"
    );
    assert_eq!(failure.left, Vec::<String>::new());
    assert_same(&before, &looks(&machine), "as before");
}
