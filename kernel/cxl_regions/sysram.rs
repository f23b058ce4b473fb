// SPDX-License-Identifier: GPL-2.0-only

//! `cxl_sysram_region`: a region is going to be system RAM, and waits for its policy.

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
        module_ref::ModuleRef,
        text::Text, //
    },
    admission::{
        self,
        Admitted,
        Capacity, //
    },
    binding::Binding,
    dax_kmem::Plugged,
    device_attributes,
    holds,
    services::Services, //
};
use core::{
    fmt::Write,
    ops::Range, //
};
use kernel::{
    module::this_module,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        Mutex, //
    },
};
use region_policy::{
    matrix::RegionDriver,
    online_type::{
        Configured,
        OnlineType, //
    },
};

/// The driver.
pub struct Sysram;

/// What the driver keeps for a bound region: what is dropped first stands first.
pub struct Bound {
    _sysram_region: Registered<SysramRegion>,
    _services: Services,
    _module: ModuleRef,
}

impl region::Driver for Sysram {
    type Data = Bound;

    fn probe(region: &Region) -> impl PinInit<Bound, Error> {
        bind(region)
    }
}

/// Takes `region` if it can become system RAM, and puts a `sysram_regionN` below it.
fn bind(region: &Region) -> Result<Bound> {
    // What this region had to leave behind before is taken up again as it is.
    let Admitted { left, capacity } = admission::admit(region, RegionDriver::Sysram)?;
    let range = region.range()?;
    let module = ModuleRef::new(this_module::<crate::LocalModule>())?;
    let services = Services::begin(region)?;
    let sysram_region = Pending::new(
        region.as_ref(),
        c"sysram_region",
        region.id(),
        try_pin_init!(SysramRegion {
            region: region.into(),
            range,
            capacity,
            kernel_zones: AtomicFlag::new(false),
            binding <- new_mutex!(Binding::Waiting(left)),
        }),
    )?;
    Ok(Bound {
        _sysram_region: sysram_region.add()?,
        _services: services,
        _module: module,
    })
}

/// A `sysram_regionN`.
#[pin_data]
pub struct SysramRegion {
    region: ARef<Region>,
    range: Range<u64>,
    capacity: Option<Capacity>,
    /// Whether memory that the fabric may want back may come into kernel zones.
    kernel_zones: AtomicFlag,
    #[pin]
    binding: Mutex<Binding<OnlineType, Plugged>>,
}

impl SysramRegion {
    /// The region above.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The region's physical addresses.
    pub fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// Where its memory comes from, if the fabric gives and takes it.
    pub fn capacity(&self) -> Option<&Capacity> {
        self.capacity.as_ref()
    }

    /// Checks that the memory may come online by `policy`.
    fn admits(&self, policy: OnlineType) -> Result {
        if self.capacity.is_none()
            || !policy.admits_kernel_zones()
            || self.kernel_zones.load(Relaxed)
        {
            return Ok(());
        }
        dev_err!(
            (*self.region).as_ref(),
            "{} is refused for dynamic capacity: memory in a kernel zone may never come back when the fabric wants it; write 1 to allow_kernel_zones first if that is meant\n",
            Text(policy)
        );
        Err(EPERM)
    }

    /// How far it has come.
    pub fn binding(&self) -> &Mutex<Binding<OnlineType, Plugged>> {
        &self.binding
    }
}

static KIND: Kind<SysramRegion> = Kind::new(c"cxl_sysram_region", Some(&ATTRIBUTES));

impl Object for SysramRegion {
    fn kind() -> &'static Kind<Self> {
        &KIND
    }
}

device_attributes! {
    /// What a user sees of it.
    static ATTRIBUTES: Subregion<SysramRegion> = [OnlineTypeFile, AllowKernelZones];
}

struct AllowKernelZones;

impl Attribute<SysramRegion> for AllowKernelZones {
    const NAME: &'static CStr = c"allow_kernel_zones";

    fn show(sysram: &SysramRegion, page: &mut Page<'_>) -> Result {
        let allowed = sysram.capacity.is_none() || sysram.kernel_zones.load(Relaxed);
        writeln!(page, "{}", u8::from(allowed))?;
        Ok(())
    }

    fn store(sysram: &SysramRegion, text: &[u8]) -> Result {
        let allowed = match text.strip_suffix(b"\n").unwrap_or(text) {
            b"0" => false,
            b"1" => true,
            _ => return Err(EINVAL),
        };
        if sysram.capacity.is_none() {
            return Err(EOPNOTSUPP);
        }
        match &*sysram.binding.lock() {
            Binding::Waiting(policy) => {
                // A policy that was chosen under the old rule stays.
                if !allowed && policy.is_some_and(|policy| policy.admits_kernel_zones()) {
                    return Err(EBUSY);
                }
                sysram.kernel_zones.store(allowed, Relaxed);
                Ok(())
            }
            Binding::Moving(_) | Binding::Bound(..) => Err(EBUSY),
        }
    }
}

struct OnlineTypeFile;

impl Attribute<SysramRegion> for OnlineTypeFile {
    const NAME: &'static CStr = c"online_type";

    fn show(sysram: &SysramRegion, page: &mut Page<'_>) -> Result {
        let policy = sysram.binding.lock().choice();
        writeln!(page, "{}", Configured(policy))?;
        Ok(())
    }

    fn store(sysram: &SysramRegion, text: &[u8]) -> Result {
        let online_type = OnlineType::parse(text).ok_or(EINVAL)?;
        match &mut *sysram.binding.lock() {
            Binding::Waiting(policy) => {
                sysram.admits(online_type)?;
                // Memory that stayed behind is online already, as its policy was then. None is left
                // behind from here on: whoever leaves it is done before it waits again.
                let left = holds::policy_left_in(&sysram.range)?;
                if left.is_some_and(|policy| policy != online_type) {
                    return Err(EBUSY);
                }
                *policy = Some(online_type);
                Ok(())
            }
            Binding::Moving(_) | Binding::Bound(..) => Err(EBUSY),
        }
    }
}
