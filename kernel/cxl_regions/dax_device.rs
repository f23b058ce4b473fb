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
            Pool,
            Purpose, //
        }, //
    },
    binding::Binding,
    devdax::DevdaxRegion,
    dynamic_capacity::{
        area::{
            Area,
            User, //
        },
        Open, //
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
        Binding::bind(dax_region.binding(), |mode| offer(dax_region, mode))
    }

    fn unbind(dax_region: &Subregion<DevdaxRegion>) {
        // The devices themselves are tied to the binding, and go after this.
        Binding::unbind(dax_region.binding(), Offered::end);
    }
}

/// What the driver keeps for a bound `dax_regionN`.
pub struct Offered {
    mappable: Arc<Mappable>,
    /// Where its memory comes and goes.
    open: Option<Open>,
}

impl Offered {
    /// The devices.
    pub fn mappable(&self) -> &Arc<Mappable> {
        &self.mappable
    }

    fn end(self) {
        let Self { mappable, open } = self;
        // Nothing comes any more.
        if let Some(open) = &open {
            open.close();
        }
        mappable.end();
        if let Some(open) = open {
            open.closed(|_| false);
        }
    }
}

/// Makes `dax_region` a DAX region whose devices are with the driver of `mode`: one over all of it, or what the
/// fabric gives and as long as it does.
fn offer(dax_region: &Subregion<DevdaxRegion>, mode: DaxMode) -> Result<Offered> {
    let region = dax_region.region();
    let range = region.range()?;
    let owner = dax_region.as_ref();
    // The decoders must stand before the device is there.
    let mappable = Mappable::begin(region, owner, mode)?;
    let purpose = Purpose::Mapping;
    let open = mappable.add(|mode| {
        let Some((memdev, span)) = dax_region.capacity() else {
            let driver = mode.driver();
            return dax_region::add(owner, region.id(), &range, purpose, driver).map(|()| None);
        };
        let pool = Pool::begin(owner, region.id(), &range, purpose)?;
        let user = User::Applications(mappable.clone());
        let area = Area::new(region.id(), *span, &range, pool, user)?;
        Open::new(memdev, area).map(Some)
    });
    match open {
        Ok(open) => Ok(Offered { mappable, open }),
        Err(error) => {
            mappable.end();
            Err(error)
        }
    }
}
