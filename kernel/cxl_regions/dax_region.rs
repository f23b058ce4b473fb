// SPDX-License-Identifier: GPL-2.0-only

//! `cxl_driver_dax_region`: a `dax_regionN` of a region driver becomes a DAX region.
//!
//! It has a device and a driver of its own for two reasons: a DAX region takes over the driver data
//! of the device that it belongs to, and its devices can be resized only while that device is bound.

use crate::abstractions::{
    cxl::subregion::{
        self,
        Kind,
        Object,
        Subregion, //
    },
    dax_region::{
        self,
        Purpose, //
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// A `dax_regionN`.
pub struct DaxRegion {
    id: c_int,
    range: Range<u64>,
}

impl DaxRegion {
    /// The DAX region of region `id`, over the physical addresses `range`.
    pub fn new(id: c_int, range: Range<u64>) -> Self {
        Self { id, range }
    }
}

static KIND: Kind<DaxRegion> = Kind::new(c"cxl_driver_dax_region", None);

impl Object for DaxRegion {
    fn kind() -> &'static Kind<Self> {
        &KIND
    }
}

/// The driver. Users leave it alone: it comes and goes with the driver above.
pub struct DaxRegionDriver;

impl subregion::Driver for DaxRegionDriver {
    type Object = DaxRegion;

    const BOUND_BY_USERS: bool = false;

    fn probe(device: &Subregion<DaxRegion>) -> Result {
        let purpose = Purpose::SystemRam;
        dax_region::add(device.as_ref(), device.id, &device.range, purpose, "kmem")
    }

    fn unbind(_device: &Subregion<DaxRegion>) {
        // The DAX region and its devices are tied to the binding.
    }
}
