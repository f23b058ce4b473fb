// SPDX-License-Identifier: GPL-2.0-only

//! `cxl_dax_device_region`: the mode is set, so the region gets DAX devices for applications.

use crate::{
    abstractions::{
        cxl::subregion::{
            self,
            Subregion, //
        },
        dax_region::{
            self,
            Purpose, //
        }, //
    },
    devdax::{
        Binding,
        DevdaxRegion, //
    },
    mappable::Mappable, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use region_policy::dax_mode::DaxMode;

/// The driver.
pub struct DaxDevices;

impl subregion::Driver for DaxDevices {
    type Object = DevdaxRegion;

    const BOUND_BY_USERS: bool = true;

    fn probe(dax_region: &Subregion<DevdaxRegion>) -> Result {
        let mode = {
            let mut binding = dax_region.binding().lock();
            match *binding {
                Binding::Waiting(None) => return Err(ENXIO),
                Binding::Waiting(Some(mode)) => {
                    *binding = Binding::Moving(mode);
                    mode
                }
                Binding::Moving(_) | Binding::Bound(..) => return Err(EBUSY),
            }
        };
        let result = offer(dax_region, mode);
        let mut binding = dax_region.binding().lock();
        match result {
            Ok(mappable) => {
                *binding = Binding::Bound(mode, mappable);
                Ok(())
            }
            Err(error) => {
                *binding = Binding::Waiting(Some(mode));
                Err(error)
            }
        }
    }

    fn unbind(dax_region: &Subregion<DevdaxRegion>) {
        let (mode, mappable) = {
            let mut binding = dax_region.binding().lock();
            let Binding::Bound(mode, _) = *binding else {
                return;
            };
            match core::mem::replace(&mut *binding, Binding::Moving(mode)) {
                Binding::Bound(mode, mappable) => (mode, mappable),
                _ => return,
            }
        };
        // The devices themselves are tied to the binding, and go after this.
        mappable.end();
        *dax_region.binding().lock() = Binding::Waiting(Some(mode));
    }
}

/// Makes `dax_region` a DAX region, with one device over all of it that is with the driver of `mode`.
fn offer(dax_region: &Subregion<DevdaxRegion>, mode: DaxMode) -> Result<Arc<Mappable>> {
    let region = dax_region.region();
    let range = region.range()?;
    // The decoders must stand before the device is there.
    let mappable = Mappable::begin(region, dax_region.as_ref())?;
    let purpose = Purpose::Mapping;
    let owner = dax_region.as_ref();
    match dax_region::add(owner, region.id(), &range, purpose, mode.driver()) {
        Ok(()) => Ok(mappable),
        Err(error) => {
            mappable.end();
            Err(error)
        }
    }
}
