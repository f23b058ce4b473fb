// SPDX-License-Identifier: GPL-2.0-only

//! `cxl_devdax_region`: a region is going to be mapped by applications, and waits for its mode.

use crate::{
    abstractions::{
        attribute::{
            Attribute,
            Page, //
        },
        cxl::{
            region::{
                self,
                Region, //
            },
            subregion::{
                Kind,
                Object,
                Pending,
                Registered,
                Subregion, //
            },
        },
        kmem_client::Claim,
        module_ref::ModuleRef, //
    },
    admission::{
        self,
        Admitted,
        Capacity, //
    },
    binding::Binding,
    dax_device::Offered,
    device_attributes,
    services::Services, //
};
use core::fmt::Write;
use kernel::{
    module::this_module,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Mutex, //
    },
};
use region_policy::{
    dax_mode::DaxMode,
    matrix::RegionDriver,
    online_type::Configured, //
};

/// The driver.
pub struct Devdax;

/// What the driver keeps for a bound region: what is dropped first stands first.
pub struct Bound {
    _dax_region: Registered<DevdaxRegion>,
    // Until no DAX device is left that could be given to `kmem`.
    _refusal: Claim,
    _services: Services,
    _module: ModuleRef,
}

impl region::Driver for Devdax {
    type Data = Bound;

    fn probe(region: &Region) -> impl PinInit<Bound, Error> {
        bind(region)
    }
}

/// Takes `region` if applications may map it, and puts a `dax_regionN` below it.
fn bind(region: &Region) -> Result<Bound> {
    let Admitted { left, capacity } = admission::admit(region, RegionDriver::Devdax)?;
    if left.is_some() {
        dev_err!(
            region.as_ref(),
            "memory that stayed behind is still in use: bind the region to cxl_sysram_region to manage it\n"
        );
        return Err(EBUSY);
    }
    let module = ModuleRef::new(this_module::<crate::LocalModule>())?;
    let services = Services::begin(region)?;
    let dax_region = Pending::new(
        region.as_ref(),
        c"dax_region",
        region.id(),
        try_pin_init!(DevdaxRegion {
            region: region.into(),
            capacity,
            binding <- new_mutex!(Binding::Waiting(None)),
        }),
    )?;
    let refusal = Claim::refusal(dax_region.as_ref(), region.id())?;
    Ok(Bound {
        _dax_region: dax_region.add()?,
        _refusal: refusal,
        _services: services,
        _module: module,
    })
}

/// The `dax_regionN` of a region that applications map.
#[pin_data]
pub struct DevdaxRegion {
    region: ARef<Region>,
    capacity: Option<Capacity>,
    #[pin]
    binding: Mutex<Binding<DaxMode, Offered>>,
}

impl DevdaxRegion {
    /// The region above.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Where its memory comes from, if the fabric gives and takes it.
    pub fn capacity(&self) -> Option<&Capacity> {
        self.capacity.as_ref()
    }

    /// How far it has come.
    pub fn binding(&self) -> &Mutex<Binding<DaxMode, Offered>> {
        &self.binding
    }

    /// Chooses the mode, and gives the devices that are there to its driver.
    fn choose(&self, mode: DaxMode) -> Result {
        let mappable = match &mut *self.binding.lock() {
            Binding::Waiting(chosen) => {
                *chosen = Some(mode);
                return Ok(());
            }
            Binding::Moving(_) => return Err(EBUSY),
            Binding::Bound(_, offered) => offered.mappable().clone(),
        };
        // The lock is not held while devices change their driver: `dax_mode` answers meanwhile.
        mappable.switch(mode, || {
            if let Binding::Bound(chosen, _) = &mut *self.binding.lock() {
                *chosen = mode;
            }
        })
    }
}

static KIND: Kind<DevdaxRegion> = Kind::new(c"cxl_devdax_region", Some(&ATTRIBUTES));

impl Object for DevdaxRegion {
    fn kind() -> &'static Kind<Self> {
        &KIND
    }
}

device_attributes! {
    /// What a user sees of it.
    static ATTRIBUTES: Subregion<DevdaxRegion> = [DaxModeFile];
}

struct DaxModeFile;

impl Attribute<DevdaxRegion> for DaxModeFile {
    const NAME: &'static CStr = c"dax_mode";

    fn show(dax_region: &DevdaxRegion, page: &mut Page<'_>) -> Result {
        let mode = dax_region.binding.lock().choice();
        writeln!(page, "{}", Configured(mode))?;
        Ok(())
    }

    fn store(dax_region: &DevdaxRegion, text: &[u8]) -> Result {
        dax_region.choose(DaxMode::parse(text).ok_or(EINVAL)?)
    }
}
