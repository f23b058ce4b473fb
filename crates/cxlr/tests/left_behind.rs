// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that comes while its region is taken down, and memory that no driver of its region has any more.

mod common;

use std::cell::Cell;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use common::*;
use cxl_sysfs::Goal;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::fixture::Machine;
use cxl_sysfs::fixture::Topology;
use cxl_sysfs::tree::Events;
use cxl_sysfs::tree::Guard;
use cxlr::interrupt::Interrupt;
use cxlr::plan;
use cxlr::plan::attach::Wanted;
use cxlr::problem::Cause;
use cxlr::problem::Failure;
use cxlr::problem::Problem;
use cxlr::problem::REFUSED;
use cxlr::transaction;
use region_policy::dax_mode::DaxMode;
use region_policy::online_type::OnlineType;

const MOVABLE: Wanted = Wanted::Sysram(OnlineType::OnlineMovable);
const KERNEL: Wanted = Wanted::Sysram(OnlineType::OnlineKernel);

fn stock() -> Machine {
    two_memdevs().build()
}

fn ours() -> Machine {
    two_memdevs().region_drivers().build()
}

/// Writes as a person would.
fn by_hand(machine: &Machine, path: &str, value: &str) {
    let path = Path::new("/sys/bus").join(path);
    let result = machine.write(&path, value);
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Has the kernel do what it does by itself, at most so many things.
fn let_happen(machine: &Machine, events: usize) {
    let mut future = machine.events().expect("events");
    for _ in 0..events {
        future
            .wait(Duration::ZERO)
            .expect("something happens or nothing");
    }
}

fn bind_plan(machine: &Machine, wanted: Wanted) -> Result<plan::bind::Plan, Problem> {
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    plan::bind::plan(machine, &snapshot, "region0", wanted)
}

fn bind(machine: &Machine, wanted: Wanted) -> Result<(), Failure> {
    let plan = bind_plan(machine, wanted).unwrap_or_else(|problem| panic!("{problem}"));
    transaction::run(machine, &Interrupt::default(), &plan.steps)
}

fn destroy_plan(machine: &Machine) -> Result<Vec<plan::Step>, Problem> {
    let snapshot = Snapshot::read(machine).expect("a snapshot");
    plan::destroy::plan(machine, &snapshot, &["region0".to_owned()])
}

#[test]
fn a_device_that_comes_while_its_region_is_taken_down_is_not_stranded() {
    for (machine, default, events) in [stock as fn() -> Machine, ours]
        .iter()
        .flat_map(|machine| ["online", "online_movable"].map(|default| (machine, default)))
        .flat_map(|(machine, default)| [0, 1, 2].map(|events| (machine, default, events)))
    {
        let what = format!("default {default}, after {events} events");
        let machine = machine();
        machine.set_system_default(default);
        let before = looks(&machine);
        create(&machine, &request(&["mem0", "mem1"], Wanted::Nothing));
        // As `cxl enable-region` does; the dax device comes later.
        by_hand(&machine, "cxl/drivers/cxl_region/bind", "region0");
        let_happen(&machine, events);

        for wanted in [MOVABLE, Wanted::Devdax(DaxMode::Devdax), Wanted::Nothing] {
            let machine = machine.twin();
            bind(&machine, wanted).unwrap_or_else(|failure| panic!("{what}: {failure}"));
            assert_eq!(machine.violations(), Vec::<String>::new(), "{what}");
            let all_movable =
                census(&machine, "region0").is(Goal::Plugged(OnlineType::OnlineMovable));
            assert_eq!(all_movable, wanted == MOVABLE, "{what}");
        }
        destroy(&machine, &["region0"]);
        assert_eq!(machine.violations(), Vec::<String>::new(), "{what}");
        assert_same(&before, &looks(&machine), &what);
    }
}

#[test]
fn memory_that_lost_its_driver_keeps_its_region() {
    for (machine, remedy) in [
        (stock(), "restart the machine"),
        (ours(), "echo dax0.0 > /sys/bus/dax/drivers/kmem/bind"),
    ] {
        let under_a_policy = Wanted::Stock(OnlineType::OnlineMovable);
        create(&machine, &request(&["mem0", "mem1"], under_a_policy));
        by_hand(&machine, "dax/drivers/kmem/unbind", "dax0.0");
        let writes = machine.writes().len();
        let mut refusals = vec![destroy_plan(&machine).map(drop)];
        for wanted in [MOVABLE, Wanted::Devdax(DaxMode::Devdax), Wanted::Nothing] {
            refusals.push(bind_plan(&machine, wanted).map(drop));
        }
        for refusal in refusals {
            let refusal = refusal.expect_err("memory is there");
            assert_eq!(refusal.exit_status(), REFUSED);
            assert!(refusal.to_string().contains(remedy), "{refusal}");
        }
        assert_eq!(machine.writes().len(), writes);
    }
}

#[test]
fn what_is_given_back_to_kmem_can_be_destroyed() {
    let machine = ours();
    let under_a_policy = Wanted::Stock(OnlineType::OnlineMovable);
    create(&machine, &request(&["mem0", "mem1"], under_a_policy));
    by_hand(&machine, "dax/drivers/kmem/unbind", "dax0.0");
    by_hand(&machine, "dax/drivers/kmem/bind", "dax0.0");
    destroy(&machine, &["region0"]);
    assert_eq!(machine.violations().len(), 1, "that of the unbind by hand");
}

#[test]
fn decoders_are_not_reset_under_memory_that_came_after_the_plan() {
    let machine = stock();
    create(&machine, &request(&["mem0", "mem1"], Wanted::Nothing));
    let steps = destroy_plan(&machine).unwrap_or_else(|problem| panic!("{problem}"));
    // Somebody else does all that may not be done.
    by_hand(&machine, "cxl/drivers/cxl_region/bind", "region0");
    let_happen(&machine, 2);
    by_hand(&machine, "dax/drivers/kmem/unbind", "dax0.0");
    by_hand(&machine, "cxl/drivers/cxl_region/unbind", "region0");
    let (before, violations) = (looks(&machine), machine.violations());
    let failure =
        transaction::run(&machine, &Interrupt::default(), &steps).expect_err("memory is there");
    assert!(matches!(failure.cause, Cause::Present { .. }), "{failure}");
    assert_eq!(failure.left, Vec::<String>::new());
    assert_same(&before, &looks(&machine), "nothing was changed");
    assert_eq!(machine.violations(), violations);
}

/// A region of ours without drivers, whose memory could not go.
fn left_behind(machine: &Machine) {
    create(machine, &request(&["mem0", "mem1"], KERNEL));
    machine.pin("region0");
    by_hand(
        machine,
        "cxl/drivers/cxl_dax_kmem_region/unbind",
        "sysram_region0",
    );
    by_hand(machine, "cxl/drivers/cxl_sysram_region/unbind", "region0");
}

#[test]
fn memory_that_stayed_behind_is_taken_up_as_it_is() {
    let machine = ours();
    left_behind(&machine);
    let before = looks(&machine);

    let failure = bind(&machine, MOVABLE).expect_err("another policy");
    let told = failure.to_string();
    assert!(told.contains("stayed behind as online_kernel"), "{told}");
    assert!(
        told.contains("cxlr bind region0 --driver sysram --online-type online_kernel"),
        "{told}"
    );
    assert_eq!(failure.left, Vec::<String>::new());
    assert_same(&before, &looks(&machine), "as before");

    let steps = bind_plan(&machine, KERNEL).expect("a plan").steps;
    every_write_fails_once("taking up", &machine, &steps);
    bind(&machine, KERNEL).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(census(&machine, "region0").is(Goal::Plugged(OnlineType::OnlineKernel)));
    machine.unpin("region0");
    destroy(&machine, &["region0"]);
    assert_eq!(machine.violations(), Vec::<String>::new());
}

#[test]
fn memory_that_stayed_behind_and_can_go_by_now_comes_back_otherwise() {
    let machine = ours();
    left_behind(&machine);
    machine.unpin("region0");
    bind(&machine, MOVABLE).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(census(&machine, "region0").is(Goal::Plugged(OnlineType::OnlineMovable)));
}

#[test]
fn a_region_with_memory_that_stayed_behind_is_for_the_region_driver_alone() {
    let machine = ours();
    left_behind(&machine);
    let writes = machine.writes().len();
    let snapshot = Snapshot::read(&machine).expect("a snapshot");
    let goal = Goal::Plugged(OnlineType::OnlineKernel);
    for refusal in [
        destroy_plan(&machine).map(drop),
        bind_plan(&machine, Wanted::StockDefault).map(drop),
        bind_plan(&machine, Wanted::Devdax(DaxMode::Devdax)).map(drop),
        plan::hotplug::plan(&machine, &snapshot, "region0", goal).map(drop),
    ] {
        let refusal = refusal.expect_err("memory stayed behind");
        assert_eq!(refusal.exit_status(), REFUSED);
        let remedy = "cxlr bind region0 --driver sysram";
        assert!(refusal.to_string().contains(remedy), "{refusal}");
    }
    assert_eq!(machine.writes().len(), writes);
}

/// A machine on which something happens in the very moment in which it is read or written somewhere.
struct Moment<Happens: Fn(&Machine, &Path)> {
    machine: Machine,
    happens: Happens,
}

impl<Happens: Fn(&Machine, &Path)> Tree for Moment<Happens> {
    fn read(&self, path: &Path) -> cxl_sysfs::Result<String> {
        (self.happens)(&self.machine, path);
        self.machine.read(path)
    }
    fn write(&self, path: &Path, value: &str) -> cxl_sysfs::Result<()> {
        (self.happens)(&self.machine, path);
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
fn what_was_taken_up_is_left_behind_again_when_that_is_undone() {
    let machine = ours();
    left_behind(&machine);
    let before = looks(&machine);
    let steps = bind_plan(&machine, KERNEL).expect("a plan").steps;
    let interrupt = Interrupt::default();
    let tree = Moment {
        machine,
        // A signal, when all of the device is there.
        happens: |machine: &Machine, path: &Path| {
            if path.ends_with("mapping0/end") && machine.exists(path) {
                interrupt.ask();
            }
        },
    };
    let failure = transaction::run(&tree, &interrupt, &steps).expect_err("a signal");
    assert!(matches!(failure.cause, Cause::Interrupted), "{failure}");
    assert_eq!(failure.left, Vec::<String>::new());
    assert_same(&before, &looks(&tree.machine), "as before");
}

#[test]
fn a_region_to_which_the_fabric_gives_memory_while_it_is_destroyed_stays_as_it_was() {
    let machine = Topology::new()
        .host_bridge("hb0")
        .dynamic_memdev("hb0", 2 * GIB)
        .window(4 * GIB, 256, &["hb0"])
        .region_drivers()
        .build();
    let for_good = Wanted::SysramForGood(OnlineType::OnlineKernel);
    create(&machine, &dynamic_request("mem0", for_good));
    let expected = machine.twin();
    expected.give("region0", 0, GIB / 4, None);
    let steps = destroy_plan(&machine).unwrap_or_else(|problem| panic!("{problem}"));
    let given = Cell::new(false);
    let tree = Moment {
        machine,
        // Memory, when the drivers leave the region, and it is used at once.
        happens: |machine: &Machine, path: &Path| {
            if path.ends_with("cxl_dax_kmem_region/unbind") && !given.replace(true) {
                machine.give("region0", 0, GIB / 4, None);
                machine.pin("region0");
            }
        },
    };
    let failure = transaction::run(&tree, &Interrupt::default(), &steps).expect_err("in use");
    assert!(matches!(failure.cause, Cause::Present { .. }), "{failure}");
    assert_eq!(failure.left, Vec::<String>::new());
    assert_same(&looks(&expected), &looks(&tree.machine), "as before");
}
