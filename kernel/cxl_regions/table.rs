// SPDX-License-Identifier: GPL-2.0-only

//! The drivers of this module: one table, registered in a loop and unregistered in reverse.

use crate::{
    abstractions::cxl::{
        region,
        subregion, //
    },
    dax_device::DaxDevices,
    dax_kmem::DaxKmem,
    dax_region::DaxRegionDriver,
    devdax::Devdax,
    sysram::Sysram, //
};
use kernel::{
    driver,
    prelude::*,
    ThisModule, //
};

/// A driver that is registered as long as it lives.
trait Registered: Send + Sync {}

impl<T: Send + Sync> Registered for T {}

fn registered<T: Send + Sync + 'static>(
    registration: impl PinInit<T, Error>,
) -> Result<KBox<dyn Registered>> {
    let registration = KBox::pin_init(registration, GFP_KERNEL)?;
    Ok(KBox::new(registration, GFP_KERNEL)?)
}

type Register = fn(&'static ThisModule) -> Result<KBox<dyn Registered>>;

/// How each driver is registered. Those for devices further down come first, so that a device finds
/// its driver when it is added.
const TABLE: [Register; 5] = [
    |module| {
        registered(subregion::Registration::<DaxRegionDriver>::new(
            c"cxl_driver_dax_region",
            module,
        ))
    },
    |module| {
        registered(subregion::Registration::<DaxKmem>::new(
            c"cxl_dax_kmem_region",
            module,
        ))
    },
    |module| {
        registered(driver::Registration::<region::Adapter<Sysram>>::new(
            c"cxl_sysram_region",
            module,
        ))
    },
    |module| {
        registered(subregion::Registration::<DaxDevices>::new(
            c"cxl_dax_device_region",
            module,
        ))
    },
    |module| {
        registered(driver::Registration::<region::Adapter<Devdax>>::new(
            c"cxl_devdax_region",
            module,
        ))
    },
];

/// All drivers, registered.
pub struct Drivers(KVec<KBox<dyn Registered>>);

impl Drivers {
    /// Registers every driver of the table, or none.
    pub fn register(module: &'static ThisModule) -> Result<Self> {
        let mut drivers = Self(KVec::with_capacity(TABLE.len(), GFP_KERNEL)?);
        for register in TABLE {
            drivers.0.push(register(module)?, GFP_KERNEL)?;
        }
        Ok(drivers)
    }
}

impl Drop for Drivers {
    fn drop(&mut self) {
        while let Some(driver) = self.0.pop() {
            drop(driver);
        }
    }
}
