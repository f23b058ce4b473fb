// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan for plugging and unplugging dax devices.

use cxl_sysfs::Goal;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::dax::DaxDevice;
use cxl_sysfs::memory::Census;
use cxl_sysfs::region::Region;
use region_policy::census::BlockCounts;
use region_policy::online_type::OnlineType;
use region_policy::state::Vocabulary;
use region_policy::transition;

use super::Action;
use super::Devices;
use super::Step;
use super::destroy;
use crate::problem::Problem;
use crate::problem::Refusal;

/// How a device's state is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// kmem changes the whole device at once, through this attribute.
    Whole(Vocabulary),
    /// kmem knows blocks only: the tool takes them offline one by one, and lets kmem take the device to bring them online.
    Blocks,
}

impl Mechanism {
    /// The best that the device offers.
    #[must_use]
    pub fn of(device: &DaxDevice) -> Self {
        if device.state.is_some() {
            Self::Whole(Vocabulary::State)
        } else if device.hotplug.is_some() {
            Self::Whole(Vocabulary::Hotplug)
        } else {
            Self::Blocks
        }
    }

    /// How it is told to the user.
    #[must_use]
    pub fn detected(self, device: &str) -> String {
        match self {
            Self::Whole(vocabulary) => {
                format!(
                    "{device}/{}: the kernel changes the whole device in one step",
                    vocabulary.attribute()
                )
            }
            Self::Blocks => format!(
                "{device} has neither state nor hotplug: its blocks go offline one by one, with rollback; \
                 they come online together, when kmem takes the device"
            ),
        }
    }
}

/// What will be written, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The devices, and how each is changed.
    pub devices: Vec<(String, Mechanism)>,
    /// The steps; none when all is as it shall be.
    pub steps: Vec<Step>,
}

/// Plans to bring a region's dax devices, or one dax device, to a goal.
///
/// # Errors
/// When there is no such region or device, when it is not system RAM, or when the kernel has no word for the goal.
pub fn plan(tree: &dyn Tree, snapshot: &Snapshot, name: &str, goal: Goal) -> Result<Plan, Problem> {
    let devices = find(snapshot, name)?;
    let mut plan = Plan {
        devices: Vec::new(),
        steps: Vec::new(),
    };
    for device in devices {
        let mechanism = Mechanism::of(device);
        check(snapshot, device, mechanism, goal)?;
        check_policy(snapshot, device, goal)?;
        let census = device.census(tree, block_size(snapshot)?)?;
        plan.devices.push((device.name.clone(), mechanism));
        plan.steps.extend(steps(snapshot, device, &census, goal));
    }
    Ok(plan)
}

/// The size of a memory block.
///
/// # Errors
/// When memory cannot be hot-plugged here.
pub fn block_size(snapshot: &Snapshot) -> Result<u64, Refusal> {
    snapshot.block_size.ok_or_else(|| {
        Refusal::new(
            "this kernel has no memory hotplug",
            "system RAM from CXL needs it",
            "use a kernel with CONFIG_MEMORY_HOTPLUG",
        )
        .at(cxl_sysfs::memory::MEMORY)
    })
}

fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Result<Vec<&'a DaxDevice>, Refusal> {
    if let Some(device) = snapshot
        .dax_devices
        .iter()
        .find(|device| device.name == name)
    {
        return Ok(vec![device]);
    }
    let devices: Vec<&DaxDevice> = snapshot
        .dax_devices_of(name)
        // The dax bus keeps one without memory in a region whose memory comes and goes.
        .filter(|device| device.size > 0)
        .collect();
    if !devices.is_empty() {
        return Ok(devices);
    }
    Err(match snapshot.region(name) {
        Some(region) if destroy::is_dynamic(snapshot, region) => Refusal::new(
            format!("{name} has no memory now"),
            "a region over dynamic capacity has the memory that the fabric gives to it",
            format!("wait for some: cxlr monitor; or look at what {name} has: cxlr extents {name}"),
        ),
        Some(region) => Refusal::new(
            format!("{name} has no dax device"),
            format!(
                "a region's memory is plugged through the dax device that its driver creates ({name} has {})",
                region.driver.as_deref().unwrap_or("no driver")
            ),
            format!("cxlr bind {name} --driver sysram"),
        ),
        None => Refusal::new(
            format!("there is no region and no dax device {name}"),
            "memory is plugged by region (region0) or by dax device (dax0.0)",
            "look at cxlr list",
        ),
    })
}

fn check(
    snapshot: &Snapshot,
    device: &DaxDevice,
    mechanism: Mechanism,
    goal: Goal,
) -> Result<(), Refusal> {
    if let Some(driver) = device.driver.as_deref().filter(|driver| *driver != "kmem") {
        return Err(Refusal::new(
            format!("{} is not system RAM", device.name),
            format!("it is with {driver}, whose users map it themselves"),
            match region_of(snapshot, device).filter(|region| region.devdax.is_some()) {
                Some(region) => {
                    format!("destroy {} and create it with --driver sysram", region.name)
                }
                None => format!(
                    "close its users, then: daxctl reconfigure-device -m system-ram {}",
                    device.name
                ),
            },
        ));
    }
    if device.ranges.is_empty() {
        return Err(Refusal::new(
            format!("the ranges of {} cannot be read", device.name),
            "only root may see physical addresses",
            "run it as root",
        ));
    }
    if let Mechanism::Whole(vocabulary) = mechanism
        && goal.word(vocabulary).is_none()
    {
        let words: Vec<&str> = vocabulary
            .requests()
            .iter()
            .map(|(word, _)| *word)
            .collect();
        return Err(Refusal::new(
            format!("{} cannot be made {goal}", device.name),
            format!(
                "its {} attribute takes {}",
                vocabulary.attribute(),
                words.join(", ")
            ),
            "choose one of these",
        )
        .at(DaxDevice::folder(&device.name)
            .join(vocabulary.attribute())
            .display()
            .to_string()));
    }
    Ok(())
}

fn region_of<'a>(snapshot: &'a Snapshot, device: &DaxDevice) -> Option<&'a Region> {
    snapshot.region(device.region()?)
}

/// A region's policy may forbid the goal; better to hear it now than after its memory was unplugged.
fn check_policy(snapshot: &Snapshot, device: &DaxDevice, goal: Goal) -> Result<(), Refusal> {
    let policy = region_of(snapshot, device)
        .and_then(|region| region.sysram.as_ref())
        .and_then(|sysram| sysram.online_type);
    let (Some(request), Some(policy)) = (goal.request(), policy) else {
        return Ok(());
    };
    let unplugged = BlockCounts {
        absent: 1,
        ..BlockCounts::default()
    };
    match transition::decide(unplugged, None, request, Some(policy)) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new(
            format!("{} cannot be made {goal}", device.name),
            format!(
                "the policy of its region is {policy}, and keeps its memory out of other zones"
            ),
            format!(
                "ask for {policy}, or destroy the region and create it with another --online-type"
            ),
        )),
    }
}

/// The steps for one device: through `unplugged`, since memory never changes its zone while it is online.
fn steps(snapshot: &Snapshot, device: &DaxDevice, census: &Census, goal: Goal) -> Vec<Step> {
    let reach = |goal| Action::Reach {
        devices: Devices::Named(device.name.clone()),
        goal,
    };
    let mut steps = Vec::new();
    if census.is(goal) {
        return steps;
    }
    if census.present() > 0 {
        let before = before(snapshot, device, census);
        steps.push(
            Step::new(format!("unplug {}", device.name), reach(Goal::Unplugged))
                .undone_by(vec![reach(before)]),
        );
    }
    if let Goal::Plugged(online_type) = goal {
        steps.push(
            Step::new(format!("bring {} {online_type}", device.name), reach(goal))
                .undone_by(vec![reach(Goal::Unplugged)])
                .even_if_it_fails(),
        );
    }
    let devices = Devices::Named(device.name.clone());
    steps.push(Step::new(
        format!("find all memory of {} {goal}", device.name),
        Action::Verify { devices, goal },
    ));
    steps
}

/// What a device is, as the goal that an undoing goes back to: its region's policy or kmem's own word where the blocks bear
/// it out, else what the blocks are. A mixed device goes back to the policy, or else to the zone that most of it was in.
#[must_use]
pub fn before(snapshot: &Snapshot, device: &DaxDevice, census: &Census) -> Goal {
    let sysram = region_of(snapshot, device).and_then(|region| region.sysram.as_ref());
    let policy = sysram
        .and_then(|sysram| sysram.online_type)
        .map(Goal::Plugged);
    let word = device.state.as_deref().or(device.hotplug.as_deref());
    let kernel = Goal::Plugged(OnlineType::OnlineKernel);
    // kmem may be out of date: memory of which it says "online" may be in the movable zone by now, and would not come
    // back there.
    let online = |goal: &Goal| *goal != Goal::Plugged(OnlineType::Online) || census.is(kernel);
    let kmem_says = word.and_then(|word| word.parse().ok()).filter(online);
    let exact = [
        Goal::Unplugged,
        Goal::Plugged(OnlineType::Offline),
        Goal::Plugged(OnlineType::OnlineMovable),
        kernel,
    ];
    let candidates = policy.into_iter().chain(kmem_says).chain(exact);
    let most = || {
        let zone = census
            .online
            .iter()
            .max_by_key(|(_, blocks)| **blocks)
            .map(|(zone, _)| zone);
        let kind = zone.and_then(|zone| cxl_sysfs::memory::zone_kind(zone));
        Goal::Plugged(kind.map_or(OnlineType::Offline, OnlineType::in_zone))
    };
    candidates
        .into_iter()
        .find(|goal| census.is(*goal))
        .or(policy)
        .unwrap_or_else(most)
}
