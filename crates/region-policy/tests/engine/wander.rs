// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The walks of the crate `walk`, on the model instead of the real kernel: one region, and long sequences in which each
//! transition begins where the one before it ended, with what it left behind in policy, words and single blocks.

use proptest::prelude::*;
use region_policy::blocks::{BlockState, Blocks};
use region_policy::engine::{perform, plug, Error};
use region_policy::errno::{EBUSY, EINVAL, EIO, EPERM};
use region_policy::journal::{Entry, Journal};
use region_policy::online_type::OnlineType;
use region_policy::request::Request;
use region_policy::state::{DeviceState, Vocabulary};
use region_policy::zone::{ZoneKind, ZoneRule};
use walk::generate::{phrase, Ground};
use walk::operation::{Answer, Driver, File, Program};
use walk::promise::{Judge, Step};
use walk::scene::{Dax, Region, Scene, Spot, Sysram};
use walk::Operation;

use crate::fate::Fate;
use crate::model::Model;

/// What the driver core and the region drivers answer, and the engine never does.
const ENXIO: i32 = 6;
const ENODEV: i32 = 19;

const GROUND: Ground = Ground {
    places: 1,
    blocks: 4,
};

/// Goes around in a list of choices.
struct Wheel<'c> {
    choices: &'c [u8],
    turned: usize,
}

impl Fate for Wheel<'_> {
    fn choose(&mut self, options: usize) -> usize {
        self.turned += 1;
        let choice = self.choices.get(self.turned % self.choices.len().max(1));
        choice.map_or(0, |choice| usize::from(*choice) % options)
    }
}

/// A machine with one region, which may not be there.
#[derive(Default)]
struct Machine {
    region: Option<Policy>,
    blocks: Vec<BlockState>,
    /// How many things may go wrong in a transition, while blocks are refused.
    adversities: usize,
    /// Whether anything went wrong in the step at hand.
    suffered: bool,
}

/// A region under its driver.
#[derive(Clone, Copy, Default)]
struct Policy {
    chosen: Option<OnlineType>,
    /// Whether kmem has its device.
    bound: bool,
    last_requested: Option<OnlineType>,
}

/// What is asked of the engine.
enum Ask {
    Request(Request),
    FirstAdd(OnlineType),
}

impl Machine {
    fn rule(&self) -> ZoneRule {
        ZoneRule::from_policy(self.region.and_then(|region| region.chosen))
    }

    fn is_empty(&self) -> bool {
        self.blocks.iter().all(|block| !block.is_present())
    }

    /// Lets the engine work on the blocks as they are.
    fn engine(&mut self, ask: &Ask, fate: &mut dyn Fate) -> Result<Option<OnlineType>, i32> {
        let range = [Blocks::new(8, u64::from(GROUND.blocks)).unwrap()];
        let region = self.region.unwrap_or_default();
        let mut model = Model::new(&range, &self.blocks, self.rule(), self.adversities, fate);
        let mut storage = vec![Entry::UNUSED; Journal::entries_for(&range)];
        let journal = Journal::read(&model, &mut storage).unwrap();
        let answer = match ask {
            Ask::Request(request) => perform(
                &mut model,
                journal,
                *request,
                region.last_requested,
                region.chosen,
            )
            .map(|outcome| outcome.last_requested)
            .map_err(|error| match error {
                Error::Refused(refusal) => refusal.errno(),
                Error::Failed(_) => EIO,
            }),
            Ask::FirstAdd(online_type) => plug(&mut model, journal, *online_type)
                .map(|_| Some(*online_type))
                .map_err(|_| EIO),
        };
        self.suffered |= model.adversities() > 0;
        self.blocks = model.states().into_values().collect();
        answer
    }

    fn request(&mut self, request: Option<Request>, fate: &mut dyn Fate) -> Answer {
        let Some(request) = request else {
            return Answer::Refused(EINVAL);
        };
        match self.engine(&Ask::Request(request), fate) {
            Ok(last_requested) => {
                if let Some(region) = &mut self.region {
                    region.last_requested = last_requested;
                }
                Answer::Done
            }
            Err(errno) => Answer::Refused(errno),
        }
    }

    fn bind(&mut self, fate: &mut dyn Fate) -> Answer {
        let Some(region) = self.region else {
            return Answer::Absent;
        };
        let Some(policy) = region.chosen else {
            return Answer::Refused(ENXIO);
        };
        if region.bound || !self.is_empty() {
            return Answer::Refused(EBUSY);
        }
        match self.engine(&Ask::FirstAdd(policy), fate) {
            Ok(last_requested) => {
                self.region = Some(Policy {
                    bound: true,
                    last_requested,
                    ..region
                });
                Answer::Done
            }
            Err(errno) => Answer::Refused(errno),
        }
    }

    fn unbind(&mut self, fate: &mut dyn Fate) -> Answer {
        let Some(region) = self.region.filter(|region| region.bound) else {
            return Answer::Refused(ENODEV);
        };
        // It cannot fail: what cannot be unplugged stays behind.
        let _ = self.engine(&Ask::Request(Request::Unplug), fate);
        self.region = Some(Policy {
            bound: false,
            last_requested: None,
            ..region
        });
        Answer::Done
    }

    fn block(&mut self, number: u8, word: &str, fate: &mut dyn Fate) -> Answer {
        let counts = self.blocks.iter().copied().collect();
        let rule = self.rule();
        let block = &mut self.blocks[usize::from(number)];
        let zone = match OnlineType::parse(word.as_bytes()) {
            _ if !block.is_present() => return Answer::Absent,
            Some(OnlineType::Offline) if block.is_online() => {
                *block = BlockState::Offline;
                return Answer::Done;
            }
            Some(OnlineType::Online) => ZoneKind::ALL[fate.choose(2)],
            Some(OnlineType::OnlineKernel) => ZoneKind::Kernel,
            Some(OnlineType::OnlineMovable) => ZoneKind::Movable,
            Some(OnlineType::Offline) | None => return Answer::Refused(EINVAL),
        };
        if block.is_online() {
            Answer::Refused(EINVAL)
        } else if rule.admits(counts, zone) {
            *block = BlockState::Online(zone);
            Answer::Done
        } else {
            Answer::Refused(EPERM)
        }
    }

    fn write(&mut self, file: File, word: &str, fate: &mut dyn Fate) -> Answer {
        let bound = self.region.is_some_and(|region| region.bound);
        let request = |vocabulary: Vocabulary| vocabulary.parse(word.as_bytes()).ok();
        match file {
            File::State(_) if bound => self.request(request(Vocabulary::State), fate),
            File::Hotplug(_) if bound => self.request(request(Vocabulary::Hotplug), fate),
            File::Bind(Driver::DaxKmem, _) if word.is_empty() => self.bind(fate),
            File::Unbind(Driver::DaxKmem, _) if word.is_empty() => self.unbind(fate),
            File::Block(_, number) => self.block(number, word, fate),
            File::OnlineType(_) => {
                let empty = self.is_empty();
                let Some(region) = &mut self.region else {
                    return Answer::Absent;
                };
                let Some(policy) = OnlineType::parse(word.as_bytes()) else {
                    return Answer::Refused(EINVAL);
                };
                if bound || !empty {
                    return Answer::Refused(EBUSY);
                }
                region.chosen = Some(policy);
                Answer::Done
            }
            File::OnlineFault | File::OfflineFault => {
                self.adversities = if word == "0" { 0 } else { 2 };
                Answer::Done
            }
            _ => Answer::Absent,
        }
    }

    fn run(&mut self, program: &Program, fate: &mut dyn Fate) -> Answer {
        match program {
            Program::Commit(_) if self.region.is_none() => {
                self.region = Some(Policy::default());
                Answer::Done
            }
            Program::Create(_, word) if self.region.is_none() => {
                self.region = Some(Policy {
                    chosen: OnlineType::parse(word.as_bytes()),
                    ..Policy::default()
                });
                let answer = self.bind(fate);
                match answer {
                    Answer::Done => Answer::Done,
                    // Not even the region can be taken back from under memory.
                    _ if !self.is_empty() => Answer::Failed(3),
                    _ => {
                        self.region = None;
                        Answer::Failed(1)
                    }
                }
            }
            Program::Destroy(_) if self.region.is_some() => {
                if self.engine(&Ask::Request(Request::Unplug), fate).is_err() {
                    return Answer::Failed(1);
                }
                self.region = None;
                Answer::Done
            }
            _ => Answer::Absent,
        }
    }

    fn perform(&mut self, operation: &Operation, fate: &mut dyn Fate) -> Answer {
        match operation {
            Operation::Write(file, word) => self.write(*file, word, fate),
            Operation::Run(program) => self.run(program, fate),
            Operation::GoHome => {
                self.adversities = 0;
                let unplugged = self.engine(&Ask::Request(Request::Unplug), fate);
                assert_eq!(unplugged, Ok(None), "there is a way back");
                assert!(self.is_empty(), "there is a way back");
                self.region = None;
                Answer::Done
            }
            _ => Answer::Absent,
        }
    }

    fn scene(&self) -> Scene {
        let counts = self.blocks.iter().copied().collect();
        let region = self.region.map(|region| {
            let state = DeviceState::observe(counts, region.last_requested);
            let word = |vocabulary: Vocabulary| Some(vocabulary.word(state).to_owned());
            Region {
                committed: true,
                locked: region.bound || !self.is_empty(),
                driver: Some("cxl_sysram_region".to_owned()),
                devdax: None,
                sysram: Some(Sysram {
                    policy: region.chosen,
                    bound: region.bound,
                }),
                dax: region.bound.then(|| Dax {
                    driver: Some("kmem".to_owned()),
                    state: word(Vocabulary::State),
                    hotplug: word(Vocabulary::Hotplug),
                }),
            }
        });
        Scene {
            places: vec![Spot {
                memdev: true,
                region,
                blocks: self.blocks.clone(),
            }],
            data_intact: true,
            ..Scene::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_promise_is_kept_at_every_step(
        script in proptest::collection::vec(phrase(GROUND), 1..300),
        choices in proptest::collection::vec(any::<u8>(), 1..100),
    ) {
        let mut fate = Wheel { choices: &choices, turned: 0 };
        let mut machine = Machine {
            blocks: vec![BlockState::Absent; usize::from(GROUND.blocks)],
            ..Machine::default()
        };
        let mut judge = Judge::default();
        for operation in script.into_iter().flatten().chain([Operation::GoHome]) {
            let before = machine.scene();
            machine.suffered = false;
            let answer = machine.perform(&operation, &mut fate);
            let step = Step {
                operation: &operation,
                answer: &answer,
                disturbed: machine.suffered,
            };
            let verdict = judge.judge(&before, step, &machine.scene());
            prop_assert!(verdict.is_ok(), "{operation}: {answer}: {verdict:?}");
        }
    }
}
