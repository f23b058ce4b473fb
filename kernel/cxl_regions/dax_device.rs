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
    binding::Binding,
    devdax::DevdaxRegion,
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
        Binding::bind(dax_region.binding(), |mode| offer(dax_region, mode))
    }

    fn unbind(dax_region: &Subregion<DevdaxRegion>) {
        // The devices themselves are tied to the binding, and go after this.
        Binding::unbind(dax_region.binding(), |mappable| mappable.end());
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
    let added =
        mappable.add(|| dax_region::add(owner, region.id(), &range, purpose, mode.driver()));
    match added {
        Ok(()) => Ok(mappable),
        Err(error) => {
            mappable.end();
            Err(error)
        }
    }
}
