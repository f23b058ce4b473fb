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
        Pool,
        Purpose, //
    },
};
use core::ops::Range;
use kernel::{
    device::Device,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// A `dax_regionN`.
#[pin_data]
pub struct DaxRegion {
    id: c_int,
    range: Range<u64>,
    contents: Contents,
    /// What came of the probe; `None` before there was one.
    #[pin]
    outcome: Mutex<Option<Result>>,
    #[pin]
    pool: Mutex<Option<Arc<Pool>>>,
}

/// What a DAX region has from its beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// One device over all of it.
    Whole,
    /// No memory: it comes and goes.
    Pieces,
}

impl DaxRegion {
    /// The DAX region of region `id`, over the physical addresses `range`.
    pub fn new(id: c_int, range: Range<u64>, contents: Contents) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            id,
            range,
            contents,
            outcome <- new_mutex!(None),
            pool <- new_mutex!(None),
        })
    }

    /// Whether the driver took it, and `kmem` its device, or why not: adding a device does not tell.
    ///
    /// # Errors
    ///
    /// `ENXIO`: nobody tried. Those of the probe.
    pub fn outcome(&self) -> Result {
        self.outcome.lock().unwrap_or(Err(ENXIO))
    }

    /// Makes the DAX region.
    fn begin(&self, owner: &Device) -> Result {
        let purpose = Purpose::SystemRam;
        if self.contents == Contents::Whole {
            return dax_region::add(owner, self.id, &self.range, purpose, "kmem");
        }
        *self.pool.lock() = Some(Pool::begin(owner, self.id, &self.range, purpose)?);
        Ok(())
    }

    /// Where its devices are made, if they come and go, and the driver has it.
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.lock().clone()
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
        let result = device.begin(device.as_ref());
        *device.outcome.lock() = Some(result);
        result
    }

    fn unbind(device: &Subregion<DaxRegion>) {
        // The DAX region and its devices are tied to the binding.
        let pool = device.pool.lock().take();
        drop(pool);
    }
}
