// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is: for people ([`text`]) and for programs ([`json`]).

pub mod json;
pub mod text;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use cxl_sysfs::Result;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::dax::DaxDevice;
use cxl_sysfs::memory;
use cxl_sysfs::memory::Census;

/// A snapshot, and the blocks of its dax devices counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The machine.
    pub snapshot: Snapshot,
    /// The blocks of each dax device that kmem holds, by the device's name.
    pub blocks: BTreeMap<String, Census>,
    /// The NUMA nodes that these blocks are in, by the device's name.
    pub nodes: BTreeMap<String, BTreeSet<u32>>,
}

impl Listing {
    /// Reads the machine and counts.
    ///
    /// # Errors
    /// Those of [`Snapshot::read`] and of the blocks' attributes.
    pub fn read(tree: &dyn Tree) -> Result<Self> {
        let snapshot = Snapshot::read(tree)?;
        let (mut blocks, mut nodes) = (BTreeMap::new(), BTreeMap::new());
        let system_ram: Vec<&DaxDevice> = snapshot
            .dax_devices
            .iter()
            .filter(|device| device.is_system_ram())
            .collect();
        if let Some(block_size) = snapshot.block_size.filter(|_| !system_ram.is_empty()) {
            let by_node = memory::blocks_by_node(tree)?;
            for device in system_ram {
                blocks.insert(device.name.clone(), device.census(tree, block_size)?);
                let holds = |blocks: &BTreeSet<u64>| {
                    device.ranges.iter().any(|range| {
                        blocks
                            .range(memory::blocks_within(range, block_size))
                            .next()
                            .is_some()
                    })
                };
                nodes.insert(
                    device.name.clone(),
                    by_node
                        .iter()
                        .filter(|(_, blocks)| holds(blocks))
                        .map(|(node, _)| *node)
                        .collect(),
                );
            }
        }
        Ok(Self {
            snapshot,
            blocks,
            nodes,
        })
    }
}
