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
        kmem_client::Claim,
        link::Link, //
    },
    binding::Binding,
    dax_region::DaxRegion,
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
            unplug(plugged.dax_region, &plugged.hold);
        });
    }
}

/// Puts a `dax_regionN` below `sysram`, and its memory into the system as `policy` tells.
fn plug(sysram: &Subregion<SysramRegion>, policy: OnlineType) -> Result<Plugged> {
    let region = sysram.region();
    let dax_region = Pending::new(
        sysram.as_ref(),
        c"dax_region",
        region.id(),
        Ok(DaxRegion::new(region.id(), sysram.range().clone())),
    )?;
    // The claim must stand before the device is there, and the decoders before its memory.
    let claim = Claim::new(dax_region.as_ref(), region.id(), policy.mmop())?;
    let hold = holds::take(region, sysram.range(), claim, policy)?;
    match dax_region.add() {
        Ok(dax_region) => {
            // Adding a device does not tell whether its driver took it.
            let link = hold.status().and_then(|()| {
                // The stock driver's `dax_regionN` is right below the region: libcxl looks there.
                Link::new((*region).as_ref(), dax_region.as_ref())
            });
            match link {
                Ok(link) => Ok(Plugged {
                    link,
                    dax_region,
                    hold,
                }),
                Err(error) => {
                    unplug(dax_region, &hold);
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

/// Takes the memory out of the system, and the devices away.
fn unplug(dax_region: Registered<DaxRegion>, hold: &Arc<Hold>) {
    // First the memory, as long as everything that belongs to it is there. What cannot go stays
    // behind, and the hold with it.
    hold.evict();
    drop(dax_region);
    holds::give_back(hold);
}
