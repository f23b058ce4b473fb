// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory blocks: the pieces in which the kernel brings memory online, and the zones they are in.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use region_policy::online_type::OnlineType;
use region_policy::zone::ZoneKind;
use serde::Serialize;

use crate::device::Device;
use crate::error::Result;
use crate::goal::Goal;
use crate::text;
use crate::tree::Tree;
use crate::tree::optional;

/// The folder of all memory blocks.
pub const MEMORY: &str = "/sys/devices/system/memory";
/// How new memory comes online when nobody says.
pub const AUTO_ONLINE: &str = "/sys/devices/system/memory/auto_online_blocks";
/// The folder of all NUMA nodes.
const NODES: &str = "/sys/devices/system/node";

/// The size of a memory block in bytes.
///
/// # Errors
/// When the attribute is unreadable, is no number or is 0.
pub fn block_size(tree: &dyn Tree) -> Result<u64> {
    Device::new(tree, MEMORY).parsed("block_size_bytes", "a size in hexadecimal", |text| {
        text::hexadecimal(text).filter(|size| *size > 0)
    })
}

/// How new memory comes online when nobody says.
///
/// # Errors
/// When the attribute is unreadable or has an unknown word.
pub fn system_default(tree: &dyn Tree) -> Result<OnlineType> {
    Device::new(tree, MEMORY).parsed("auto_online_blocks", "an online type", |text| {
        OnlineType::parse(text.trim().as_bytes())
    })
}

/// Where a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockState {
    /// It is there, and no page of it is used.
    Offline,
    /// Online, in this zone (`Movable`, `Normal`, `DMA32`…).
    Online {
        /// The zone; `none` where the block spans more than one.
        zone: String,
    },
    /// On its way to offline.
    GoingOffline,
}

/// One memory block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its number: the block starts at this number times the block size.
    pub number: u64,
    /// Where it is.
    pub state: BlockState,
}

impl Block {
    /// Reads a block; `None` where it is not there.
    ///
    /// # Errors
    /// When it is there and its attributes cannot be understood.
    pub fn read(tree: &dyn Tree, number: u64) -> Result<Option<Self>> {
        let device = Device::new(tree, folder(number));
        let Some(word) = optional(device.text("state"))? else {
            return Ok(None);
        };
        let state = match word.as_str() {
            "online" => {
                let zones = device.text("valid_zones")?;
                BlockState::Online {
                    zone: zones.split_whitespace().next().unwrap_or("none").to_owned(),
                }
            }
            "going-offline" => BlockState::GoingOffline,
            _ => BlockState::Offline,
        };
        Ok(Some(Self { number, state }))
    }
}

/// Which kind of zone `valid_zones` names; `None` for a block that spans more than one (`none`).
#[must_use]
pub fn zone_kind(zone: &str) -> Option<ZoneKind> {
    match zone {
        "none" => None,
        "Movable" => Some(ZoneKind::Movable),
        _ => Some(ZoneKind::Kernel),
    }
}

/// The folder of a memory block.
#[must_use]
pub fn folder(number: u64) -> String {
    format!("{MEMORY}/memory{number}")
}

/// The blocks that lie wholly in a range of addresses, which are those that can be hot-plugged.
///
/// ```
/// assert_eq!(cxl_sysfs::memory::blocks_within(&(0x1000..0x4800), 0x1000), 1..4);
/// assert_eq!(cxl_sysfs::memory::blocks_within(&(0x1001..0x1fff), 0x1000), 2..2);
/// ```
#[must_use]
pub fn blocks_within(range: &Range<u64>, block_size: u64) -> Range<u64> {
    let first = range.start.div_ceil(block_size);
    first..(range.end / block_size).max(first)
}

/// What the blocks of a device are, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Census {
    /// Blocks that the device has room for.
    pub total: u64,
    /// Blocks that are there, and unused.
    pub offline: u64,
    /// Online blocks by zone.
    pub online: BTreeMap<String, u64>,
    /// Blocks on their way to offline.
    #[serde(skip_serializing_if = "is_zero")]
    pub going_offline: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Census {
    /// Counts the blocks of some ranges.
    ///
    /// # Errors
    /// Those of the blocks' attributes.
    pub fn take(tree: &dyn Tree, ranges: &[Range<u64>], block_size: u64) -> Result<Self> {
        let mut census = Self::default();
        for number in ranges
            .iter()
            .flat_map(|range| blocks_within(range, block_size))
        {
            census.total += 1;
            match Block::read(tree, number)?.map(|block| block.state) {
                None => {}
                Some(BlockState::Offline) => census.offline += 1,
                Some(BlockState::GoingOffline) => census.going_offline += 1,
                Some(BlockState::Online { zone }) => *census.online.entry(zone).or_default() += 1,
            }
        }
        Ok(census)
    }

    /// How many are online, whatever their zone.
    #[must_use]
    pub fn online_blocks(&self) -> u64 {
        self.online.values().sum()
    }

    /// How many exist, whatever their state.
    #[must_use]
    pub fn present(&self) -> u64 {
        self.offline + self.going_offline + self.online_blocks()
    }

    /// Whether the whole device is as asked for: not one block misses, and all are in one kind of zone, a permitted one.
    #[must_use]
    pub fn is(&self, goal: Goal) -> bool {
        match goal {
            Goal::Unplugged => self.present() == 0,
            Goal::Plugged(OnlineType::Offline) => self.offline == self.total,
            Goal::Plugged(_) => {
                let kind = |kind: &ZoneKind| {
                    self.online
                        .keys()
                        .all(|zone| zone_kind(zone) == Some(*kind))
                };
                let one_kind = ZoneKind::ALL.iter().copied().find(kind);
                self.online_blocks() == self.total
                    && one_kind.is_some_and(|kind| goal.accepts(kind))
            }
        }
    }

    /// Adds up two devices.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.total += other.total;
        self.offline += other.offline;
        self.going_offline += other.going_offline;
        for (zone, blocks) in &other.online {
            *self.online.entry(zone.clone()).or_default() += blocks;
        }
        self
    }
}

impl std::fmt::Display for Census {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} blocks", self.total)?;
        if self.present() == 0 {
            return write!(formatter, ", unplugged");
        }
        for (zone, blocks) in &self.online {
            write!(formatter, ", {blocks} online in {zone}")?;
        }
        if self.offline > 0 {
            write!(formatter, ", {} offline", self.offline)?;
        }
        if self.going_offline > 0 {
            write!(formatter, ", {} going offline", self.going_offline)?;
        }
        let absent = self.total.saturating_sub(self.present());
        if absent > 0 {
            write!(formatter, ", {absent} missing")?;
        }
        Ok(())
    }
}

/// The memory blocks of each NUMA node, from one listing per node.
///
/// # Errors
/// When the nodes cannot be listed.
pub fn blocks_by_node(tree: &dyn Tree) -> Result<BTreeMap<u32, BTreeSet<u64>>> {
    let mut nodes = BTreeMap::new();
    for entry in optional(Device::new(tree, NODES).entries())?.unwrap_or_default() {
        let Some(node) = text::id(&entry, "node") else {
            continue;
        };
        let names =
            optional(tree.entries(Path::new(&format!("{NODES}/{entry}"))))?.unwrap_or_default();
        let blocks = names
            .iter()
            .filter_map(|name| text::id(name, "memory").map(u64::from))
            .collect();
        nodes.insert(node, blocks);
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn census(total: u64, offline: u64, online: &[(&str, u64)]) -> Census {
        Census {
            total,
            offline,
            online: online
                .iter()
                .map(|(zone, blocks)| ((*zone).to_owned(), *blocks))
                .collect(),
            going_offline: 0,
        }
    }

    #[test]
    fn one_block_in_the_wrong_zone_spoils_the_whole() {
        let movable = Goal::Plugged(OnlineType::OnlineMovable);
        assert!(census(8, 0, &[("Movable", 8)]).is(movable));
        assert!(!census(8, 0, &[("Movable", 7), ("Normal", 1)]).is(movable));
        assert!(!census(8, 1, &[("Movable", 7)]).is(movable));
        assert!(!census(8, 0, &[("Movable", 7)]).is(movable));
        let online = Goal::Plugged(OnlineType::Online);
        assert!(!census(8, 0, &[("Movable", 7), ("Normal", 1)]).is(online));
        assert!(census(8, 0, &[("DMA32", 7), ("Normal", 1)]).is(online));
    }

    #[test]
    fn unplugged_means_that_nothing_is_left() {
        assert!(census(8, 0, &[]).is(Goal::Unplugged));
        assert!(!census(8, 1, &[]).is(Goal::Unplugged));
    }

    #[test]
    fn a_census_reads_as_a_sentence() {
        insta::assert_snapshot!(census(8, 2, &[("Movable", 5)]), @"8 blocks, 5 online in Movable, 2 offline, 1 missing");
        insta::assert_snapshot!(census(8, 0, &[]), @"8 blocks, unplugged");
    }

    proptest! {
        #[test]
        fn blocks_lie_wholly_within(start in 0u64..1 << 40, length in 0u64..1 << 34, shift in 24u32..32) {
            let size = 1u64 << shift;
            let blocks = blocks_within(&(start..start + length), size);
            prop_assert!(blocks.is_empty() || (blocks.start * size >= start && blocks.end * size <= start + length));
            // and no further block would fit
            prop_assert!(length < 2 * size || !blocks.is_empty());
        }
    }
}
