// SPDX-License-Identifier: GPL-2.0-only

//! `cxl_dax_kmem_region`: the policy is set, so the region's memory goes to `kmem`.

use crate::{
    abstractions::{
        cxl::subregion::{
            self,
            Pending,
            Registered,
            Subregion, //
        },
        dax_region,
        kmem_client::Claim,
        link::Link, //
    },
    binding::Binding,
    dax_region::{
        Contents,
        DaxRegion, //
    },
    dynamic_capacity::{
        area::{
            Area,
            User, //
        },
        Open, //
    },
    holds::{
        self,
        Hold, //
    },
    sysram::SysramRegion, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use region_policy::online_type::OnlineType;

/// The driver.
pub struct DaxKmem;

/// What the driver keeps for a bound `sysram_regionN`: what is dropped first stands first.
pub struct Plugged {
    link: Link,
    /// Where its memory comes and goes.
    open: Option<Open>,
    dax_region: Registered<DaxRegion>,
    hold: Arc<Hold>,
}

impl subregion::Driver for DaxKmem {
    type Object = SysramRegion;

    const BOUND_BY_USERS: bool = true;

    fn probe(sysram: &Subregion<SysramRegion>) -> Result {
        Binding::bind(sysram.binding(), |policy| plug(sysram, policy))
    }

    fn unbind(sysram: &Subregion<SysramRegion>) {
        Binding::unbind(sysram.binding(), |plugged| {
            drop(plugged.link);
            unplug(plugged.open, plugged.dax_region, &plugged.hold);
        });
    }
}

/// Puts a `dax_regionN` below `sysram`, and its memory into the system as `policy` tells: all of it, or what
/// the fabric gives and as long as it does.
fn plug(sysram: &Subregion<SysramRegion>, policy: OnlineType) -> Result<Plugged> {
    let region = sysram.region();
    let contents = match sysram.capacity() {
        None => Contents::Whole,
        Some(_) => Contents::Pieces,
    };
    let dax_region = Pending::new(
        sysram.as_ref(),
        c"dax_region",
        region.id(),
        DaxRegion::new(region.id(), sysram.range().clone(), contents),
    )?;
    // The claim must stand before the device is there, and the decoders before its memory.
    let claim = Claim::new(dax_region.as_ref(), region.id(), policy.mmop())?;
    let hold = holds::take(region, sysram.range(), claim, policy, sysram.capacity())?;
    match dax_region.add() {
        Ok(dax_region) => {
            hold.devices_are_there(true);
            // The stock driver's `dax_regionN` is right below the region: libcxl looks there.
            let linked = Link::new((*region).as_ref(), dax_region.as_ref());
            match linked.and_then(|link| Ok((link, open(sysram, &dax_region, &hold)?))) {
                Ok((link, open)) => Ok(Plugged {
                    link,
                    open,
                    dax_region,
                    hold,
                }),
                Err(error) => {
                    unplug(None, dax_region, &hold);
                    Err(error)
                }
            }
        }
        Err(error) => {
            holds::give_back(&hold);
            Err(error)
        }
    }
}

/// Checks that the memory is there, or sees to it that it comes.
fn open(sysram: &SysramRegion, dax_region: &DaxRegion, hold: &Arc<Hold>) -> Result<Option<Open>> {
    dax_region.outcome()?;
    let Some((memdev, span)) = sysram.capacity() else {
        return Ok(None);
    };
    let pool = dax_region.pool().ok_or(ENXIO)?;
    let user = User::Kmem(hold.clone());
    let area = Area::new(sysram.region().id(), *span, sysram.range(), pool, user)?;
    Open::new(memdev, area).map(Some)
}

/// Takes the memory out of the system, and the devices away.
fn unplug(open: Option<Open>, dax_region: Registered<DaxRegion>, hold: &Arc<Hold>) {
    // Nothing comes any more.
    if let Some(open) = &open {
        open.close();
    }
    // First the memory, as long as everything that belongs to it is there. What cannot go stays
    // behind, and the hold with it.
    hold.evict();
    hold.devices_are_there(false);
    drop(dax_region);
    holds::give_back(hold);
    if let Some(open) = open {
        open.closed(dax_region::is_system_ram);
    }
}
