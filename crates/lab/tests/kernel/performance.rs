// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast a region's memory is: what the stock region driver tells the kernel of it, ours tells too.

use lab::Guest;
use lab::Result;
use lab::suite::Test;

use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![
        // A node that was told once keeps what it was told: the guest is for this test alone.
        Test::new(
            "performance: memory tier, node and region say of a region of ours what they say of a stock one",
            loaded("speeds"),
            as_stock,
        )
        .last(),
    ]
}

/// All that the kernel tells of the speed of a region's memory.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// The memory tier that the region's node is in.
    tier: String,
    /// The files below the node's `accessN`.
    node: String,
    /// How much of interleaved memory goes to each node.
    weights: String,
    /// The files below the region's `accessN`.
    region: String,
}

impl Told {
    fn of(guest: &Guest, region: &Region<'_>) -> Result<Self> {
        let node = guest.read(&format!("{}/target_node", region.dax_on_bus()))?;
        let files =
            |folder: &str| guest.sh_ok(&format!("cd {folder} && grep -rs . access* ; true"));
        Ok(Self {
            tier: guest.sh_ok(&format!(
                "cd /sys/devices/virtual/memory_tiering && grep -lxw {node} */nodelist"
            ))?,
            node: files(&format!("/sys/devices/system/node/node{node}"))?,
            weights: guest
                .sh_ok("cd /sys/kernel/mm/mempolicy/weighted_interleave && grep . node*")?,
            region: files(&region.path())?,
        })
    }
}

fn as_stock(guest: &Guest) -> Result<()> {
    let weights = guest.sh_ok("cd /sys/kernel/mm/mempolicy/weighted_interleave && grep . node*")?;
    let region = Region::sysram(guest, "0x100", "online_movable")?;
    let ours = Told::of(guest, &region)?;
    region.destroy()?;
    guest.write(
        "/sys/devices/system/memory/auto_online_blocks",
        "online_movable",
    )?;
    let region = Region::stock(guest, "0x100")?;
    let stock = Told::of(guest, &region)?;
    region.destroy()?;
    ensure(
        ours == stock,
        format!("of ours the kernel was told {ours:#?}, of the stock driver's {stock:#?}"),
    )?;
    ensure(
        ours.region.contains("read_latency") && ours.weights != weights,
        format!("the kernel was told nothing: {ours:#?}, and before {weights}"),
    )
}
