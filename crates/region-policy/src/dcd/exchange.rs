// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The order between host and device: every group of extents that the fabric offers gets one answer, in the
//! order of the offers, and no answer is given that nobody waits for.
//!
//! An offer is a chain of event records; all but the last say that more follow. When it is closed, the
//! group is decided on and answered before the next record is looked at. Answers carry no name: the device
//! takes each for the oldest offer that waits. So the host must see every offer, and cannot be sure that it
//! did: the event log may overflow, a chain may stall, an answer may get lost on its way. Whenever
//! something of that kind happened the host is *in doubt*, and asks the device how many extents wait for an
//! answer before it gives one. It stops doubting when the log was empty and nothing waited.
//!
//! The caller takes the events to it one by one, and does what [`Exchange::duty`] tells until that is
//! [`Duty::Nothing`]:
//!
//! ```text
//! loop {
//!     read a page of the log
//!     for each record { record(); do the duties }
//!     call overflowed() if the page says so: what was lost is later than its records; clear the page
//!     at an empty page { drained(); do the duties; stop unless the duty is to read again }
//! }
//! ```

use core::ops::DerefMut;

use super::admission::{area_of, Area, Refusal};
use super::event::{Event, Kind};
use super::holdings::{Entry, Holdings, Phase, Reply, Set};
use crate::extent::{Extent, Tag};

/// How long the records of one group may take to come, in milliseconds.
pub const PATIENCE: u64 = 5_000;

/// How many offers that were never seen are refused before the exchange is left for another time: a device
/// that always has one more would keep the host busy for ever.
const ENDURANCE: u16 = 1024;

/// What has to be done before the next event is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Nothing.
    Nothing,
    /// Ask the device how many extents wait for an answer, then call [`Exchange::standing`].
    Standing,
    /// Accept [`Exchange::accepting`], then call [`Exchange::answered`].
    Accept,
    /// Refuse the oldest offer, then call [`Exchange::answered`].
    Refuse,
    /// Read the log once more, to its end.
    ReadLog,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The group is not complete.
    Collecting,
    /// The group is complete and decided on: so many extents will be accepted, and so many not, the first
    /// of them for this reason.
    Decided {
        /// How many will be accepted.
        accepted: usize,
        /// How many will not, and why the first of them.
        refused: Option<(usize, Refusal)>,
    },
    /// The host is giving back what it has there.
    WantedBack,
    /// The fabric wants something back that the host does not have.
    NotHeld(Extent),
    /// The fabric took something without asking.
    Lost {
        /// What.
        extent: Extent,
        /// Whether the host still has it as memory.
        in_use: bool,
    },
    /// The device's regions changed.
    Reconfigured,
    /// It says nothing that could be acted upon.
    Unreadable,
}

/// The records of an offer that is not complete.
#[derive(Clone, Copy, Debug)]
struct Chain {
    /// When the first of them came, in milliseconds.
    since: u64,
    tag: Option<Tag>,
    /// How many there were.
    records: usize,
    /// Why the group cannot be accepted, if that is known already.
    fault: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is to be answered.
    Quiet,
    /// A complete group of so many extents is to be answered.
    Answering { accept: bool, group: u32 },
    /// The device did not accept the acceptance: it was for an older offer, which has to go first.
    InTheWay { group: u32 },
    /// The log is empty. What still waits for an answer was never seen, unless it came just now.
    Auditing,
    /// The log has to be read again: there may be records of what waits for an answer.
    Rereading,
}

/// One device's side of the exchange, and the host's.
// Each is about something of its own, and nearly all combinations occur.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug)]
pub struct Exchange<S> {
    holdings: Holdings<S>,
    chain: Option<Chain>,
    state: State,
    /// Whether the device said that an answer is waited for, since the state was entered.
    waited_for: bool,
    in_doubt: bool,
    /// The rest of a group that was given up may still come.
    remainder: bool,
    /// Something waited for an answer when the log was empty, and no event has come since.
    unexplained: bool,
    /// Events have come since the log was empty. The device forgets that it lost some as soon as there is room in its
    /// log again.
    heard: bool,
    /// An offer that was told of as refused may still wait for its answer.
    told: bool,
    /// So does this group, which was given up: what comes of it late must not be taken for another group.
    given_up: Option<Chain>,
    /// How many offers were refused that were never seen.
    unseen: u16,
    /// Events were lost after those that are in the log.
    overflowed: bool,
    /// What the device counts as the host's may not be what the host has.
    unbalanced: bool,
}

impl<S: DerefMut<Target = [Entry]>> Exchange<S> {
    /// Begins with a device of which nothing is known; `storage` is for the extents.
    pub const fn new(storage: S) -> Self {
        Self {
            holdings: Holdings::new(storage),
            chain: None,
            state: State::Quiet,
            waited_for: false,
            // Somebody before us may have left offers without an answer.
            in_doubt: true,
            remainder: false,
            unexplained: false,
            heard: false,
            told: false,
            given_up: None,
            unseen: 0,
            overflowed: false,
            unbalanced: true,
        }
    }

    /// What the host has.
    pub const fn holdings(&self) -> &Holdings<S> {
        &self.holdings
    }

    /// What the host has, to work on.
    pub const fn holdings_mut(&mut self) -> &mut Holdings<S> {
        &mut self.holdings
    }

    /// Takes an event. `areas` are the regions that our drivers hold over the device, and `tag_elsewhere`
    /// tells whether another device has extents of a tag; `now` is in milliseconds.
    pub fn record(
        &mut self,
        event: &Event,
        areas: &[Area],
        tag_elsewhere: impl Fn(Tag) -> bool,
        now: u64,
    ) -> Outcome {
        if self.state != State::Quiet {
            // The duties were not done. What was to be answered is not known any more.
            self.abandon();
        }
        self.unexplained = false;
        self.heard = true;
        let Event::Capacity { kind, extent, more } = *event else {
            return Outcome::Reconfigured;
        };
        match (kind, extent) {
            (Kind::Add, extent) => {
                self.collect(extent, now);
                if more {
                    Outcome::Collecting
                } else {
                    self.close(areas, tag_elsewhere)
                }
            }
            (Kind::Release, Some(extent)) => {
                self.withdraw(extent);
                if self.holdings.want_back(extent.span, now) {
                    Outcome::WantedBack
                } else {
                    Outcome::NotHeld(extent)
                }
            }
            (Kind::ForcedRelease, Some(extent)) => {
                self.withdraw(extent);
                Outcome::Lost {
                    extent,
                    in_use: self.holdings.lose(extent.span, now),
                }
            }
            (Kind::Release | Kind::ForcedRelease, None) => Outcome::Unreadable,
        }
    }

    /// The log is full: events were lost that are later than those in it.
    pub const fn overflowed(&mut self) {
        self.overflowed = true;
    }

    /// The log was read to its end. Returns why an unfinished group was given up, if one was.
    pub fn drained(&mut self) -> Option<Refusal> {
        let lost = core::mem::take(&mut self.overflowed);
        let given_up = lost.then(|| self.give_up(Refusal::EventsLost)).flatten();
        self.in_doubt |= lost | core::mem::take(&mut self.heard);
        // An unfinished group waits for an answer and is not to be taken for one that was not seen.
        let audit = self.in_doubt && self.chain.is_none();
        self.enter(if audit { State::Auditing } else { State::Quiet });
        given_up
    }

    /// When the group that is not complete has to be given up, in milliseconds.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.chain.map(|chain| chain.since.saturating_add(PATIENCE))
    }

    /// Gives up a group that is overdue at `now`. Read the log to its end before, and do the duties after.
    pub fn expire(&mut self, now: u64) -> Option<Refusal> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let given_up = self.give_up(Refusal::Stalled);
        self.in_doubt = true;
        self.remainder = true;
        self.enter(State::Auditing);
        given_up
    }

    /// Look after everything again, at the next end of the log: after a failure to read it, before what the host has from
    /// earlier becomes memory, or once in a while. Until then the device is asked before each answer.
    pub const fn doubt(&mut self) {
        self.in_doubt = true;
        self.unbalanced = true;
    }

    /// Whether the extents that the device lists have to be compared with those that the host has; once
    /// it was asked, that is taken to be done.
    pub const fn is_unbalanced(&mut self) -> bool {
        let holes = self.holdings.take_holes();
        core::mem::replace(&mut self.unbalanced, false) || holes
    }

    /// What has to be done.
    #[must_use]
    pub fn duty(&self) -> Duty {
        match self.state {
            State::Quiet => Duty::Nothing,
            State::Rereading => Duty::ReadLog,
            _ if self.in_doubt && !self.waited_for => Duty::Standing,
            State::Answering { accept: true, .. } => Duty::Accept,
            State::Answering { accept: false, .. } | State::InTheWay { .. } | State::Auditing => {
                Duty::Refuse
            }
        }
    }

    /// The extents to accept, in the order of the offer.
    pub fn accepting(&self) -> impl Iterator<Item = Extent> + '_ {
        self.holdings.offered().map(Entry::extent)
    }

    /// Tells how many extents wait for an answer, as the device counts them.
    pub fn standing(&mut self, pending: u32) {
        let needed = match self.state {
            State::Answering { group, .. } => group,
            _ => 1,
        };
        self.waited_for = pending >= needed;
        if self.state == State::Auditing {
            let explained = !core::mem::replace(&mut self.unexplained, self.waited_for);
            if self.waited_for && explained {
                self.enter(State::Rereading);
                return;
            }
            self.in_doubt = self.waited_for || self.remainder;
            if !self.waited_for {
                self.told = false;
                self.given_up = None;
            }
        }
        if self.waited_for {
            return;
        }
        self.unseen = 0;
        // Nobody waits for the answer: the offer was refused when it was not known yet.
        self.drop_offer();
        self.enter(State::Quiet);
    }

    /// Tells how the device took the answer. `now` is in milliseconds. Returns why an offer was refused by it, where
    /// that was not known before: one that was never seen, or whose acceptance the device did not take.
    pub fn answered(&mut self, reply: Reply, now: u64) -> Option<Refusal> {
        let refused = match (self.state, reply) {
            (State::Auditing, Reply::Done) if !core::mem::take(&mut self.told) => {
                Some(Refusal::EventsLost)
            }
            (State::InTheWay { .. }, Reply::Done | Reply::Refused) => Some(Refusal::NotConfirmed),
            (State::Answering { accept: false, .. }, Reply::Refused | Reply::Failed) => {
                self.told = true;
                None
            }
            _ => None,
        };
        match (self.state, reply) {
            (State::Answering { accept: true, .. }, Reply::Done) => {
                self.holdings
                    .offered_mut()
                    .for_each(|entry| entry.accept(now));
                self.remainder = false;
                self.enter(State::Quiet);
            }
            (
                State::Answering {
                    accept: true,
                    group,
                },
                Reply::Refused,
            ) => {
                self.in_doubt = true;
                self.enter(State::InTheWay { group });
            }
            (State::InTheWay { group }, Reply::Done) if self.endures() => {
                self.enter(State::Answering {
                    accept: true,
                    group,
                });
            }
            (State::Auditing, Reply::Done) if self.endures() => {
                self.unexplained = false;
                self.enter(State::Rereading);
            }
            // A refusal may have been for an older offer than the one that it was meant for.
            (_, Reply::Done | Reply::Refused) => {
                self.in_doubt = true;
                self.drop_offer();
                self.enter(State::Quiet);
            }
            (_, Reply::Failed) => self.abandon(),
        }
        refused
    }

    /// The duty could not be done: the device was not reached, or what it said makes no sense. Whatever was
    /// to be answered is forgotten, and found again when the device is asked what waits.
    pub fn abandon(&mut self) {
        self.in_doubt = true;
        self.unbalanced = true;
        self.drop_offer();
        self.enter(State::Quiet);
    }

    /// One more offer was refused that was never seen. Returns whether to go on.
    fn endures(&mut self) -> bool {
        self.unseen = self.unseen.saturating_add(1);
        if self.unseen < ENDURANCE {
            return true;
        }
        self.unseen = 0;
        false
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.waited_for = false;
    }

    fn collect(&mut self, extent: Option<Extent>, now: u64) {
        let tag = extent.and_then(|extent| extent.tag);
        // What comes later than that is something else, whatever the device says that waits.
        let is_late = |chain: Chain| {
            chain.tag == tag && now < chain.since.saturating_add(PATIENCE.saturating_mul(2))
        };
        let late = self.given_up.is_some_and(is_late);
        let chain = self.chain.get_or_insert(Chain {
            since: now,
            tag,
            records: 0,
            fault: late.then_some(Refusal::EventsLost),
        });
        chain.records = chain.records.saturating_add(1);
        let fault = match extent {
            None => Some(Refusal::Unreadable),
            Some(extent) if extent.tag != chain.tag => Some(Refusal::TagsMixed),
            Some(extent) => {
                let set = self.holdings.new_set();
                self.holdings.push(extent, set, Phase::Offered).err()
            }
        };
        chain.fault = chain.fault.or(fault);
    }

    /// The fabric takes back what it just offered.
    fn withdraw(&mut self, extent: Extent) {
        let mut offered = self.holdings.offered();
        let withdrawn = offered.any(|entry| entry.extent().span.overlaps(extent.span));
        if let (true, Some(chain)) = (withdrawn, &mut self.chain) {
            chain.fault = chain.fault.or(Some(Refusal::Withdrawn(extent.span)));
        }
    }

    /// The group is complete: decides on it.
    fn close(&mut self, areas: &[Area], tag_elsewhere: impl Fn(Tag) -> bool) -> Outcome {
        let Some(chain) = self.chain.take() else {
            return Outcome::Unreadable;
        };
        let refused = self.decide(&chain, areas, tag_elsewhere);
        let accepted = self.holdings.offered().count();
        self.enter(State::Answering {
            accept: accepted > 0,
            group: u32::try_from(chain.records).unwrap_or(u32::MAX),
        });
        let refused = refused.map(|why| (chain.records.saturating_sub(accepted), why));
        Outcome::Decided { accepted, refused }
    }

    /// Leaves those of the offered extents that are to be accepted, divided into sets. Returns why the first
    /// of the others is not.
    fn decide(
        &mut self,
        chain: &Chain,
        areas: &[Area],
        tag_elsewhere: impl Fn(Tag) -> bool,
    ) -> Option<Refusal> {
        let lost = self.overflowed.then_some(Refusal::EventsLost);
        let whole = chain.fault.or(lost);
        if whole.is_none() && chain.tag.is_none() && self.come_one_by_one(areas) {
            return self.decide_one_by_one(areas);
        }
        let refused = whole.or_else(|| self.decide_together(chain, areas, tag_elsewhere).err());
        if refused.is_some() {
            self.drop_offer();
        } else {
            let set = self.holdings.new_set();
            self.holdings
                .offered_mut()
                .for_each(|entry| entry.join(set));
        }
        refused
    }

    /// Whether each offered extent, as far as a region holds it, is a device of its own.
    fn come_one_by_one(&self, areas: &[Area]) -> bool {
        self.holdings.offered().all(|entry| {
            area_of(areas, &entry.extent()).map_or(true, |area| area.purpose.takes_single_extents())
        })
    }

    fn decide_one_by_one(&mut self, areas: &[Area]) -> Option<Refusal> {
        let mut first = None;
        while let Some((set, why)) = self.first_unfit(areas) {
            first = first.or(Some(why));
            self.holdings.forget(|entry| entry.set() == set);
        }
        first
    }

    /// The first offered extent that cannot be used, and why.
    fn first_unfit(&self, areas: &[Area]) -> Option<(Set, Refusal)> {
        self.holdings
            .offered()
            .find_map(|entry| Some((entry.set(), self.admit(entry, areas).err()?)))
    }

    fn decide_together(
        &self,
        chain: &Chain,
        areas: &[Area],
        tag_elsewhere: impl Fn(Tag) -> bool,
    ) -> Result<(), Refusal> {
        if let Some((_, why)) = self.first_unfit(areas) {
            return Err(why);
        }
        let mut regions = self
            .holdings
            .offered()
            .map(|entry| area_of(areas, &entry.extent()).map(|area| area.region));
        let first = regions.next();
        if regions.any(|region| Some(region) != first) {
            return Err(Refusal::SeveralRegions);
        }
        match chain.tag {
            Some(tag) if self.holdings.has_tag(tag) || tag_elsewhere(tag) => {
                Err(Refusal::TagInUse(tag))
            }
            Some(_) => self.sequence(),
            None => Ok(()),
        }
    }

    /// Whether the offered extents have one place each, or none of them has.
    fn sequence(&self) -> Result<(), Refusal> {
        if self
            .holdings
            .offered()
            .all(|entry| entry.extent().sequence == 0)
        {
            return Ok(());
        }
        for entry in self.holdings.offered() {
            let sequence = entry.extent().sequence;
            let same = |other: &Entry| other.extent().sequence == sequence;
            if self.holdings.offered().filter(|other| same(other)).count() > 1 {
                return Err(Refusal::SequenceTaken(sequence));
            }
        }
        Ok(())
    }

    /// Whether an offered extent can be used by itself.
    fn admit(&self, entry: &Entry, areas: &[Area]) -> Result<(), Refusal> {
        let extent = entry.extent();
        area_of(areas, &extent)?.admits(extent.span)?;
        // Of two that overlap within a group the later one is at fault.
        let other = self.holdings.entries().find(|other| {
            other.arrival() != entry.arrival()
                && other.extent().span.overlaps(extent.span)
                && (other.phase() != Phase::Offered || other.arrival() < entry.arrival())
        });
        match other {
            None => Ok(()),
            Some(other) => Err(Refusal::Overlap {
                span: extent.span,
                other: other.extent().span,
            }),
        }
    }

    /// Gives up a group that is not complete.
    fn give_up(&mut self, why: Refusal) -> Option<Refusal> {
        self.chain.take().map(|chain| {
            self.drop_offer();
            self.told = true;
            self.given_up = Some(chain);
            chain.fault.unwrap_or(why)
        })
    }

    /// Forgets what was offered and not accepted.
    fn drop_offer(&mut self) {
        if self.chain.is_none() {
            self.holdings
                .forget(|entry| entry.phase() == Phase::Offered);
        }
    }
}
