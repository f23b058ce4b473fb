// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds after every operation, whoever did it and however it ended.

use std::fmt;

use region_policy::blocks::BlockState;
use region_policy::census::BlockCounts;
use region_policy::dax_mode::DaxMode;
use region_policy::online_type::OnlineType;
use region_policy::request::OnlineTarget;
use region_policy::request::Request;
use region_policy::state::Vocabulary;
use region_policy::zone::ZoneRule;

use crate::operation::Answer;
use crate::operation::Driver;
use crate::operation::File;
use crate::operation::Operation;
use crate::operation::Program;
use crate::scene::Dax;
use crate::scene::Devdax;
use crate::scene::Scene;
use crate::scene::Spot;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// How that shows.
    pub evidence: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.promise, self.evidence)
    }
}

/// What has to be remembered from step to step to judge the next one.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    places: Vec<Memory>,
    /// Whether blocks may not go online at the moment, which a rollback may need.
    online_fault: bool,
}

/// What is remembered of a place.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// The policy under which the memory came, for as long as any of it is there.
    policy: Option<OnlineType>,
    /// Whether somebody works on single blocks of the device.
    meddled: bool,
}

type Verdict = Result<(), Broken>;

/// One step of a walk, as it ended.
#[derive(Debug, Clone, Copy)]
pub struct Step<'s> {
    /// What was done.
    pub operation: &'s Operation,
    /// What came of it.
    pub answer: &'s Answer,
    /// Whether others were at work on the same blocks meanwhile, or several things failed at once. Then neither a rollback
    /// nor a count of what was done can be held to its word, and the answer says which of them failed.
    pub disturbed: bool,
}

impl Step<'_> {
    fn failed(&self) -> bool {
        matches!(self.answer, Answer::Refused(_) | Answer::Failed(_))
    }
}

impl Judge {
    /// Judges one step by what there was before and after it.
    ///
    /// # Errors
    /// The first promise that does not hold.
    pub fn judge(&mut self, before: &Scene, step: Step<'_>, after: &Scene) -> Verdict {
        let Step {
            operation, answer, ..
        } = step;
        self.places.resize(after.places.len(), Memory::default());
        let excused = self.rollback_may_fail(&step);
        if !excused {
            a_refusal_changes_nothing(before, operation, answer, after)?;
        }
        data_and_addresses_stay(after)?;
        modules_take_no_region(before, operation, after)?;
        for (place, (was, is)) in before.places.iter().zip(&after.places).enumerate() {
            let memory = &mut self.places[place];
            memory.note(place, &step, excused, is);
            let judged = new_memory_has_a_master(was, is, excused && step.failed())
                .and_then(|()| memory.zones_are_kept(is))
                .and_then(|()| memory.the_whole_or_nothing(was, is))
                .and_then(|()| attributes_tell_the_truth(is))
                .and_then(|()| memory.decoders_stay(is))
                .and_then(|()| what_applications_map_is_no_ram(is));
            judged.map_err(|broken| Broken {
                evidence: format!("place {place}, {}", broken.evidence),
                ..broken
            })?;
            memory.forget(is);
        }
        if !step.disturbed {
            success_is_counted(operation, answer, after)?;
        }
        self.note_faults(operation, answer);
        Ok(())
    }

    /// Taking memory away may fail half way, and then blocks have to be brought back. Where that is refused as well, nobody can
    /// help; the answer and the log say so. Bringing memory up has no such excuse: what came is only to be removed again.
    fn rollback_may_fail(&self, step: &Step<'_>) -> bool {
        step.disturbed
            || self.online_fault
                && match step.operation {
                    // These are not refused, whatever stays behind.
                    Operation::Write(File::Unbind(..) | File::Delete(_), _) | Operation::GoHome => {
                        true
                    }
                    other => step.failed() && takes_memory_away(other),
                }
    }

    fn note_faults(&mut self, operation: &Operation, answer: &Answer) {
        match (operation, answer) {
            (Operation::Write(File::OnlineFault, word), Answer::Done) => {
                self.online_fault = word != "0";
            }
            (Operation::GoHome, _) => self.online_fault = false,
            _ => {}
        }
    }
}

impl Memory {
    fn note(&mut self, place: usize, step: &Step<'_>, excused: bool, is: &Spot) {
        let handed_back = matches!(
            (step.operation, step.answer),
            (Operation::Run(Program::HandBack(at)), Answer::Done) if usize::from(*at) == place
        );
        if is.policy_in_force().is_some() || handed_back {
            self.policy = is.policy_in_force();
        }
        self.meddled |= excused
            || match step.operation {
                Operation::Write(File::Block(at, _), _) => usize::from(*at) == place,
                Operation::Run(program) => {
                    program.goes_block_by_block() && usize::from(program.place()) == place
                }
                _ => false,
            };
    }

    fn forget(&mut self, is: &Spot) {
        if is.is_uniform() {
            self.meddled = false;
        }
        if is.is_empty() && is.policy_in_force().is_none() {
            self.policy = None;
        }
    }

    fn zones_are_kept(self, is: &Spot) -> Verdict {
        let counts = is.counts();
        let kept = match ZoneRule::from_policy(self.policy) {
            ZoneRule::Any => true,
            ZoneRule::KernelOnly => counts.movable == 0,
            ZoneRule::MovableOnly => counts.kernel == 0,
            ZoneRule::OneZone => counts.kernel == 0 || counts.movable == 0,
        };
        hold(
            kept,
            "no block enters a zone that the policy forbids",
            || format!("policy {:?}, {counts}", self.policy),
        )
    }

    fn the_whole_or_nothing(self, was: &Spot, is: &Spot) -> Verdict {
        let may_differ = self.meddled || !was.is_uniform();
        hold(
            may_differ || is.is_uniform(),
            "a device changes as a whole or not at all",
            || format!("{} became {}", was.counts(), is.counts()),
        )
    }

    /// The stock drivers keep their regions unlocked.
    fn decoders_stay(self, is: &Spot) -> Verdict {
        let Some(region) = is.region.as_ref().filter(|_| self.policy.is_some()) else {
            return Ok(());
        };
        // A region that lost one of several targets is not committed any more, and its driver has left it; but the lock keeps
        // the decoders as they are.
        let kept = region.locked && (region.committed || region.driver.is_none());
        hold(
            is.counts().online() == 0 || kept,
            "decoders stay while memory is online",
            || format!("{} under {region:?}", is.counts()),
        )
    }
}

fn hold(holds: bool, promise: &'static str, evidence: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Broken {
            promise,
            evidence: evidence(),
        })
    }
}

/// Modules that come take no region, and none that has a region goes.
fn modules_take_no_region(before: &Scene, operation: &Operation, after: &Scene) -> Verdict {
    if *operation != Operation::Reload {
        return Ok(());
    }
    let drivers = |scene: &Scene| -> Vec<_> {
        let regions = scene.places.iter().map(|spot| spot.region.as_ref());
        regions
            .map(|region| {
                let region = region?;
                let sysram = region.sysram.as_ref().map(|sysram| sysram.bound);
                let devdax = region.devdax.as_ref().map(|devdax| devdax.bound);
                Some((region.driver.clone(), sysram, devdax))
            })
            .collect()
    };
    let (were, are) = (drivers(before), drivers(after));
    hold(
        were == are,
        "modules come and go without taking or losing a region",
        || format!("{were:?} became {are:?}"),
    )
}

fn takes_memory_away(operation: &Operation) -> bool {
    let unplugs = |vocabulary: Vocabulary, word: &String| {
        vocabulary.parse(word.as_bytes()) == Ok(Request::Unplug)
    };
    match operation {
        Operation::Write(File::State(_), word) | Operation::Run(Program::Plug(_, word)) => {
            unplugs(Vocabulary::State, word)
        }
        Operation::Write(File::Hotplug(_), word) => unplugs(Vocabulary::Hotplug, word),
        // What an earlier binding left behind goes first.
        Operation::Write(File::Bind(Driver::Sysram, _), _) => true,
        Operation::Run(program) => {
            matches!(
                program,
                Program::Destroy(_)
                    | Program::HandToSysram(..)
                    | Program::HandToDevdax(..)
                    | Program::HandBack(_)
            ) || program.goes_block_by_block()
        }
        _ => false,
    }
}

/// Memory appears only where kmem has the device, and below a region driver only once the policy was chosen. A bind whose
/// rollback failed as well leaves memory `behind`.
fn new_memory_has_a_master(was: &Spot, is: &Spot, behind: bool) -> Verdict {
    let appeared = is.blocks.iter().enumerate().any(|(number, block)| {
        let before = was.blocks.get(number).copied();
        block.is_present() && !before.is_some_and(BlockState::is_present)
    });
    // A region that is seen for the first time has no blocks to compare with.
    let comparable = was.blocks.len() == is.blocks.len();
    hold(
        !(appeared && comparable) || behind || is.has_kmem(),
        "no memory appears without its driver",
        || format!("{} became {}", was.counts(), is.counts()),
    )?;
    let sysram = is.region.as_ref().and_then(|region| region.sysram.as_ref());
    let waits = sysram.is_some_and(|sysram| sysram.policy.is_none());
    hold(
        !waits || is.is_empty(),
        "no page is online before the policy was set",
        || is.counts().to_string(),
    )
}

fn attributes_tell_the_truth(is: &Spot) -> Verdict {
    let dax = is.region.as_ref().and_then(|region| region.dax.as_ref());
    let Some(dax) = dax.filter(|dax| dax.driver.as_deref() == Some("kmem")) else {
        return Ok(());
    };
    for (vocabulary, word) in [
        (Vocabulary::State, &dax.state),
        (Vocabulary::Hotplug, &dax.hotplug),
    ] {
        let true_words = Dax::words(is.counts(), vocabulary);
        let said = word.as_deref().unwrap_or("nothing");
        hold(
            true_words.contains(&said),
            "what is read is what the blocks are",
            || {
                format!(
                    "{} reads '{said}' over {}",
                    vocabulary.attribute(),
                    is.counts()
                )
            },
        )?;
    }
    Ok(())
}

/// Other hosts may share it.
fn what_applications_map_is_no_ram(is: &Spot) -> Verdict {
    let region = is.region.as_ref();
    let mapped = region.is_some_and(|region| {
        region.driver.as_deref() == Some("cxl_devdax_region") || region.devdax.is_some()
    });
    hold(
        !mapped || is.is_empty() && !is.has_kmem(),
        "what applications map is no System RAM",
        || format!("{} under {region:?}", is.counts()),
    )?;
    let reachable = is.devdax().is_some_and(|devdax| devdax.bound) && is.dax_driver().is_some();
    hold(
        !reachable || region.is_some_and(|region| region.committed && region.locked),
        "decoders stay while applications may map what is behind them",
        || format!("{region:?}"),
    )
}

fn data_and_addresses_stay(after: &Scene) -> Verdict {
    hold(after.data_intact, "no data is lost", || {
        "what was stored on the node is not what is read".into()
    })?;
    hold(
        after.strays.is_empty(),
        "no memory without a region",
        || format!("blocks {:?}", after.strays),
    )
}

/// A request that was refused, and a command of our tool that failed, leave everything as it was.
fn a_refusal_changes_nothing(
    before: &Scene,
    operation: &Operation,
    answer: &Answer,
    after: &Scene,
) -> Verdict {
    let refused = match (operation, answer) {
        (Operation::Write(..), Answer::Refused(_)) | (_, Answer::Absent) => true,
        // 3: it failed and could not undo it all, and has said so.
        (Operation::Run(program), Answer::Failed(status)) => program.is_ours() && *status != 3,
        _ => false,
    };
    if !refused {
        return Ok(());
    }
    let (was, is) = (comparable(before), comparable(after));
    hold(was == is, "what was refused changed nothing", || {
        format!("{was:?} became {is:?}")
    })
}

/// A scene without what a failed attempt may change although nothing was changed: what was asked for last chooses between
/// two names for a kernel zone.
fn comparable(scene: &Scene) -> Scene {
    let mut scene = scene.clone();
    for spot in &mut scene.places {
        let dax = spot.region.as_mut().and_then(|region| region.dax.as_mut());
        if let Some(dax) = dax {
            for word in [&mut dax.state, &mut dax.hotplug].into_iter().flatten() {
                if word == "online_kernel" {
                    "online".clone_into(word);
                }
            }
        }
        // The addresses of a region that is gone are not those of the next one.
        if spot.region.is_none() && spot.is_empty() {
            spot.blocks.clear();
        }
    }
    scene
}

/// What the kernel or our tool calls done is done, block by block.
fn success_is_counted(operation: &Operation, answer: &Answer, after: &Scene) -> Verdict {
    if *answer != Answer::Done {
        return Ok(());
    }
    let promise = "what is called done is done";
    let (place, wanted) = match operation {
        Operation::Write(File::Hotplug(place), word) => {
            (place, Vocabulary::Hotplug.parse(word.as_bytes()).ok())
        }
        Operation::Write(File::State(place), word) | Operation::Run(Program::Plug(place, word)) => {
            (place, Vocabulary::State.parse(word.as_bytes()).ok())
        }
        Operation::Write(File::Bind(Driver::DaxKmem, place), _)
        | Operation::Run(Program::Create(place, _) | Program::HandToSysram(place, _)) => {
            let spot = after.places.get(usize::from(*place));
            let policy = spot.and_then(Spot::policy_in_force);
            let counts = spot.map(Spot::counts).unwrap_or_default();
            return hold(
                policy.is_some_and(|policy| is_as_the_policy_says(policy, counts)),
                promise,
                || format!("place {place}, {counts} under the policy {policy:?}"),
            );
        }
        Operation::Write(File::Bind(Driver::DaxDevice, place) | File::DaxMode(place), _)
        | Operation::Run(Program::CreateDevdax(place, _) | Program::HandToDevdax(place, _)) => {
            let spot = after.places.get(usize::from(*place));
            return hold(
                spot.is_some_and(|spot| is_with_the_driver_of_its_mode(spot, operation)),
                promise,
                || format!("place {place}, {spot:?}"),
            );
        }
        Operation::Run(Program::HandBack(place)) => {
            let region = after
                .places
                .get(usize::from(*place))
                .and_then(|spot| spot.region.as_ref());
            return hold(
                region.is_some_and(|region| region.driver.as_deref() == Some("cxl_region")),
                promise,
                || format!("place {place}, {region:?}"),
            );
        }
        Operation::Run(Program::Destroy(place)) => {
            let spot = after.places.get(usize::from(*place));
            return hold(
                spot.is_some_and(|spot| spot.region.is_none()),
                promise,
                || format!("place {place} still has a region"),
            );
        }
        _ => return Ok(()),
    };
    let counts = after
        .places
        .get(usize::from(*place))
        .map(Spot::counts)
        .unwrap_or_default();
    let as_asked = wanted.is_some_and(|wanted| is_as_asked(wanted, counts));
    hold(as_asked, promise, || {
        format!("place {place}, {counts} after {operation}")
    })
}

/// A mode that is written before the driver is there only waits for it.
fn is_with_the_driver_of_its_mode(spot: &Spot, operation: &Operation) -> bool {
    let Some(Devdax { mode, bound }) = spot.devdax() else {
        return false;
    };
    let asked = match operation {
        Operation::Write(File::DaxMode(_), word)
        | Operation::Run(Program::CreateDevdax(_, word) | Program::HandToDevdax(_, word)) => {
            DaxMode::parse(word.as_bytes())
        }
        _ => *mode,
    };
    let waits = !bound && matches!(operation, Operation::Write(File::DaxMode(_), _));
    let reached = spot.dax_driver() == mode.map(DaxMode::driver);
    mode.is_some() && asked == *mode && (waits || *bound && reached)
}

fn is_as_asked(request: Request, counts: BlockCounts) -> bool {
    match request {
        Request::Unplug => counts.absent == counts.total(),
        Request::Online(OnlineTarget::Online) => {
            counts.kernel == counts.total() || counts.movable == counts.total()
        }
        Request::Online(OnlineTarget::OnlineKernel) => counts.kernel == counts.total(),
        Request::Online(OnlineTarget::OnlineMovable) => counts.movable == counts.total(),
    }
}

/// Memory that was left behind is taken up as it is, within its policy: it need not be whole.
fn is_as_the_policy_says(policy: OnlineType, counts: BlockCounts) -> bool {
    match policy {
        OnlineType::Offline => counts.absent == 0,
        OnlineType::Online => counts.absent == 0 && (counts.kernel == 0 || counts.movable == 0),
        OnlineType::OnlineKernel => counts.absent == 0 && counts.movable == 0,
        OnlineType::OnlineMovable => counts.absent == 0 && counts.kernel == 0,
    }
}

/// Whether a place may be asked to be empty: memory that the kernel uses itself need not come back.
#[must_use]
pub fn can_be_emptied(spot: &Spot) -> bool {
    spot.counts().kernel == 0
}
