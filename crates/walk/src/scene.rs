// SPDX-License-Identifier: MIT OR Apache-2.0
//! What there is at one moment.

use region_policy::blocks::BlockState;
use region_policy::census::BlockCounts;
use region_policy::dax_mode::DaxMode;
use region_policy::online_type::OnlineType;
use region_policy::state::DeviceState;
use region_policy::state::Vocabulary;

/// Everything that promises are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// How new memory comes online when nobody says.
    pub system_default: Option<OnlineType>,
    /// By place.
    pub places: Vec<Spot>,
    /// Regions without a memdev: what is left of one whose memdev was taken away.
    pub orphans: usize,
    /// Blocks in the windows of CXL memory that belong to no region that anybody ever saw.
    pub strays: Vec<u64>,
    /// Whether the data that was put into the regions' memory is what it was.
    pub data_intact: bool,
}

/// One place: memdevs, the region on them, and the memory of the last region that was there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spot {
    /// Whether the memdevs have their driver.
    pub memdev: bool,
    /// The region.
    pub region: Option<Region>,
    /// The memory blocks at its addresses; after it is gone, those at the addresses that it had.
    pub blocks: Vec<BlockState>,
}

/// A region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Whether its decoders are programmed.
    pub committed: bool,
    /// Whether they must stay so.
    pub locked: bool,
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// The device on which the policy is set.
    pub sysram: Option<Sysram>,
    /// The device on which the mode is set.
    pub devdax: Option<Devdax>,
    /// The dax device over all of it.
    pub dax: Option<Dax>,
}

/// `sysram_regionN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysram {
    /// The policy, once it is chosen.
    pub policy: Option<OnlineType>,
    /// Whether its driver has it.
    pub bound: bool,
}

/// `dax_regionN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devdax {
    /// What applications find there, once it is chosen.
    pub mode: Option<DaxMode>,
    /// Whether its driver has it.
    pub bound: bool,
}

/// `daxN.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dax {
    /// The driver that it is bound to.
    pub driver: Option<String>,
    /// What `state` reads.
    pub state: Option<String>,
    /// What `hotplug` reads.
    pub hotplug: Option<String>,
}

impl Spot {
    /// The blocks, counted.
    #[must_use]
    pub fn counts(&self) -> BlockCounts {
        self.blocks.iter().copied().collect()
    }

    /// Whether no memory is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let counts = self.counts();
        counts.absent == counts.total()
    }

    /// The policy that is in force: chosen, and handed to kmem.
    #[must_use]
    pub fn policy_in_force(&self) -> Option<OnlineType> {
        let sysram = self.region.as_ref()?.sysram.as_ref()?;
        sysram.policy.filter(|_| sysram.bound)
    }

    /// The driver of the region's dax device.
    #[must_use]
    pub fn dax_driver(&self) -> Option<&str> {
        self.region.as_ref()?.dax.as_ref()?.driver.as_deref()
    }

    /// Whether kmem has the region's dax device.
    #[must_use]
    pub fn has_kmem(&self) -> bool {
        self.dax_driver() == Some("kmem")
    }

    /// The device on which the mode of a region that applications map is set.
    #[must_use]
    pub fn devdax(&self) -> Option<&Devdax> {
        self.region.as_ref()?.devdax.as_ref()
    }

    /// Whether all blocks are alike.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        DeviceState::observe(self.counts(), None) != DeviceState::Mixed
    }
}

impl Dax {
    /// What the attributes of a device with these blocks may read.
    #[must_use]
    pub fn words(counts: BlockCounts, vocabulary: Vocabulary) -> [&'static str; 2] {
        // What was asked for last chooses between two names for a kernel zone, and cannot be seen.
        [None, Some(OnlineType::OnlineKernel)]
            .map(|requested| vocabulary.word(DeviceState::observe(counts, requested)))
    }
}
