// SPDX-License-Identifier: GPL-2.0-only

//! What is said between the host and a device with dynamic capacity: `region_policy::dcd` decides, this sends
//! and receives.

use super::area::Area;
use crate::{
    abstractions::{
        cxl::memdev::{
            Mailbox,
            SendError, //
        },
        text::Text,
        worker, //
    },
    holds, //
};
use core::iter::Peekable;
use kernel::{
    prelude::*,
    sync::Arc, //
};
use region_policy::{
    dcd::{
        admission::{
            self,
            Refusal,
            Use, //
        },
        configuration::Configuration,
        event::{
            Event,
            Malformed,
            Page,
            LOG, //
        },
        exchange::{
            Duty,
            Exchange,
            Outcome, //
        },
        holdings::{
            Entry,
            Holdings,
            Reply,
            Set,
            Work, //
        },
        list,
        payload, //
    },
    extent::{
        Extent,
        Span,
        Tag, //
    },
};

/// Commands (CXL 3.1, table 8-126).
const GET_EVENT_RECORDS: u16 = 0x0100;
const CLEAR_EVENT_RECORDS: u16 = 0x0101;
const GET_CONFIGURATION: u16 = 0x4800;
const GET_EXTENT_LIST: u16 = 0x4801;
const ADD_RESPONSE: u16 = 0x4802;
const RELEASE: u16 = 0x4803;

/// How many extents of a device are remembered at most.
const EXTENTS: u32 = 4096;

/// How many pages of events are read in one go: a device whose log has no end would keep the host busy for ever.
const PAGES: u32 = 4096;

/// After how many milliseconds a talk that failed is tried again; it doubles with each, so many times.
const RETRY: u32 = 1000;
const MOST_DOUBLED: u32 = 6;

/// How many refusals of one talk have a line in the log each.
const LINES: u32 = 16;

/// How often the list of extents is read anew because it changed meanwhile.
const READINGS: u32 = 64;

/// What a device answers that does not know a command (CXL 3.1, table 8-34).
const UNSUPPORTED: u16 = 3;

/// How often everything is looked after when nothing happens, in milliseconds.
pub const ONCE_IN_A_WHILE: u32 = 60_000;

/// Whether another device has extents of a tag.
pub type TagElsewhere<'a> = &'a dyn Fn(Tag) -> bool;

/// What has been said, and room for what will be.
pub struct Conversation {
    exchange: Exchange<KVec<Entry>>,
    /// The regions that drivers of ours hold over the device, and what is decided by.
    areas: KVec<Arc<Area>>,
    terms: KVec<admission::Area>,
    /// For what is sent.
    buffer: KVec<u8>,
    /// For what the device answers.
    answer: KVec<u8>,
    /// Whether the device keeps tags; until its list is taken over it is not known.
    remembers_tags: Option<bool>,
    /// When everything was looked after, in milliseconds.
    looked_at: u64,
    /// Whether a region waits for what the host has of it from before, until the device was asked.
    unclaimed: bool,
    /// Whether the device should be talked to soon: see [`Conversation::take_hurry`].
    hurry: bool,
    /// Why a group was given up, until that is told.
    untold: Option<Refusal>,
    /// How many talks in a row failed.
    failures: u32,
    refusals: Refusals,
}

/// The offers that were refused.
#[derive(Clone, Copy, Default)]
pub struct Refusals {
    /// How many there were.
    pub count: u64,
    /// Why the latest was.
    pub latest: Option<Refusal>,
    /// How many there were in one talk: the log is not for whoever makes offers without end.
    in_this_talk: u32,
}

impl Refusals {
    /// Notes, and tells, that the device was told of one.
    fn note(&mut self, mailbox: &Mailbox, what: core::fmt::Arguments<'_>, why: Refusal) {
        self.count = self.count.saturating_add(1);
        self.latest = Some(why);
        self.in_this_talk = self.in_this_talk.saturating_add(1);
        if self.in_this_talk <= LINES {
            dev_warn!(
                mailbox.memdev().as_ref(),
                "dynamic capacity: {} is refused: {}\n",
                what,
                Text(why)
            );
        }
    }

    /// Tells of those that there were no lines for.
    fn end_of_talk(&mut self, mailbox: &Mailbox) {
        let more = core::mem::take(&mut self.in_this_talk).saturating_sub(LINES);
        if more > 0 {
            dev_warn!(
                mailbox.memdev().as_ref(),
                "dynamic capacity: {} more offers are refused\n",
                more
            );
        }
    }
}

/// What kind of work is done by the same worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What is done soon.
    Quick,
    /// Taking memory out of use.
    Removal,
}

/// How a job went.
#[derive(Clone, Copy)]
pub enum Ending {
    /// As it should.
    Done,
    /// It did not, and nothing changed.
    Failed,
    /// The same: applications have it open.
    Open,
    /// Some of what should have become memory did, and could not be taken away again.
    Stuck,
    /// The region went before.
    TooLate,
}

/// Something that takes long, to be done without the conversation's lock.
pub struct Job {
    /// What is to be done.
    pub work: Work,
    /// The region that it is about; none where that is gone.
    pub area: Option<Arc<Area>>,
    /// Their tag.
    pub tag: Option<Tag>,
    /// The extents that it is about, in the order in which they make up the memory.
    pub spans: KVec<Span>,
    /// Those of them that the device took without asking.
    pub lost: KVec<Span>,
}

impl Conversation {
    /// Begins with a device that can keep `extents` extents apart, and takes `size` bytes at once.
    pub fn new(extents: u32, size: usize) -> Result<Self> {
        let count = usize::try_from(extents.min(EXTENTS))?;
        Ok(Self {
            exchange: Exchange::new(KVec::from_elem(Entry::UNUSED, count, GFP_KERNEL)?),
            areas: KVec::new(),
            terms: KVec::new(),
            buffer: KVec::from_elem(0, size, GFP_KERNEL)?,
            answer: KVec::from_elem(0, size, GFP_KERNEL)?,
            remembers_tags: None,
            looked_at: worker::now(),
            unclaimed: false,
            hurry: false,
            untold: None,
            failures: 0,
            refusals: Refusals::default(),
        })
    }

    /// What the host has.
    pub const fn holdings(&self) -> &Holdings<KVec<Entry>> {
        self.exchange.holdings()
    }

    /// The offers that were refused since the conversation began.
    pub const fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// The regions over the device.
    pub fn areas(&self) -> &[Arc<Area>] {
        &self.areas
    }

    /// A region is there, of which no memory is in use. What the host has of it from before becomes memory at the next
    /// talk, once the device was asked whether it still counts that as the host's: it may have been reset.
    pub fn open(&mut self, area: &Arc<Area>) -> Result {
        self.areas.reserve(1, GFP_KERNEL)?;
        self.terms.push(area.terms(), GFP_KERNEL)?;
        self.areas.push(area.clone(), GFP_KERNEL)?;
        self.unclaimed = true;
        self.exchange.doubt();
        Ok(())
    }

    /// Whether something was done since the last call after which the device may list what the host does not know of.
    pub fn take_hurry(&mut self) -> bool {
        core::mem::take(&mut self.hurry)
    }

    /// A region is on its way out: nothing more becomes memory of it.
    pub fn close(&mut self, area: &Arc<Area>) {
        self.areas.retain(|other| !Arc::ptr_eq(other, area));
        self.terms.retain(|other| *other != area.terms());
    }

    /// A region has taken its memory out of use, but for what `is_memory` tells.
    pub fn closed(&mut self, area: &Area, is_memory: impl Fn(Span) -> bool) {
        let now = worker::now();
        self.change(|holdings| holdings.unclaim(area.terms().span, is_memory, now));
    }

    /// Somebody wants back the set of the extent that arrived as number `arrival`.
    pub fn want_back(&mut self, arrival: u32) {
        let holdings = self.exchange.holdings_mut();
        let set = holdings.entries().find(|entry| entry.arrival() == arrival);
        if let Some(set) = set.map(Entry::set) {
            holdings.want_back_set(set, worker::now());
        }
    }

    /// Talks to the device. Returns after how many milliseconds to do it again if nothing happens.
    pub fn talk(&mut self, mailbox: &Mailbox, tag_elsewhere: TagElsewhere<'_>) -> u32 {
        let now = worker::now();
        if now.saturating_sub(self.looked_at) >= u64::from(ONCE_IN_A_WHILE) {
            self.looked_at = now;
            self.exchange.doubt();
            self.exchange.holdings_mut().retry_lost(now);
        }
        let held = self.hold(mailbox, tag_elsewhere, now);
        if let Some(why) = self.untold.take() {
            self.refusals.note(mailbox, format_args!("an offer"), why);
        }
        self.refusals.end_of_talk(mailbox);
        let Err(error) = held else {
            self.failures = 0;
            return until(self.exchange.deadline(), now);
        };
        dev_warn!(
            mailbox.memdev().as_ref(),
            "dynamic capacity: the device cannot be asked: {:?}\n",
            error.errno()
        );
        self.exchange.abandon();
        let retry = RETRY.checked_shl(self.failures).unwrap_or(ONCE_IN_A_WHILE);
        self.failures = self.failures.saturating_add(1).min(MOST_DOUBLED);
        retry.min(ONCE_IN_A_WHILE)
    }

    /// The next thing that takes long; what does not is done at once. Where nothing is to be done, after how
    /// many milliseconds there may be.
    pub fn next_job(
        &mut self,
        mailbox: &Mailbox,
        lane: Lane,
    ) -> Result<core::result::Result<Job, u32>> {
        let now = worker::now();
        loop {
            let holdings = self.exchange.holdings_mut();
            let work = match lane {
                Lane::Quick => holdings.begin_quick(now),
                Lane::Removal => holdings.begin_removal(now),
            };
            let Some(work) = work else {
                let due = match lane {
                    Lane::Quick => holdings.next_quick_due(),
                    Lane::Removal => holdings.next_removal_due(),
                };
                return Ok(Err(until(due, now)));
            };
            let (Work::Surface(set) | Work::TakeAway(set) | Work::GiveBack(set)) = work;
            if let Work::GiveBack(set) = work {
                let mut spans = self.exchange.holdings().returning(set).peekable();
                let reply = release(mailbox, &mut spans, &mut self.buffer);
                drop(spans);
                self.change(|holdings| holdings.given_back(set, reply, now));
                continue;
            }
            let job = self.job(work, set);
            if job.is_err() {
                // Nobody will tell how it went.
                self.went(work, Use::Sysram, Ending::TooLate);
            }
            return job.map(Ok);
        }
    }

    /// What has to be known to do `work`, which is about `set`.
    fn job(&self, work: Work, set: Set) -> Result<Job> {
        let holdings = self.exchange.holdings();
        let mut spans = KVec::new();
        let mut lost = KVec::new();
        for entry in holdings.in_order(set) {
            spans.push(entry.extent().span, GFP_KERNEL)?;
            if let Some(span) = entry.lost() {
                lost.push(span, GFP_KERNEL)?;
            }
        }
        let mut areas = self.areas.iter();
        let area = areas.find(|area| holdings.is_within(set, area.terms().span));
        Ok(Job {
            work,
            area: area.cloned(),
            tag: holdings.find(set).and_then(|entry| entry.extent().tag),
            spans,
            lost,
        })
    }

    /// Tells how a job went.
    pub fn done(&mut self, job: &Job, ending: Ending) {
        let purpose = match (&job.area, ending) {
            // To try it again disturbs nobody.
            (_, Ending::Open) => Use::Devdax,
            (Some(area), _) => area.terms().purpose,
            (None, _) => Use::Sysram,
        };
        self.went(job.work, purpose, ending);
    }

    fn went(&mut self, work: Work, purpose: Use, ending: Ending) {
        let now = worker::now();
        self.change(|holdings| match (work, ending) {
            (Work::Surface(set), Ending::Done) => holdings.surfaced(set, true, now),
            (Work::Surface(set), Ending::Failed | Ending::Open) => {
                holdings.surfaced(set, false, now);
            }
            (Work::Surface(set), Ending::Stuck) => {
                // It is not given back before it is out of use.
                holdings.surfaced(set, true, now);
                holdings.want_back_set(set, now);
            }
            // It is for the next region.
            (Work::Surface(set), Ending::TooLate) => holdings.put_off(set, now),
            (Work::TakeAway(set), ending) => {
                holdings.taken_away(set, matches!(ending, Ending::Done), purpose, now);
            }
            (Work::GiveBack(_), _) => {}
        });
    }

    /// Changes what the host has. Where the device may now list what the host does not know of, it is asked soon.
    fn change(&mut self, change: impl FnOnce(&mut Holdings<KVec<Entry>>)) {
        let holdings = self.exchange.holdings_mut();
        let before = holdings.has_holes();
        change(holdings);
        self.hurry |= !before && holdings.has_holes();
    }

    /// Reads all events, and answers what is to be answered.
    fn hold(
        &mut self,
        mailbox: &Mailbox,
        tag_elsewhere: TagElsewhere<'_>,
        now: u64,
    ) -> Result<(), SendError> {
        if self.remembers_tags.is_none() {
            // What there is from before may be asked back by the first event.
            self.take_over(mailbox)?;
            if self.areas.is_empty() && self.holdings().entries().next().is_none() {
                // What is offered waits for the first region.
                self.remembers_tags = None;
                return Ok(());
            }
        }
        if self.unclaimed && self.exchange.is_unbalanced() {
            // What the device has given away since may be offered anew.
            self.balance(mailbox, now)?;
        }
        self.read_events(mailbox, tag_elsewhere, now)?;
        if let Some(why) = self.exchange.expire(now) {
            self.untold = Some(why);
            let (exchange, refusals) = (&mut self.exchange, &mut self.refusals);
            if do_duties(exchange, refusals, mailbox, &mut self.buffer, now)? {
                self.read_events(mailbox, tag_elsewhere, now)?;
            }
        }
        if self.exchange.is_unbalanced() {
            self.balance(mailbox, now)?;
        }
        if let (Some(remembers_tags), true) = (self.remembers_tags, self.unclaimed) {
            for area in &self.terms {
                let holdings = self.exchange.holdings_mut();
                holdings.claim(area, remembers_tags, now);
            }
            self.unclaimed = false;
        }
        Ok(())
    }

    /// Reads the log to its end, and again as often as the exchange asks for it.
    ///
    /// The log tells of a refusal when the device has been told.
    fn read_events(
        &mut self,
        mailbox: &Mailbox,
        tag_elsewhere: TagElsewhere<'_>,
        now: u64,
    ) -> Result<(), SendError> {
        for _ in 0..PAGES {
            let length = mailbox.send(GET_EVENT_RECORDS, &[LOG], &mut self.answer)?;
            let answer = self.answer.get(..length).unwrap_or_default();
            let page = Page::parse(answer).map_err(|why| malformed(mailbox, why))?;
            if page.is_empty() {
                if page.overflow() {
                    self.exchange.overflowed();
                }
                self.untold = self.exchange.drained().or(self.untold);
                let (exchange, refusals) = (&mut self.exchange, &mut self.refusals);
                if do_duties(exchange, refusals, mailbox, &mut self.buffer, now)? {
                    continue;
                }
                return Ok(());
            }
            for record in page.records() {
                let refusal = match record.event() {
                    Ok(event) => {
                        let terms = Terms {
                            areas: &self.terms,
                            tag_elsewhere,
                        };
                        let exchange = &mut self.exchange;
                        take(exchange, mailbox, &event, &terms, &mut self.buffer, now)
                    }
                    Err(why) => {
                        malformed(mailbox, why);
                        None
                    }
                };
                let (exchange, refusals) = (&mut self.exchange, &mut self.refusals);
                do_duties(exchange, refusals, mailbox, &mut self.buffer, now)?;
                if let Some((count, why)) = refusal {
                    refusals.note(mailbox, format_args!("an offer of {count} extents"), why);
                }
            }
            // What was lost is later than these.
            if page.overflow() {
                self.exchange.overflowed();
            }
            let mut handles = page.records().map(|record| record.handle()).peekable();
            while let Some(length) = payload::clear(&mut handles, &mut self.buffer) {
                let payload = self.buffer.get(..length).unwrap_or_default();
                mailbox.send(CLEAR_EVENT_RECORDS, payload, &mut [])?;
            }
        }
        let why = Malformed::new("an event log without an end");
        Err(malformed(mailbox, why))
    }

    /// Takes over what the device lists from before.
    fn take_over(&mut self, mailbox: &Mailbox) -> Result<(), SendError> {
        let configuration = read_configuration(mailbox, &mut self.buffer)?;
        let remembers_tags = configuration.is_some_and(|device| device.remembers_tags());
        let listed = read_list(mailbox, &mut self.answer)?;
        let extents = listed.extents.iter().copied();
        let is_memory = |span| holds::is_left_over(mailbox.memdev(), span);
        if self
            .exchange
            .holdings_mut()
            .adopt(&extents, is_memory)
            .is_err()
        {
            dev_warn!(
                mailbox.memdev().as_ref(),
                "dynamic capacity: the device lists more extents than there is room for\n"
            );
        }
        self.remembers_tags = Some(remembers_tags);
        self.unclaimed = true;
        Ok(())
    }

    /// Compares what the device lists with what we have: what we do not know of is given back, and what it does not
    /// know of is lost.
    fn balance(&mut self, mailbox: &Mailbox, now: u64) -> Result<(), SendError> {
        let listed = read_list(mailbox, &mut self.answer)?;
        for extent in &listed.extents {
            let held = self.exchange.holdings().overlapping(extent.span);
            if held.is_none() {
                let mut span = core::iter::once(extent.span).peekable();
                release(mailbox, &mut span, &mut self.buffer);
            }
        }
        if !listed.is_complete {
            // What is not on it may be among the rest.
            return Ok(());
        }
        let spans = listed.extents.iter().map(|extent| extent.span);
        while let Some((span, in_use)) = self.exchange.holdings_mut().compare(&spans, now) {
            lost(mailbox, span, in_use);
        }
        Ok(())
    }
}

/// How many milliseconds there are from `now` to `due`, at most until the next look at everything.
fn until(due: Option<u64>, now: u64) -> u32 {
    due.and_then(|due| u32::try_from(due.saturating_sub(now)).ok())
        .map_or(ONCE_IN_A_WHILE, |wait| wait.min(ONCE_IN_A_WHILE))
}

/// What is decided by.
struct Terms<'a> {
    areas: &'a [admission::Area],
    tag_elsewhere: TagElsewhere<'a>,
}

/// Takes an event. Returns how many extents of an offer will be refused, and why.
fn take(
    exchange: &mut Exchange<KVec<Entry>>,
    mailbox: &Mailbox,
    event: &Event,
    terms: &Terms<'_>,
    buffer: &mut [u8],
    now: u64,
) -> Option<(usize, Refusal)> {
    match exchange.record(event, terms.areas, terms.tag_elsewhere, now) {
        Outcome::Decided { refused, .. } => refused,
        Outcome::NotHeld(extent) => {
            // What the device thinks that we have, and we do not use, it may have at once.
            let mut span = core::iter::once(extent.span).peekable();
            release(mailbox, &mut span, buffer);
            None
        }
        Outcome::Lost { extent, in_use } => {
            lost(mailbox, extent.span, in_use);
            None
        }
        Outcome::Reconfigured => {
            dev_warn!(
                mailbox.memdev().as_ref(),
                "dynamic capacity: the device says that its regions have changed; bind the memdev to cxl_mem anew for that\n"
            );
            None
        }
        Outcome::Collecting | Outcome::WantedBack | Outcome::Unreadable => None,
    }
}

/// Tells that the device took `span` without asking.
fn lost(mailbox: &Mailbox, span: Span, in_use: bool) {
    if in_use {
        dev_emerg!(
            mailbox.memdev().as_ref(),
            "dynamic capacity: {} was taken without asking while it was in use: what was in it is lost\n",
            Text(span)
        );
    } else {
        dev_warn!(
            mailbox.memdev().as_ref(),
            "dynamic capacity: {} was taken without asking\n",
            Text(span)
        );
    }
}

fn malformed(mailbox: &Mailbox, why: Malformed) -> SendError {
    dev_warn!(
        mailbox.memdev().as_ref(),
        "dynamic capacity: {}\n",
        Text(why)
    );
    SendError::Failed(EPROTO)
}

/// Does what the exchange owes the device. Returns whether the log has to be read again.
fn do_duties(
    exchange: &mut Exchange<KVec<Entry>>,
    refusals: &mut Refusals,
    mailbox: &Mailbox,
    buffer: &mut [u8],
    now: u64,
) -> Result<bool, SendError> {
    loop {
        let reply = match exchange.duty() {
            Duty::Nothing => return Ok(false),
            Duty::ReadLog => return Ok(true),
            Duty::Standing => {
                let pending = read_pending(mailbox, buffer)?;
                exchange.standing(pending);
                continue;
            }
            Duty::Accept => {
                let mut spans = exchange.accepting().map(|extent| extent.span).peekable();
                send_ranges(mailbox, ADD_RESPONSE, &mut spans, buffer)
            }
            Duty::Refuse => {
                let mut none = core::iter::empty().peekable();
                send_ranges(mailbox, ADD_RESPONSE, &mut none, buffer)
            }
        };
        if let Some(why) = exchange.answered(reply, now) {
            refusals.note(mailbox, format_args!("an offer"), why);
        }
    }
}

/// Gives ranges back.
fn release(
    mailbox: &Mailbox,
    spans: &mut Peekable<impl Iterator<Item = Span>>,
    buffer: &mut [u8],
) -> Reply {
    if spans.peek().is_none() {
        return Reply::Done;
    }
    send_ranges(mailbox, RELEASE, spans, buffer)
}

/// Sends a command with a list of ranges, in as many parts as it takes.
fn send_ranges(
    mailbox: &Mailbox,
    opcode: u16,
    spans: &mut Peekable<impl Iterator<Item = Span>>,
    buffer: &mut [u8],
) -> Reply {
    loop {
        let Some(length) = payload::ranges(spans, buffer) else {
            return Reply::Failed;
        };
        let payload = buffer.get(..length).unwrap_or_default();
        match mailbox.send(opcode, payload, &mut []) {
            Ok(_) if spans.peek().is_some() => {}
            Ok(_) => return Reply::Done,
            Err(SendError::Refused(_)) => return Reply::Refused,
            Err(SendError::Failed(_)) => return Reply::Failed,
        }
    }
}

/// How many extents wait for an answer, as the device counts them.
fn read_pending(mailbox: &Mailbox, buffer: &mut [u8]) -> Result<u32, SendError> {
    let configuration = read_configuration(mailbox, buffer)?.ok_or(SendError::Failed(EPROTO))?;
    let length = mailbox.send(GET_EXTENT_LIST, &list::request(0, 0), buffer)?;
    let answer = buffer.get(..length).unwrap_or_default();
    let page = list::Page::parse(0, answer).map_err(|why| malformed(mailbox, why))?;
    Ok(configuration.pending(page.total))
}

/// The device's configuration; `None` if it has no dynamic capacity.
pub fn read_configuration(
    mailbox: &Mailbox,
    buffer: &mut [u8],
) -> Result<Option<Configuration>, SendError> {
    let mut configuration = Configuration::default();
    loop {
        let length = match mailbox.send(GET_CONFIGURATION, &configuration.request(), buffer) {
            Ok(length) => length,
            Err(SendError::Refused(UNSUPPORTED)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let answer = buffer.get(..length).unwrap_or_default();
        let more = configuration
            .take(answer)
            .map_err(|why| malformed(mailbox, why))?;
        if !more {
            return Ok(Some(configuration));
        }
    }
}

/// Whether the device counts anything as the host's.
pub fn holds_extents(mailbox: &Mailbox, buffer: &mut [u8]) -> Result<bool, SendError> {
    let length = mailbox.send(GET_EXTENT_LIST, &list::request(0, 0), buffer)?;
    let answer = buffer.get(..length).unwrap_or_default();
    let page = list::Page::parse(0, answer).map_err(|why| malformed(mailbox, why))?;
    Ok(page.total > 0)
}

/// What the device lists as ours.
struct Listed {
    extents: KVec<Extent>,
    /// Whether that is all: there is room for [`EXTENTS`].
    is_complete: bool,
}

fn read_list(mailbox: &Mailbox, buffer: &mut [u8]) -> Result<Listed, SendError> {
    let mut extents = KVec::new();
    let mut generation = None;
    let mut readings: u32 = 0;
    loop {
        let start = u32::try_from(extents.len()).map_err(Error::from)?;
        let count = u32::try_from(list::extents_in(buffer.len())).map_err(Error::from)?;
        let length = mailbox.send(GET_EXTENT_LIST, &list::request(start, count), buffer)?;
        let answer = buffer.get(..length).unwrap_or_default();
        let page = list::Page::parse(start, answer).map_err(|why| malformed(mailbox, why))?;
        if generation
            .replace(page.generation)
            .is_some_and(|before| before != page.generation)
        {
            // It changed meanwhile.
            extents.clear();
            generation = None;
            readings = readings.saturating_add(1);
            if readings > READINGS {
                let why = Malformed::new("a list of extents that never stays as it is");
                return Err(malformed(mailbox, why));
            }
            continue;
        }
        let before = extents.len();
        for extent in page.extents() {
            let extent = extent.map_err(|why| malformed(mailbox, why))?;
            extents.push(extent, GFP_KERNEL).map_err(Error::from)?;
        }
        let is_complete = u32::try_from(extents.len()).is_ok_and(|length| length >= page.total);
        if is_complete || extents.len() >= EXTENTS as usize {
            return Ok(Listed {
                extents,
                is_complete,
            });
        }
        if extents.len() == before {
            let why = Malformed::new("a list of extents that ends too early");
            return Err(malformed(mailbox, why));
        }
    }
}
