// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that a process keeps where it is: see `crates/lab-agent/src/pin.rs`.

use lab::Error;
use lab::Guest;
use lab::Result;
use lab::guest;
use lab::running::Running;
use lab::running::Step;

use crate::support::Region;
use crate::support::block_file;

/// A page in use that cannot be moved, in memory of a region.
pub struct Pin<'g> {
    guest: &'g Guest,
    holder: Running<'g>,
}

impl<'g> Pin<'g> {
    /// Pins a page in `block` of a region whose blocks are all in the movable zone.
    pub fn in_block(guest: &'g Guest, region: &Region<'_>, block: u64) -> Result<Self> {
        let node = guest.read(&format!("{}/target_node", region.dax()))?;
        // While the others are offline, what asks for the node gets a page of this block.
        let others: Vec<u64> = region
            .blocks()?
            .into_iter()
            .filter(|other| *other != block)
            .collect();
        for other in &others {
            guest.write(&block_file(*other), "offline")?;
        }
        write_page(guest, &node)?;
        for other in &others {
            guest.write(&block_file(*other), "online_movable")?;
        }
        Self::hold(guest)
    }

    /// Pins a page on a node that has no other memory than a region's.
    pub fn on_node(guest: &'g Guest, node: u32) -> Result<Self> {
        write_page(guest, &node.to_string())?;
        Self::hold(guest)
    }

    fn hold(guest: &'g Guest) -> Result<Self> {
        let holder = guest.start(guest::program(&["/init", "pin", "/run/pinned/page"]))?;
        match holder.next(Some(guest::HANG))? {
            Step::Output(_, said) if said == b"pinned\n" => Ok(Self { guest, holder }),
            _ => Err(Error::test("the page could not be pinned")),
        }
    }

    /// Lets it go.
    pub fn release(self) -> Result<()> {
        let gone = |error| Error::test(format!("the guest is gone: {error}"));
        self.holder.control().close_input().map_err(gone)?;
        self.holder.output(guest::HANG)?.success()?;
        self.guest.sh_ok("umount /run/pinned").map(drop)
    }
}

fn write_page(guest: &Guest, node: &str) -> Result<()> {
    guest
        .sh_ok(&format!(
            "mkdir -p /run/pinned && mount -t tmpfs -o mpol=bind:{node} pinned /run/pinned && \
             echo data > /run/pinned/page"
        ))
        .map(drop)
}
