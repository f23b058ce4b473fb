// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The extents that the host has of one device, and what is to be done with each.
//!
//! Extents that make up one device come and go together: they are a [`Set`], and all of them are in the
//! same [`Phase`]. What takes long is done without a lock: [`Holdings::begin`] tells what to do next and
//! notes that it is being done, and one of [`Holdings::surfaced`], [`Holdings::taken_away`] and
//! [`Holdings::given_back`] tells how it went. What the fabric asks for meanwhile is not forgotten.

use core::fmt;
use core::ops::DerefMut;

use super::admission::{Area, Refusal, Use};
use crate::extent::{Extent, Span, Tag};

/// After how many attempts memory in use is left alone, until somebody asks again.
pub const ATTEMPTS: u8 = 8;

/// The time from the first attempt to the second, in milliseconds; it doubles with each.
const FIRST_DELAY: u64 = 250;

/// The longest time between two attempts that disturb nobody, in milliseconds.
const LONGEST_DELAY: u64 = 2_000;

/// How many of those are counted at most: the time between two does not grow any more.
const FREE_ATTEMPTS: u8 = 3;

/// The number of a set; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Set(u32);

impl Set {
    /// The number, by which users name it.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a set is on its way from the fabric and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The fabric offers it.
    Offered,
    /// The device knows that the host has it. No memory stands for it yet.
    Accepted,
    /// It is just becoming memory.
    Surfacing,
    /// It is memory.
    Surfaced,
    /// It is memory that somebody wants back.
    Leaving,
    /// It is just being taken out of use.
    Moving,
    /// It is no memory any more; the device has to be told.
    Vacated,
    /// The device is just being told.
    Returning,
    /// The device says that the host has it, from before; nobody knows to what it belongs.
    Kept,
    /// The host has it, and there is no region over it at the moment.
    Parked,
}

/// One extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    extent: Extent,
    set: Set,
    arrival: u32,
    phase: Phase,
    /// Somebody wants it back.
    wanted: bool,
    /// What of it the fabric took back without asking, or a little more.
    lost: Option<Span>,
    /// It is memory that a region had to leave behind, and that no other has taken up yet. What is memory of a region
    /// that is there must not be claimed by it again.
    left: bool,
    attempts: u8,
    /// When to try next, in milliseconds.
    due: u64,
}

impl Entry {
    /// For storage that holds nothing yet.
    pub const UNUSED: Self = Self {
        extent: Extent {
            span: Span::FIRST_BYTE,
            tag: None,
            sequence: 0,
        },
        set: Set(0),
        arrival: 0,
        phase: Phase::Offered,
        wanted: false,
        lost: None,
        left: false,
        attempts: 0,
        due: 0,
    };

    /// The extent.
    #[must_use]
    pub const fn extent(&self) -> Extent {
        self.extent
    }

    /// How many arrived before it, and itself: its number among all that ever did.
    #[must_use]
    pub const fn arrival(&self) -> u32 {
        self.arrival
    }

    /// The set that it belongs to.
    #[must_use]
    pub const fn set(&self) -> Set {
        self.set
    }

    /// Where it is.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// What of it the fabric took back without asking; where that were several pieces, what is between them as well.
    #[must_use]
    pub const fn lost(&self) -> Option<Span> {
        self.lost
    }

    /// The word for users.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self.phase {
            _ if self.lost.is_some() => "lost",
            Phase::Offered => "offered",
            Phase::Accepted | Phase::Surfacing => "arriving",
            Phase::Surfaced if self.wanted => "busy",
            Phase::Surfaced => "in use",
            Phase::Leaving | Phase::Moving => "leaving",
            Phase::Vacated | Phase::Returning => "returning",
            Phase::Kept => "kept",
            Phase::Parked => "parked",
        }
    }
}

/// What is to be done with a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Make it memory, then call [`Holdings::surfaced`].
    Surface(Set),
    /// Take it out of use, then call [`Holdings::taken_away`].
    TakeAway(Set),
    /// Tell the device about [`Holdings::returning`], then call [`Holdings::given_back`].
    GiveBack(Set),
}

/// How the device replied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It did what it was told.
    Done,
    /// It refused.
    Refused,
    /// Nobody knows whether it heard.
    Failed,
}

/// All that the host has of one device. `S` is where the extents are kept: at least as many entries as
/// the device supports extents, for none to be refused for want of room.
#[derive(Clone, Debug)]
pub struct Holdings<S> {
    entries: S,
    used: usize,
    sets: u32,
    arrivals: u32,
    /// The device may list something that is forgotten: what was lost may have been lost in part only, and what it
    /// refused to take back may be its own in part only.
    holes: bool,
}

impl<S: DerefMut<Target = [Entry]>> Holdings<S> {
    /// Nothing yet.
    pub const fn new(entries: S) -> Self {
        Self {
            entries,
            used: 0,
            sets: 0,
            arrivals: 0,
            holes: false,
        }
    }

    /// Every extent, in order of arrival; those of a set are neighbours.
    pub fn entries(&self) -> core::slice::Iter<'_, Entry> {
        self.entries.get(..self.used).unwrap_or_default().iter()
    }

    fn entries_mut(&mut self) -> core::slice::IterMut<'_, Entry> {
        self.entries
            .get_mut(..self.used)
            .unwrap_or_default()
            .iter_mut()
    }

    /// The first entry of each set, in order of arrival.
    pub fn sets(&self) -> impl Iterator<Item = &Entry> {
        let mut before = None;
        self.entries()
            .filter(move |entry| before.replace(entry.set) != Some(entry.set))
    }

    /// The extents of a set in the order in which they make up its memory: by sequence, else by arrival.
    pub fn in_order(&self, set: Set) -> impl Iterator<Item = &Entry> {
        let after = move |before: Option<(u16, u32)>| {
            self.entries()
                .filter(move |entry| entry.set == set && Some(place(entry)) > before)
                .min_by_key(|entry| place(entry))
        };
        core::iter::successors(after(None), move |entry| after(Some(place(entry))))
    }

    /// What of `set` the device has to be told to take back.
    pub fn returning(&self, set: Set) -> impl Iterator<Item = Span> + '_ {
        self.entries()
            .filter(move |entry| entry.set == set && entry.lost.is_none())
            .map(|entry| entry.extent.span)
    }

    /// The first entry of a set; `None` if it is gone.
    #[must_use]
    pub fn find(&self, set: Set) -> Option<&Entry> {
        self.entries().find(|entry| entry.set == set)
    }

    /// The set with this number; `None` if it is gone.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Option<Set> {
        self.find(Set(number)).map(|entry| entry.set)
    }

    /// What the host has of `span`, or is offered.
    #[must_use]
    pub fn overlapping(&self, span: Span) -> Option<&Entry> {
        self.entries()
            .find(|entry| entry.extent.span.overlaps(span))
    }

    /// Whether the host has extents of that tag.
    #[must_use]
    pub fn has_tag(&self, tag: Tag) -> bool {
        self.entries()
            .any(|entry| entry.phase != Phase::Offered && entry.extent.tag == Some(tag))
    }

    /// How many extents the device should count as the host's.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.entries()
            .filter(|entry| entry.phase != Phase::Offered && entry.lost.is_none())
            .count()
    }

    /// What is to be done next, at `now` milliseconds, which is noted as begun. What costs least and
    /// frees most comes first: telling the device, then new memory, then memory that may be in use.
    pub fn begin(&mut self, now: u64) -> Option<Work> {
        self.begin_quick(now).or_else(|| self.begin_removal(now))
    }

    /// The same, without what may take long: telling the device, then new memory.
    pub fn begin_quick(&mut self, now: u64) -> Option<Work> {
        let due = |wanted: Phase| move |entry: &&Entry| entry.phase == wanted && entry.due <= now;
        if let Some(set) = self.entries().find(due(Phase::Vacated)).map(Entry::set) {
            self.update(set, |entry| entry.phase = Phase::Returning);
            return Some(Work::GiveBack(set));
        }
        let set = self.entries().find(due(Phase::Accepted))?.set;
        self.update(set, |entry| entry.phase = Phase::Surfacing);
        Some(Work::Surface(set))
    }

    /// The same, with nothing but that: memory that may be in use.
    pub fn begin_removal(&mut self, now: u64) -> Option<Work> {
        // What was tried least, then what has waited longest: those that are busy must not keep the others waiting.
        let set = self
            .entries()
            .filter(|entry| entry.can_be_removed() && entry.due <= now)
            .min_by_key(|entry| (entry.attempts, entry.due))?
            .set;
        self.update(set, |entry| entry.phase = Phase::Moving);
        Some(Work::TakeAway(set))
    }

    /// When there will be something to do again, in milliseconds; `None` if only an event can tell.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        let due = [self.next_quick_due(), self.next_removal_due()];
        due.into_iter().flatten().min()
    }

    /// The same, of what [`Holdings::begin_quick`] begins.
    #[must_use]
    pub fn next_quick_due(&self) -> Option<u64> {
        self.entries()
            .filter(|entry| matches!(entry.phase, Phase::Vacated | Phase::Accepted))
            .map(|entry| entry.due)
            .min()
    }

    /// The same, of what [`Holdings::begin_removal`] begins.
    #[must_use]
    pub fn next_removal_due(&self) -> Option<u64> {
        self.entries()
            .filter(|entry| entry.can_be_removed())
            .map(|entry| entry.due)
            .min()
    }

    /// Tells how [`Work::Surface`] went. What could not be made memory is given back.
    pub fn surfaced(&mut self, set: Set, became_memory: bool, now: u64) {
        self.update_in(Phase::Surfacing, set, |entry| {
            entry.due = now;
            entry.left = false;
            entry.phase = match (became_memory, entry.wanted) {
                (false, _) => Phase::Vacated,
                (true, true) => Phase::Leaving,
                (true, false) => Phase::Surfaced,
            };
        });
        self.forget_what_is_lost();
    }

    /// Tells that the region over `set` went before it could do [`Work::Surface`]: the set stays with the host, for
    /// the next region.
    pub fn put_off(&mut self, set: Set, now: u64) {
        self.update_in(Phase::Surfacing, set, |entry| {
            entry.due = now;
            entry.phase = match (entry.left, entry.wanted) {
                (true, _) => Phase::Surfaced,
                (false, true) => Phase::Vacated,
                (false, false) => Phase::Parked,
            };
        });
        self.forget_what_is_lost();
    }

    /// Tells how [`Work::TakeAway`] went. Memory in use is tried again, [`ATTEMPTS`] times in all as system
    /// RAM, since each attempt disturbs its users; as devdax, where it costs nothing, until it works.
    pub fn taken_away(&mut self, set: Set, out_of_use: bool, purpose: Use, now: u64) {
        self.update_in(Phase::Moving, set, |entry| {
            if out_of_use {
                entry.phase = Phase::Vacated;
                entry.due = now;
                return;
            }
            let delay = FIRST_DELAY << entry.attempts.min(ATTEMPTS);
            let delay = match purpose {
                Use::Sysram => delay,
                Use::Devdax => delay.min(LONGEST_DELAY),
            };
            entry.attempts = match purpose {
                Use::Sysram => entry.attempts.saturating_add(1),
                // Those are none that disturbed anybody.
                Use::Devdax => entry.attempts.saturating_add(1).min(FREE_ATTEMPTS),
            };
            entry.due = now.saturating_add(delay);
            entry.phase = match purpose {
                Use::Sysram if entry.attempts >= ATTEMPTS => Phase::Surfaced,
                Use::Sysram | Use::Devdax => Phase::Leaving,
            };
        });
        self.forget_what_is_lost();
    }

    /// Tells how [`Work::GiveBack`] went. Of what the device refuses to take back, some it does not count as the
    /// host's.
    pub fn given_back(&mut self, set: Set, reply: Reply, now: u64) {
        match reply {
            Reply::Done | Reply::Refused => {
                self.holes |= reply == Reply::Refused;
                self.forget(|entry| entry.set == set);
            }
            Reply::Failed => {
                self.update(set, |entry| {
                    let delay = FIRST_DELAY << entry.attempts.min(ATTEMPTS);
                    entry.attempts = entry.attempts.saturating_add(1);
                    entry.due = now.saturating_add(delay);
                    entry.phase = Phase::Vacated;
                });
                self.forget_what_is_lost();
            }
        }
    }

    /// Somebody wants back what the host has of `span`: all sets that have any of it, whole. Returns
    /// whether there are any.
    pub fn want_back(&mut self, span: Span, now: u64) -> bool {
        self.want_back_if(|entry| entry.extent.span.overlaps(span), now)
    }

    /// Somebody wants `set` back. Returns whether there is such a set.
    pub fn want_back_set(&mut self, set: Set, now: u64) -> bool {
        self.want_back_if(|entry| entry.set == set, now)
    }

    fn want_back_if(&mut self, wanted: impl Fn(&Entry) -> bool, now: u64) -> bool {
        let mut any = false;
        // A set is done with as a whole, and then has the mark; so each is found once.
        while let Some(set) = self
            .entries()
            .find(|entry| {
                entry.phase != Phase::Offered && wanted(entry) && !entry.is_wanted_at(now)
            })
            .map(Entry::set)
        {
            any = true;
            self.update(set, |entry| {
                entry.wanted = true;
                entry.attempts = 0;
                entry.due = now;
                entry.phase = match entry.phase {
                    // It has to be taken up before it can be taken out of use.
                    Phase::Accepted if entry.left => Phase::Accepted,
                    // No memory stands for it.
                    Phase::Accepted | Phase::Kept | Phase::Parked => Phase::Vacated,
                    Phase::Surfaced => Phase::Leaving,
                    phase => phase,
                };
            });
        }
        any || self
            .entries()
            .any(|entry| entry.phase != Phase::Offered && wanted(entry))
    }

    /// The fabric took `span` back without asking. Returns whether the host had any of it as memory: then it
    /// has to be taken out of use as well as that goes.
    pub fn lose(&mut self, span: Span, now: u64) -> bool {
        for entry in self.entries_mut() {
            let lost = entry.extent.span.intersection(span);
            if let (Some(lost), false) = (lost, entry.phase == Phase::Offered) {
                entry.lost = Some(entry.lost.map_or(lost, |before| before.hull(lost)));
            }
        }
        // The rest of a set with a hole in it cannot stay.
        self.want_back(span, now);
        self.forget_what_is_lost();
        self.entries()
            .any(|entry| entry.lost.is_some() && entry.extent.span.overlaps(span))
    }

    /// Tries once more what was lost and could not be taken out of use: whoever used it may be gone.
    pub fn retry_lost(&mut self, now: u64) {
        let stays = |entry: &&Entry| entry.lost.is_some() && entry.phase == Phase::Surfaced;
        while let Some(set) = self.entries().find(stays).map(Entry::set) {
            self.update(set, |entry| {
                entry.phase = Phase::Leaving;
                entry.attempts = ATTEMPTS.saturating_sub(1);
                entry.due = now;
            });
        }
    }

    /// Takes over what the device says that the host has, and the host does not know of: extents of a tag as
    /// one set, others one by one. They stay as they are until a region claims them. What still `is_memory`, since
    /// it had to be left behind, is not given back before.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`]; what there was room for is taken over.
    pub fn adopt(
        &mut self,
        listed: &(impl Iterator<Item = Extent> + Clone),
        is_memory: impl Fn(Span) -> bool,
    ) -> Result<(), Refusal> {
        for first in listed.clone() {
            if self.overlapping(first.span).is_some() {
                continue;
            }
            let together = |extent: &Extent| match first.tag {
                None => *extent == first,
                tag => extent.tag == tag,
            };
            let group = || listed.clone().filter(together);
            let left = group().any(|extent| is_memory(extent.span));
            let phase = if left { Phase::Surfaced } else { Phase::Kept };
            let set = self.new_set();
            let mut pushed = Ok(());
            for extent in group() {
                if self.overlapping(extent.span).is_none() {
                    pushed = pushed.and(self.push(extent, set, phase));
                }
            }
            self.update(set, |entry| entry.left = left);
            pushed?;
        }
        Ok(())
    }

    /// The region of `area` is there. What the host has of it from before becomes memory, if that can be used there and is
    /// known to what it belongs: it always was with this host, it has a tag, or the device `remembers_tags` and has none
    /// for it. What is memory of the region already stays as it is.
    pub fn claim(&mut self, area: &Area, remembers_tags: bool, now: u64) {
        while let Some(set) = self.claimable(area, remembers_tags) {
            self.update(set, |entry| {
                entry.due = now;
                entry.phase = match entry.phase {
                    _ if entry.left => Phase::Accepted,
                    _ if entry.wanted => Phase::Vacated,
                    _ => Phase::Accepted,
                };
            });
        }
    }

    fn claimable(&mut self, area: &Area, remembers_tags: bool) -> Option<Set> {
        let is_known = |entry: &&Entry| match entry.phase {
            Phase::Kept => remembers_tags || entry.extent.tag.is_some(),
            Phase::Parked => true,
            // By the region before.
            Phase::Surfaced | Phase::Leaving => entry.left,
            _ => false,
        };
        let fits = |entry: &&Entry| {
            self.entries()
                .filter(|other| other.set == entry.set)
                .all(|other| area.admits(other.extent.span).is_ok())
        };
        let first = *self.sets().filter(is_known).find(fits)?;
        if first.phase != Phase::Parked || first.extent.tag.is_some() {
            return Some(first.set);
        }
        // What one region had together another may have one by one.
        if area.purpose.takes_single_extents() {
            let single = self.new_set();
            self.entries_mut().find(|entry| entry.set == first.set)?.set = single;
            return Some(single);
        }
        Some(first.set)
    }

    /// The region over `span` goes, and has taken its memory out of use, as far as that could be done:
    /// `is_memory` tells what stays behind. What does not stays with the host, for the next region.
    pub fn unclaim(&mut self, span: Span, is_memory: impl Fn(Span) -> bool, now: u64) {
        for index in 0..self.used {
            let Some(set) = self.entries.get(index).map(Entry::set) else {
                break;
            };
            let stays = self
                .entries()
                .any(|entry| entry.set == set && is_memory(entry.extent.span));
            if !self.is_within(set, span) {
                continue;
            }
            self.update(set, |entry| {
                let phase = match (entry.phase, stays, entry.wanted) {
                    (Phase::Offered | Phase::Kept | Phase::Vacated | Phase::Returning, ..) => {
                        return
                    }
                    (_, true, _) => Phase::Surfaced,
                    (_, false, true) => Phase::Vacated,
                    (_, false, false) => Phase::Parked,
                };
                entry.phase = phase;
                entry.left = stays;
                entry.due = now;
            });
        }
        self.forget_what_is_lost();
    }

    /// Whether all extents of `set` are within `span`.
    #[must_use]
    pub fn is_within(&self, set: Set, span: Span) -> bool {
        self.entries()
            .filter(|entry| entry.set == set)
            .all(|entry| span.covers(entry.extent.span))
    }

    /// Marks as lost an extent that the device does not list any more. Returns which, and whether it still is
    /// memory; to be called until there is none.
    pub fn compare(
        &mut self,
        listed: &(impl Iterator<Item = Span> + Clone),
        now: u64,
    ) -> Option<(Span, bool)> {
        let span = self
            .entries()
            .filter(|entry| {
                entry.lost.is_none() && !matches!(entry.phase, Phase::Offered | Phase::Returning)
            })
            .map(|entry| entry.extent.span)
            .find(|span| !listed.clone().any(|listed| listed.covers(*span)))?;
        Some((span, self.lose(span, now)))
    }

    /// The number for another set.
    pub(super) fn new_set(&mut self) -> Set {
        self.sets = self.sets.wrapping_add(1);
        Set(self.sets)
    }

    /// Adds an extent.
    pub(super) fn push(&mut self, extent: Extent, set: Set, phase: Phase) -> Result<(), Refusal> {
        let entry = self.entries.get_mut(self.used).ok_or(Refusal::NoRoom)?;
        self.arrivals = self.arrivals.wrapping_add(1);
        *entry = Entry {
            extent,
            set,
            phase,
            arrival: self.arrivals,
            ..Entry::UNUSED
        };
        self.used = self.used.saturating_add(1);
        Ok(())
    }

    /// The extents that the fabric offers.
    pub(super) fn offered(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| entry.phase == Phase::Offered)
    }

    /// The same, to be divided into sets.
    pub(super) fn offered_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries_mut()
            .filter(|entry| entry.phase == Phase::Offered)
    }

    /// Forgets the extents that are `unwanted`; the others keep their order.
    pub(super) fn forget(&mut self, unwanted: impl Fn(&Entry) -> bool) {
        let mut kept = 0_usize;
        for index in 0..self.used {
            let Some(entry) = self.entries.get(index).copied() else {
                break;
            };
            if unwanted(&entry) {
                continue;
            }
            if let Some(place) = self.entries.get_mut(kept) {
                *place = entry;
            }
            kept = kept.saturating_add(1);
        }
        self.used = kept;
    }

    /// What the device took back and is no memory any more is nobody's.
    fn forget_what_is_lost(&mut self) {
        let before = self.used;
        self.forget(|entry| entry.lost.is_some() && entry.phase == Phase::Vacated);
        self.holes |= self.used < before;
    }

    /// Whether the device may list something that is forgotten: the log should be read, and the list, soon.
    #[must_use]
    pub const fn has_holes(&self) -> bool {
        self.holes
    }

    /// The same, and it is taken to be looked after.
    pub(super) const fn take_holes(&mut self) -> bool {
        core::mem::replace(&mut self.holes, false)
    }

    /// Changes a set that is still where it was when the work began: its region may have gone meanwhile.
    fn update_in(&mut self, phase: Phase, set: Set, change: impl Fn(&mut Entry)) {
        if self.find(set).is_some_and(|entry| entry.phase == phase) {
            self.update(set, change);
        }
    }

    fn update(&mut self, set: Set, change: impl Fn(&mut Entry)) {
        self.entries_mut()
            .filter(|entry| entry.set == set)
            .for_each(change);
    }
}

impl Entry {
    /// Puts it into a set of the same group.
    pub(super) fn join(&mut self, set: Set) {
        self.set = set;
    }

    /// The device confirmed that the host has it.
    pub(super) fn accept(&mut self, now: u64) {
        self.phase = Phase::Accepted;
        self.due = now;
    }

    /// What a region had to leave behind has to be taken up before.
    fn can_be_removed(&self) -> bool {
        self.phase == Phase::Leaving && !self.left
    }

    /// Whether it was asked back, and everything about that is as if asked for at `now`.
    const fn is_wanted_at(&self, now: u64) -> bool {
        let untried = self.attempts == 0 && self.due <= now;
        let waits = match self.phase {
            Phase::Accepted => self.left,
            Phase::Kept | Phase::Parked | Phase::Surfaced => false,
            _ => true,
        };
        self.wanted && untried && waits
    }
}

/// Where in the memory of its set an extent is.
const fn place(entry: &Entry) -> (u16, u32) {
    (entry.extent.sequence, entry.arrival)
}
