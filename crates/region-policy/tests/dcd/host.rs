// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! A host, as the module is one: reads the log, does its duties, turns extents into memory and back. Between
//! any two of its commands the fabric may act, any command may get lost, and memory may be in use.

use std::collections::BTreeMap;

use region_policy::dcd::admission::{Area, Use};
use region_policy::dcd::configuration::Configuration;
use region_policy::dcd::event::Page;
use region_policy::dcd::exchange::{Duty, Exchange, Outcome};
use region_policy::dcd::holdings::{Entry, Phase, Reply, Set, Work};
use region_policy::dcd::{list, payload};
use region_policy::extent::{Extent, Span};

use crate::device::{Device, Refused, SUPPORTED};
use crate::fate::Fate;

/// A block of memory, in bytes.
pub const BLOCK: u64 = 128 << 20;

/// All of the device.
fn whole() -> Span {
    Span::new(0, 1 << 40).unwrap()
}

/// How many records the host reads at once.
const PAGE: usize = 3;

/// What the fabric may do.
pub type Act = fn(&mut Device);

/// A machine with one device.
pub struct Host<'f> {
    pub device: Device,
    pub exchange: Exchange<Vec<Entry>>,
    /// What is memory, by set.
    pub memory: BTreeMap<u32, Vec<Span>>,
    pub purpose: Use,
    /// Whether there is a region over the device.
    has_region: bool,
    fate: &'f mut dyn Fate,
    /// What the fabric may do, and how many times more it acts.
    acts: &'f [Act],
    pub acts_left: usize,
    /// How many more commands may get lost, and how many more times memory may be in use.
    pub faults_left: usize,
    now: u64,
    /// What was done, for whoever has to find out what went wrong.
    pub story: Vec<String>,
}

impl<'f> Host<'f> {
    pub fn new(
        device: Device,
        purpose: Use,
        acts: &'f [Act],
        acts_left: usize,
        faults_left: usize,
        fate: &'f mut dyn Fate,
    ) -> Self {
        Self {
            device,
            exchange: Exchange::new(vec![Entry::UNUSED; SUPPORTED]),
            memory: BTreeMap::new(),
            purpose,
            has_region: true,
            fate,
            acts,
            acts_left,
            faults_left,
            now: 0,
            story: Vec::new(),
        }
    }

    fn tell(&mut self, what: String) {
        self.story.push(what);
        assert!(
            self.story.len() < 20_000,
            "it comes to an end:\n{}",
            self.story[..200].join("\n")
        );
    }

    fn area(&self) -> Area {
        Area {
            region: 0,
            span: whole(),
            physical: 1 << 40,
            alignment: BLOCK,
            purpose: self.purpose,
        }
    }

    /// The region goes, with its memory or without, and another comes. A device without memory in use can be `reset`
    /// meanwhile, and nobody is told.
    fn rebind(&mut self, reset: bool) {
        self.tell("the region goes".into());
        if self.fault(1) == 0 {
            self.memory.clear();
        }
        self.has_region = false;
        let left: Vec<Span> = self.memory.values().flatten().copied().collect();
        let now = self.now;
        let holdings = self.exchange.holdings_mut();
        holdings.unclaim(whole(), |span| left.contains(&span), now);
        self.let_fabric_act();
        self.handle_events();
        while let Some(work) = self.exchange.holdings_mut().begin(self.now) {
            self.work(work);
        }
        if reset && self.memory.is_empty() {
            self.tell("the device is reset".into());
            self.device.reset();
        }
        self.tell("another region comes".into());
        self.has_region = true;
        self.exchange.doubt();
        self.balance();
        self.handle_events();
        let (area, now) = (self.area(), self.now);
        self.exchange.holdings_mut().claim(&area, true, now);
    }

    /// Fails if any of this is memory: the device may give it to somebody else.
    fn assert_no_memory(&self, spans: &[Span]) {
        for span in spans {
            let mut memory = self.memory.values().flatten();
            assert!(
                !memory.any(|other| other.overlaps(*span)),
                "{span} is memory:\n{}",
                self.story.join("\n")
            );
        }
    }

    /// Does everything until there is nothing left to do, however long it takes.
    pub fn settle(&mut self) {
        loop {
            self.let_fabric_act();
            let reset = core::mem::take(&mut self.device.reset_requested);
            if core::mem::take(&mut self.device.rebind_requested) || reset {
                self.rebind(reset);
            }
            self.handle_events();
            if let Some(deadline) = self.exchange.deadline() {
                self.now = self.now.max(deadline);
                self.exchange.expire(self.now);
                self.handle_events();
            }
            while let Some(work) = self.exchange.holdings_mut().begin(self.now) {
                self.work(work);
                self.let_fabric_act();
                self.handle_events();
            }
            match self.exchange.holdings().next_due() {
                Some(due) => self.now = self.now.max(due),
                None if self.acts_left == 0 => break,
                None => {
                    // There is nothing else to wait for.
                    let choice = self.fate.choose(self.acts.len());
                    self.act(choice);
                }
            }
        }
    }

    /// Looks after everything again, as the module does once in a while.
    pub fn look_again(&mut self) {
        self.exchange.doubt();
        self.settle();
    }

    fn let_fabric_act(&mut self) {
        if self.acts_left == 0 {
            return;
        }
        let choice = self.fate.choose(self.acts.len() + 1);
        if choice > 0 {
            self.act(choice - 1);
        }
    }

    fn act(&mut self, choice: usize) {
        self.acts_left -= 1;
        self.tell(format!("fabric acts: {choice}"));
        self.acts[choice](&mut self.device);
    }

    /// Whether something goes wrong: 0, or in which way.
    fn fault(&mut self, ways: usize) -> usize {
        if self.faults_left == 0 {
            return 0;
        }
        let fault = self.fate.choose(ways + 1);
        if fault > 0 {
            self.faults_left -= 1;
            self.tell(format!("fault {fault}"));
        }
        fault
    }

    /// Sends a command that changes something. It may get lost, on its way there or back.
    fn command(&mut self, command: impl FnOnce(&mut Device) -> Result<(), Refused>) -> Reply {
        let fault = self.fault(2);
        if fault == 1 {
            return Reply::Failed;
        }
        let reply = match command(&mut self.device) {
            Ok(()) => Reply::Done,
            Err(Refused) => Reply::Refused,
        };
        self.let_fabric_act();
        if fault == 2 {
            Reply::Failed
        } else {
            reply
        }
    }

    fn handle_events(&mut self) {
        loop {
            let bytes = self.device.get_events(PAGE);
            self.let_fabric_act();
            let page = Page::parse(&bytes).unwrap();
            for record in page.records() {
                let event = record.event().unwrap();
                let areas: Vec<Area> = self.has_region.then(|| self.area()).into_iter().collect();
                let outcome = self.exchange.record(&event, &areas, |_| false, self.now);
                self.tell(format!("{event:?}: {outcome:?}"));
                if let Outcome::NotHeld(extent) = outcome {
                    self.give_back([extent.span].into_iter());
                }
                self.do_duties();
            }
            // What was lost is later than these.
            if page.overflow() {
                self.exchange.overflowed();
            }
            let mut handles = page.records().map(|record| record.handle()).peekable();
            let mut buffer = [0; 64];
            while let Some(length) = payload::clear(&mut handles, &mut buffer) {
                self.device.clear_events(&buffer[..length]);
            }
            self.let_fabric_act();
            if page.is_empty() {
                self.exchange.drained();
                if !self.do_duties() {
                    break;
                }
            }
        }
        if self.exchange.is_unbalanced() {
            self.balance();
        }
    }

    /// Returns whether the log has to be read again.
    fn do_duties(&mut self) -> bool {
        loop {
            let duty = self.exchange.duty();
            self.tell(format!("duty {duty:?}"));
            let accepting: Vec<Extent> = match duty {
                Duty::Nothing => return false,
                Duty::ReadLog => return true,
                Duty::Standing => {
                    let mut configuration = Configuration::default();
                    configuration.take(&self.device.configuration()).unwrap();
                    self.let_fabric_act();
                    let accepted = self.device.list(list::request(0, 0));
                    let accepted = list::Page::parse(0, &accepted).unwrap().total;
                    self.exchange.standing(configuration.pending(accepted));
                    continue;
                }
                Duty::Accept => self.exchange.accepting().collect(),
                Duty::Refuse => Vec::new(),
            };
            let mut spans = accepting.iter().map(|extent| extent.span).peekable();
            let mut buffer = [0; 1024];
            let length = payload::ranges(&mut spans, &mut buffer).unwrap();
            let reply = self.command(|device| device.answer(&buffer[..length]));
            self.tell(format!("{reply:?}"));
            self.exchange.answered(reply, self.now);
        }
    }

    fn give_back(&mut self, spans: impl Iterator<Item = Span>) -> Reply {
        let mut buffer = [0; 1024];
        let length = payload::ranges(&mut spans.peekable(), &mut buffer).unwrap();
        self.command(|device| device.release(&buffer[..length]))
    }

    /// Compares what the device lists with what the host has.
    fn balance(&mut self) {
        let bytes = self.device.list(list::request(0, u32::MAX));
        self.let_fabric_act();
        let page = list::Page::parse(0, &bytes).unwrap();
        let listed: Vec<Span> = page.extents().map(|extent| extent.unwrap().span).collect();
        for span in &listed {
            let known = self.exchange.holdings().entries().any(|entry| {
                entry.phase() != Phase::Offered && entry.extent().span.overlaps(*span)
            });
            if !known {
                self.tell(format!("unknown {span}"));
                self.give_back([*span].into_iter());
            }
        }
        let now = self.now;
        let holdings = self.exchange.holdings_mut();
        while let Some((span, _)) = holdings.compare(&listed.iter().copied(), now) {
            assert!(!listed.iter().any(|listed| listed.covers(span)));
        }
    }

    fn work(&mut self, work: Work) {
        self.tell(format!("{work:?}"));
        match work {
            Work::Surface(set) if !self.has_region => {
                let now = self.now;
                self.exchange.holdings_mut().put_off(set, now);
            }
            Work::Surface(set) => {
                // It does not come, or it comes in part and cannot go again.
                let fault = self.fault(2);
                let spans: Vec<Span> = self.spans(set);
                if fault != 1 {
                    // What was left behind is taken up.
                    let left = self.memory.remove(&set.number());
                    assert!(left.as_ref().is_none_or(|left| *left == spans));
                    self.assert_no_memory(&spans);
                    let taken = spans.iter().find(|span| self.device.was_taken(**span));
                    assert!(
                        left.is_some() || taken.is_none(),
                        "{taken:?} is nobody's:\n{}",
                        self.story.join("\n")
                    );
                    self.memory.insert(set.number(), spans);
                }
                self.let_fabric_act();
                self.handle_events();
                let (is_memory, now) = (self.memory.contains_key(&set.number()), self.now);
                let holdings = self.exchange.holdings_mut();
                holdings.surfaced(set, is_memory, now);
                if is_memory && fault != 0 {
                    holdings.want_back_set(set, now);
                }
            }
            Work::TakeAway(set) => {
                let out_of_use = self.has_region && self.fault(1) == 0;
                if out_of_use {
                    self.memory.remove(&set.number()).expect("it is memory");
                }
                self.let_fabric_act();
                self.handle_events();
                let (purpose, now) = (self.purpose, self.now);
                let holdings = self.exchange.holdings_mut();
                holdings.taken_away(set, out_of_use, purpose, now);
            }
            Work::GiveBack(set) => {
                let spans: Vec<Span> = self.exchange.holdings().returning(set).collect();
                self.assert_no_memory(&spans);
                let reply = if spans.is_empty() {
                    Reply::Done
                } else {
                    self.give_back(spans.into_iter())
                };
                let now = self.now;
                self.exchange.holdings_mut().given_back(set, reply, now);
            }
        }
    }

    fn spans(&self, set: Set) -> Vec<Span> {
        let holdings = self.exchange.holdings();
        let order = holdings.in_order(set);
        order.map(|entry| entry.extent().span).collect()
    }
}
