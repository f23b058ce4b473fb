// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts the memory blocks of a region in the guest's `/sys`, without the tool that is on show.

use std::collections::BTreeMap;
use std::fmt;

use lab::Error;
use lab::Guest;
use lab::Result;

/// What the memory blocks of a region are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// How many blocks there are of each kind: `absent`, `offline`, or the zone of those that are online.
    kinds: BTreeMap<String, usize>,
}

/// Prints the kind of each block between two addresses.
const KINDS: &str = r#"
memory=/sys/devices/system/memory
region=/sys/bus/cxl/devices/$0
block=$((0x$(cat $memory/block_size_bytes)))
start=$(cat $region/resource) size=$(cat $region/size)
for ((n = start / block; n < (start + size) / block; n++)); do
    b=$memory/memory$n
    if [ ! -e $b ]; then echo absent
    elif [ "$(cat $b/state)" = online ]; then cat $b/valid_zones
    else cat $b/state; fi
done"#;

impl Census {
    /// Counts the blocks of `region`.
    ///
    /// # Errors
    /// When there is no such region, or it has no block.
    pub fn of(guest: &Guest, region: &str) -> Result<Self> {
        let kinds = guest.run(&["bash", "-e", "-c", KINDS, region])?.success()?;
        let mut census = Self {
            kinds: BTreeMap::new(),
        };
        for kind in kinds.lines() {
            *census.kinds.entry(kind.to_owned()).or_default() += 1;
        }
        if census.total() == 0 {
            return Err(Error::test(format!("{region} has no memory block")));
        }
        Ok(census)
    }

    /// How many blocks there are, or could be.
    pub fn total(&self) -> usize {
        self.kinds.values().sum()
    }

    /// How many are of this kind.
    pub fn count(&self, kind: &str) -> usize {
        self.kinds.get(kind).copied().unwrap_or(0)
    }

    /// Whether all are of this kind.
    pub fn all(&self, kind: &str) -> bool {
        self.count(kind) == self.total()
    }
}

impl fmt::Display for Census {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        if let (1, Some((kind, count))) = (self.kinds.len(), self.kinds.first_key_value()) {
            return write!(formatter, "{count} of {total} blocks {kind}");
        }
        let parts: Vec<String> = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        write!(formatter, "{} of {total} blocks", parts.join(" and "))
    }
}
