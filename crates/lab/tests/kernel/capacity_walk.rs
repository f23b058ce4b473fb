// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whatever a fabric manager, a user and an administrator do with the capacity of a device, in whatever order: the device's
//! list is what the host has, and that is what the kernel has online.
//!
//! `CXL_CAPACITY_ACTS` tells how many acts there are, and `CXL_CAPACITY_SEED` what they are drawn with.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::fabric::Extent;
use lab::fabric::manager::Manager;
use lab::suite::Test;
use lab::topology::MIB;

use crate::dynamic_capacity::device_states;
use crate::dynamic_capacity::extent_file;
use crate::dynamic_capacity::extents;
use crate::support::Log;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;
use crate::support::number;

/// How many acts there are, where nobody tells.
const ACTS: u64 = 200;

/// How many memory blocks the device's capacity has.
const BLOCKS: u64 = 16;

const TAGS: [&str; 3] = [
    "5be13bce-ae34-4a77-b6c3-16df975fcf1a",
    "1d5b4a70-9b63-4c3c-a0f7-6b2e9b1c5d0a",
    "8c0e9c3e-4f6b-4f0a-9d55-3f2c7f1f9e21",
];

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "capacity: whatever fabric, users and administrators do, the books of device, host and kernel are equal",
        loaded("dc-switch"),
        walk,
    )]
}

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let count = u64::try_from(choices.len())
            .ok()
            .filter(|count| *count > 0)?;
        let index = usize::try_from(self.below(count)).ok()?;
        choices.get(index).copied()
    }
}

/// Extents that come and go together, by the block that each is.
#[derive(Clone)]
struct Set {
    tag: Option<&'static str>,
    blocks: Vec<u64>,
}

/// What somebody does.
#[derive(Debug)]
enum Act {
    /// The fabric offers blocks as one group.
    Offer(Option<&'static str>, Vec<u64>),
    /// The fabric offers half of a block.
    OfferHalf(u64),
    /// The fabric asks a whole set back, which may be just arriving.
    AskBack(usize),
    /// The fabric asks a part of a block back: all of its set goes.
    AskPartBack(usize),
    /// A user gives a set back.
    GiveBack(usize),
    /// An administrator takes the region from its driver, and gives it back.
    Rebind,
}

struct Walk<'g> {
    guest: &'g Guest,
    manager: Manager<'g>,
    region: Region<'g>,
    /// What the host should have.
    sets: Vec<Set>,
    /// What is on its way since the books were balanced: neither device nor host is asked about that meanwhile.
    moving: Vec<Set>,
}

fn extent(block: u64) -> Extent {
    Extent {
        offset: block * 128 * MIB,
        length: 128 * MIB,
    }
}

fn walk(guest: &Guest) -> Result<()> {
    let seed = number("CXL_CAPACITY_SEED", u64::from(std::process::id()))?;
    let acts = number("CXL_CAPACITY_ACTS", ACTS)?;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    guest.sh_ok("cxlr create-region -t dc 0x100 --online-type online_movable")?;
    let mut walk = Walk {
        guest,
        manager: Manager::new(guest, 0),
        region: Region::named(guest, "region0")?,
        sets: Vec::new(),
        moving: Vec::new(),
    };
    for number in 0..acts {
        let act = walk.draw(&mut random);
        let told = format!("seed {seed}, act {number}, {act:?}");
        let failed = |error: Error| Error::test(format!("{told}: {error}"));
        walk.act(act).map_err(failed)?;
        // Now and then the next act comes before this one is through.
        if random.below(2) == 0 {
            walk.balance().map_err(failed)?;
        }
    }
    walk.balance()?;
    guest.sh_ok("cxlr destroy-region region0 && cxlr create-region -t dc 0x100")?;
    walk.balance()?;
    while !walk.sets.is_empty() {
        walk.act(Act::AskBack(0))?;
    }
    walk.balance()?;
    guest.sh_ok("cxlr destroy-region region0").map(drop)
}

impl Walk<'_> {
    fn draw(&self, random: &mut Random) -> Act {
        let all = || self.sets.iter().chain(&self.moving);
        let is_free = |block: &u64| !all().any(|set| set.blocks.contains(block));
        let mut free: Vec<u64> = (0..BLOCKS).filter(is_free).collect();
        let is_settled = |index: &usize| {
            let blocks = &self.sets[*index].blocks;
            !self.moving.iter().any(|moving| moving.blocks == *blocks)
        };
        let settled: Vec<usize> = (0..self.sets.len()).filter(is_settled).collect();
        let any: Vec<usize> = (0..self.sets.len()).collect();
        let kind = random.below(12);
        if let (0..=1, Some(set)) = (kind, random.pick(&any)) {
            return Act::AskBack(set);
        }
        match (kind, random.pick(&settled)) {
            (2, Some(set)) => Act::AskBack(set),
            (3, Some(set)) => Act::AskPartBack(set),
            (4, Some(set)) => Act::GiveBack(set),
            (6, _) if !free.is_empty() => Act::OfferHalf(random.pick(&free).unwrap_or_default()),
            (7.., _) if !free.is_empty() => {
                let moves = |tag: &&str| self.moving.iter().any(|set| set.tag == Some(*tag));
                let tag = random.pick(&TAGS).filter(|_| random.below(2) == 0);
                let mut blocks = Vec::new();
                for _ in 0..=random.below(3) {
                    if let Some(block) = random.pick(&free) {
                        free.retain(|other| *other != block);
                        blocks.push(block);
                    }
                }
                Act::Offer(tag.filter(|tag| !moves(tag)), blocks)
            }
            _ => Act::Rebind,
        }
    }

    fn act(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Offer(tag, blocks) => {
                let extents: Vec<Extent> = blocks.iter().copied().map(extent).collect();
                let is_used = tag.is_some() && self.sets.iter().any(|set| set.tag == tag);
                let log = Log::from_now(self.guest)?;
                self.manager.add(tag, &extents)?;
                if is_used {
                    return log.wait_for("is in use");
                }
                let sets = match tag {
                    Some(_) => vec![Set { tag, blocks }],
                    None => blocks
                        .into_iter()
                        .map(|block| Set {
                            tag,
                            blocks: vec![block],
                        })
                        .collect(),
                };
                self.moving.extend(sets.clone());
                self.sets.extend(sets);
                Ok(())
            }
            Act::OfferHalf(block) => {
                let Extent { offset, length } = extent(block);
                let half = Extent {
                    offset,
                    length: length / 2,
                };
                let log = Log::from_now(self.guest)?;
                self.manager.add(None, &[half])?;
                log.wait_for("is not made of whole units")
            }
            Act::AskBack(index) => {
                let Set { tag, blocks } = self.sets[index].clone();
                let arrives = self.moving.iter().any(|set| set.blocks == blocks);
                let extents: Vec<Extent> = blocks.into_iter().map(extent).collect();
                match self.manager.release(tag, &extents) {
                    // It refuses to ask for what the host has not taken yet.
                    Err(_) if arrives => Ok(()),
                    result => {
                        self.leaves(index);
                        result
                    }
                }
            }
            Act::AskPartBack(index) => {
                let Set { tag, blocks } = self.leaves(index);
                let part = Extent {
                    length: 2 * MIB,
                    ..extent(blocks.first().copied().unwrap_or_default())
                };
                self.manager.release(tag, &[part])
            }
            Act::GiveBack(index) => {
                let Set { tag, blocks } = self.leaves(index);
                let chosen = match tag {
                    Some(tag) => format!("--tag {tag}"),
                    None => format!("--id {}", self.number_of(&blocks)?),
                };
                let command = format!("cxlr release-extents region0 {chosen}");
                self.guest.sh_ok(&command).map(drop)
            }
            Act::Rebind => {
                self.region.unbind_kmem()?;
                self.region.assert_all("absent")?;
                self.region.bind_kmem()
            }
        }
    }

    fn leaves(&mut self, index: usize) -> Set {
        let set = self.sets.swap_remove(index);
        self.moving.push(set.clone());
        set
    }

    /// The number by which users name the extent that is the first of `blocks`; others go meanwhile.
    fn number_of(&self, blocks: &[u64]) -> Result<String> {
        let offset = extent(blocks.first().copied().unwrap_or_default()).offset;
        let wanted = Some(format!("{offset:#x}"));
        let mut number = None;
        // It is not shown for a moment when its region has just been bound anew.
        let shown = format!("an extent is shown at {offset:#x}");
        self.guest.wait_for(&shown, || {
            let seen = self.guest.look(&[&extent_file(&self.region, "offset")])?;
            let (file, _) = seen.iter().find(|(_, offset)| **offset == wanted).unzip();
            number = file
                .and_then(|file| file.strip_suffix("/offset")?.rsplit('.').next())
                .map(str::to_owned);
            Ok(number.is_some())
        })?;
        number.ok_or_else(|| Error::test(format!("never: {shown}")))
    }

    /// Waits until device, host and kernel have what they should have.
    fn balance(&mut self) -> Result<()> {
        let mut wanted: Vec<String> = Vec::new();
        for set in &self.sets {
            for block in &set.blocks {
                let Extent { offset, length } = extent(*block);
                let tag = set.tag.unwrap_or("00000000-0000-0000-0000-000000000000");
                wanted.push(format!("{offset:#x} {length:#x} {tag} in use"));
            }
        }
        wanted.sort();
        let mut said = String::new();
        let mut blocks: Vec<(u64, u64)> = self
            .sets
            .iter()
            .flat_map(|set| set.blocks.iter().copied().map(extent))
            .map(|extent| (extent.offset, extent.length))
            .collect();
        blocks.sort_unstable();
        let balanced = self.guest.wait_for("the books are balanced", || {
            let files = ["offset", "length", "uuid", "state"];
            let mut host = extents(self.guest, &self.region, &files)?;
            host.sort();
            let zones = self.region.zones()?;
            let online = zones.iter().filter(|zone| *zone == "Movable").count();
            let absent = zones.iter().filter(|zone| *zone == "absent").count();
            said =
                format!("the host has {host:?}, the kernel {zones:?}; both should have {wanted:?}");
            if host != wanted || online != blocks.len() || online + absent != zones.len() {
                return Ok(false);
            }
            // Asked last, since that takes a program.
            let mut device: Vec<(u64, u64)> = self
                .manager
                .held()?
                .iter()
                .map(|held| (held.dpa, held.length))
                .collect();
            device.sort_unstable();
            said = format!("the device has {device:x?}, and should have {blocks:x?}");
            Ok(device == blocks)
        });
        balanced.map_err(|error| Error::test(format!("{error}: {said}")))?;
        let states = device_states(self.guest)?;
        ensure(
            states == vec!["online_movable"; self.sets.len()],
            format!("not each set is a device that is wholly online: {states:?}"),
        )?;
        self.moving.clear();
        Ok(())
    }
}
