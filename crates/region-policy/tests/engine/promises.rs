// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What the engine promises, checked on one run, whatever went wrong in it.

use std::collections::BTreeMap;

use region_policy::blocks::{BlockState, Blocks};
use region_policy::engine::{perform, plug, Error, Failure, Machine, Purpose, Rollback};
use region_policy::journal::{Entry, Journal};
use region_policy::online_type::OnlineType;
use region_policy::request::{OnlineTarget, Request};
use region_policy::state::DeviceState;
use region_policy::transition::{Refusal, Transition};
use region_policy::zone::{ZoneKind, ZoneRule};

use crate::fate::Fate;
use crate::model::{is_within, Call, Model, Refused};

/// What is asked of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A user's request.
    Request(Request),
    /// The first add, when the driver is bound.
    FirstAdd(OnlineType),
}

/// A device before it is asked for anything.
#[derive(Clone, Debug)]
pub struct Device {
    pub ranges: Vec<Blocks>,
    pub states: Vec<BlockState>,
    pub policy: Option<OnlineType>,
    pub last_requested: Option<OnlineType>,
}

impl Device {
    /// Whether the zone guard lets a device come into these states.
    pub fn is_reachable(&self) -> bool {
        let counts = self.states.iter().copied().collect();
        is_within(ZoneRule::from_policy(self.policy), counts)
    }
}

/// How a run ended, in the words of the promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    NothingToDo,
    Refused,
    Done,
    RolledBack,
    Stuck,
}

/// Asks, and checks every promise. At most `adversities` things go wrong.
pub fn keep_promises(device: &Device, ask: Ask, adversities: usize, fate: &mut dyn Fate) -> Ending {
    let rule = ZoneRule::from_policy(device.policy);
    let mut model = Model::new(&device.ranges, &device.states, rule, adversities, fate);
    let before = model.states();
    let mut storage = vec![Entry::UNUSED; Journal::entries_for(model.ranges())];
    let journal = Journal::read(&model, &mut storage).expect("enough storage");

    let answer = match ask {
        Ask::Request(request) => perform(
            &mut model,
            journal,
            request,
            device.last_requested,
            device.policy,
        ),
        Ask::FirstAdd(online_type) => plug(&mut model, journal, online_type)
            .map_err(Error::Failed)
            .map(|counts| region_policy::engine::Outcome {
                transition: Transition::Plug(online_type),
                counts,
                last_requested: Some(online_type),
            }),
    };

    calls_are_few_and_within_the_policy(&model, device.policy);
    only_own_work_is_undone(&model, &before, ask);
    match answer {
        Ok(outcome) => {
            if model.adversities() == 0 {
                assert_eq!(outcome.counts, model.counts(), "the counts are true");
            }
            match outcome.transition {
                Transition::Nothing => {
                    untouched(&model, &before);
                    Ending::NothingToDo
                }
                Transition::Unplug => {
                    assert_eq!(model.counts().absent, model.counts().total());
                    assert_eq!(outcome.counts, model.counts());
                    assert_eq!(outcome.last_requested, None);
                    Ending::Done
                }
                Transition::Plug(online_type) => {
                    all_as_asked(&model, &before, online_type);
                    if model.adversities() == 0 {
                        says_so_and_stays(&model, ask, outcome.last_requested);
                    }
                    Ending::Done
                }
            }
        }
        Err(Error::Refused(refusal)) => {
            assert!(matches!(ask, Ask::Request(Request::Online(_))));
            if let Refusal::Policy { policy, .. } = refusal {
                assert_eq!(device.policy, Some(policy));
            }
            untouched(&model, &before);
            Ending::Refused
        }
        Err(Error::Failed(failure)) => failed(&model, &before, &failure),
    }
}

/// The number of calls depends on the runs of blocks, and of looks on the blocks: neither grows
/// faster than the device. None of them could bring a block into a zone that the policy forbids.
fn calls_are_few_and_within_the_policy(model: &Model<'_>, policy: Option<OnlineType>) {
    let calls = model.calls();
    let blocks = model.counts().total();
    let mut adds = 0;
    let mut removals = BTreeMap::new();
    for call in &calls {
        match call {
            Call::Add(_, online_type) => {
                adds += 1;
                if let (
                    Some(policy @ (OnlineType::OnlineKernel | OnlineType::OnlineMovable)),
                    online_type,
                ) = (policy, *online_type)
                {
                    assert!(
                        [OnlineType::Offline, policy].contains(&online_type),
                        "asked the kernel for {online_type} under the policy {policy}"
                    );
                }
            }
            Call::Remove(_, Purpose::Transition) => *removals.entry("transition").or_insert(0) += 1,
            Call::Remove(_, Purpose::Rollback) => *removals.entry("rollback").or_insert(0) += 1,
        }
    }
    assert!(removals.values().all(|count| *count == 1), "{calls:?}");
    assert!(adds <= 2 * blocks, "{calls:?}");
    assert!(model.reads() <= 7 * blocks, "{} looks", model.reads());
}

/// A rollback takes away only what the transition added. Where the transition itself was a removal, it
/// takes away only what that left offline.
fn only_own_work_is_undone(model: &Model<'_>, before: &BTreeMap<u64, BlockState>, ask: Ask) {
    let calls = model.calls();
    let mut added: Vec<Blocks> = Vec::new();
    for call in &calls {
        match call {
            Call::Add(piece, _) => added.push(*piece),
            Call::Remove(_, Purpose::Transition) => {}
            Call::Remove(pieces, Purpose::Rollback) => {
                for number in pieces.iter().flat_map(|piece| piece.iter()) {
                    let was_online = before[&number].is_online() || model.was_toggled(number);
                    let lost_by_unplug = ask == Ask::Request(Request::Unplug) && was_online;
                    assert!(
                        lost_by_unplug || added.iter().any(|piece| piece.contains(number)),
                        "memory{number} was nobody's to remove: {calls:?}"
                    );
                }
            }
        }
    }
}

/// Nothing was done: what differs was done by others.
fn untouched(model: &Model<'_>, before: &BTreeMap<u64, BlockState>) {
    assert_eq!(model.calls(), []);
    as_before(model, before);
}

fn as_before(model: &Model<'_>, before: &BTreeMap<u64, BlockState>) {
    for (number, now) in model.states() {
        let before = before[&number];
        if !model.was_toggled(number) {
            assert_eq!(now, before, "memory{number}");
        }
        // Others can take a block online and offline; nobody else adds or removes one.
        assert_eq!(now.is_present(), before.is_present(), "memory{number}");
    }
}

/// Every block is as asked for, but for those that somebody toggled after they were.
fn all_as_asked(model: &Model<'_>, before: &BTreeMap<u64, BlockState>, online_type: OnlineType) {
    let mut chosen: Option<ZoneKind> = None;
    for (number, now) in model.states() {
        assert!(now.is_present(), "memory{number} is {now} after success");
        if model.was_toggled_after_it_was_verified(number) {
            continue;
        }
        match (online_type, now) {
            (OnlineType::Offline, now) => {
                if before[&number].is_present() || !model.was_toggled(number) {
                    let wanted = match before[&number] {
                        BlockState::Absent => BlockState::Offline,
                        present => present,
                    };
                    assert_eq!(now, wanted, "memory{number}");
                }
            }
            (OnlineType::Online, BlockState::Online(zone)) => {
                assert_eq!(*chosen.get_or_insert(zone), zone, "memory{number}");
            }
            (OnlineType::OnlineKernel, BlockState::Online(ZoneKind::Kernel))
            | (OnlineType::OnlineMovable, BlockState::Online(ZoneKind::Movable)) => {}
            (online_type, now) => panic!("memory{number} is {now} after {online_type}"),
        }
    }
}

/// The attribute reads what was asked for, and asking again is no change.
fn says_so_and_stays(model: &Model<'_>, ask: Ask, last_requested: Option<OnlineType>) {
    let counts = model.counts();
    let state = DeviceState::observe(counts, last_requested);
    let Ask::Request(request @ Request::Online(target)) = ask else {
        return;
    };
    match target {
        OnlineTarget::Online => assert!(
            matches!(state, DeviceState::Online | DeviceState::OnlineMovable),
            "{state:?}"
        ),
        OnlineTarget::OnlineKernel => assert_eq!(state, DeviceState::OnlineKernel),
        OnlineTarget::OnlineMovable => assert_eq!(state, DeviceState::OnlineMovable),
    }
    assert_eq!(
        region_policy::transition::decide(counts, last_requested, request, None),
        Ok(Transition::Nothing)
    );
}

/// A failure has a reason, and either everything is what it was, or the answer says that it is not.
/// One thing going wrong is never enough for the latter.
fn failed(
    model: &Model<'_>,
    before: &BTreeMap<u64, BlockState>,
    failure: &Failure<Refused>,
) -> Ending {
    assert_ne!(model.adversities(), 0, "failed for no reason: {failure:?}");
    match failure.rollback {
        Rollback::RolledBack => {
            as_before(model, before);
            Ending::RolledBack
        }
        Rollback::Stuck(counts) => {
            assert!(
                model.adversities() > 1,
                "one adversity must always be undone: {failure:?}"
            );
            assert_eq!(counts.total(), model.counts().total());
            assert_eq!(counts.absent, model.counts().absent);
            Ending::Stuck
        }
    }
}
