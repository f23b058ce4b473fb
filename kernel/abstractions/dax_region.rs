// SPDX-License-Identifier: GPL-2.0-only

//! DAX regions: a range of memory from which DAX devices are cut.
//!
//! C header: `drivers/dax/bus.h`

use super::{
    bindings,
    dax_device::DaxDevice,
    device::raw, //
};
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    device::Device,
    error::{
        from_err_ptr,
        to_result, //
    },
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};

/// `IORESOURCE_DAX_KMEM`, which bindgen does not see through: devices are for `kmem` by default.
const IORESOURCE_DAX_KMEM: usize = 1 << 1;

/// `IORESOURCE_DAX_STATIC`: one device of a fixed size.
const IORESOURCE_DAX_STATIC: usize = 1 << 0;

/// The size of a huge page, to which devices are cut.
const PMD_SIZE: u32 = 1 << 21;

/// The ranges of a device begin and end on multiples of this many bytes.
pub const ALIGNMENT: u64 = PMD_SIZE as u64;

/// Whether any part of `range` is System RAM, or reserved for it.
pub fn is_system_ram(range: &Range<u64>) -> bool {
    let size = range.end.saturating_sub(range.start);
    let Ok(size) = usize::try_from(size) else {
        return true;
    };
    // SAFETY: The function looks up any range.
    let intersection = unsafe {
        bindings::region_intersects(
            range.start,
            size,
            bindings::IORESOURCE_SYSTEM_RAM as usize,
            bindings::IORES_DESC_NONE as usize,
        )
    };
    intersection != bindings::REGION_DISJOINT as c_int
}

/// What the devices of a DAX region are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// System RAM; the memory map may be placed in the memory itself.
    SystemRam,
    /// Applications that map them.
    Mapping,
}

/// Makes `owner` a DAX region numbered `id` over `range`, with one device over all of it, which is
/// given to the driver called `driver`, and to no other meanwhile.
///
/// To be called in the owner's probe: the region and its devices go away when the owner is unbound.
/// The region takes the owner's driver data for itself.
///
/// # Errors
///
/// The driver's own. `ENODEV`: there is no such driver. `EBUSY`: somebody has opened the device already.
pub fn add(
    owner: &Device,
    id: c_int,
    range: &Range<u64>,
    purpose: Purpose,
    driver: &str,
) -> Result {
    let is_ram = purpose == Purpose::SystemRam;
    let device = create_device(allocate(owner, id, range, purpose.flags())?, is_ram)?;
    let driver = device.load_driver(driver)?;
    // No driver takes a device without memory. Between this and the next line it could be any: each
    // that was told the device's name.
    device.set_size(range.end.saturating_sub(range.start))?;
    device.close().ok_or(EBUSY)?.give_to(&driver)
}

/// The size of a memory block, in which memory becomes System RAM and ceases to be it.
pub fn memory_block_size() -> u64 {
    // SAFETY: The function has no conditions.
    let size = unsafe { bindings::memory_block_size_bytes() };
    // CAST: Both have 64 bits.
    size as u64
}

/// A DAX region in which memory comes and goes: its devices are given memory and lose it one by one.
///
/// The DAX bus does not let go of a device without waiting for its owner's lock. So a device that lost its memory
/// stays without, and is the next one that gets some.
#[pin_data]
pub struct Pool {
    owner: ARef<Device>,
    purpose: Purpose,
    #[pin]
    devices: Mutex<Devices>,
}

/// What a pool makes devices of.
struct Devices {
    /// The region; `None` once the owner is on its way out.
    ///
    /// # Invariants
    ///
    /// It is valid as long as the lock is held in which it was read.
    region: Option<NonNull<bindings::dax_region>>,
    idle: KVec<ARef<DaxDevice>>,
}

// SAFETY: The DAX bus locks its regions, and the devices are counted.
unsafe impl Send for Devices {}

impl Pool {
    /// Makes `owner` a DAX region numbered `id` over `range`, of which no part is memory yet.
    ///
    /// To be called in the owner's probe: the region and its devices go away when the owner is unbound.
    /// The region takes the owner's driver data for itself.
    pub fn begin(
        owner: &Device,
        id: c_int,
        range: &Range<u64>,
        purpose: Purpose,
    ) -> Result<Arc<Self>> {
        // Nobody else makes devices of memory that is not there, or takes away those that wait for some: a region
        // that is born static has no files for that. They could not be removed: whoever is inside may wait for
        // the owner's lock. In all else it is a region like any other.
        let region = allocate(owner, id, range, purpose.flags() | IORESOURCE_DAX_STATIC)?;
        // SAFETY: The region was just made, and has no devices yet.
        unsafe { (*region).res.flags &= !IORESOURCE_DAX_STATIC };
        let devices = Devices {
            // INVARIANT: The region goes when the owner is unbound, after `end_pool()`, which waits for the lock.
            region: NonNull::new(region),
            idle: KVec::new(),
        };
        let pool = Arc::pin_init(
            pin_init!(Self {
                owner: owner.into(),
                purpose,
                devices <- new_mutex!(devices),
            }),
            GFP_KERNEL,
        )?;
        let ended = pool.clone().into_raw();
        // SAFETY: The action gets a reference of its own, at once if it cannot be added. The region was tied to
        // the owner before, and so goes after it.
        to_result(unsafe {
            bindings::devm_add_action_or_reset(raw(owner), Some(end_pool), ended.cast_mut().cast())
        })?;
        Ok(pool)
    }

    /// The device that the region is.
    pub fn owner(&self) -> &Device {
        &self.owner
    }

    /// Gives a device `ranges`, in this order, and gives it to the driver called `driver`, and to no other
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// The driver's own. `ENODEV`: there is no such driver, or the owner is on its way out. `EBUSY`: somebody
    /// has opened the device already.
    pub fn add(&self, ranges: &[Range<u64>], driver: &str) -> Result<ARef<DaxDevice>> {
        let device = self.idle_device()?;
        match fill(&device, ranges, driver) {
            Ok(()) => Ok(device),
            Err(error) => {
                if self.empty(&device).is_ok() {
                    self.recycle(&device);
                }
                Err(error)
            }
        }
    }

    /// A device without memory that nobody has open. From whom memory was taken without asking may still have.
    fn idle_device(&self) -> Result<ARef<DaxDevice>> {
        let mut devices = self.devices.lock();
        let region = devices.region.ok_or(ENODEV)?;
        let free = |device: &ARef<DaxDevice>| device.close().is_some();
        if let Some(index) = devices.idle.iter().position(free) {
            return Ok(devices.idle.remove(index)?);
        }
        create_device(region.as_ptr(), self.purpose == Purpose::SystemRam)
    }

    /// Takes its memory from a device, whoever uses it. [`Pool::recycle`] it then.
    ///
    /// # Errors
    ///
    /// The device stays as it is: somebody bound it at this very moment.
    pub fn empty(&self, device: &DaxDevice) -> Result {
        device.release();
        device.set_size(0)
    }

    /// Lets a device without memory be given some again.
    pub fn recycle(&self, device: &DaxDevice) {
        // One for which there is no room is not used again.
        let _ = self.devices.lock().idle.push(device.into(), GFP_KERNEL);
    }
}

/// Ends a pool: its owner is being unbound, and the region goes next.
///
/// # Safety
///
/// Called by the owner's end only, with a reference to the pool.
unsafe extern "C" fn end_pool(pool: *mut c_void) {
    // SAFETY: `begin()` gave the reference to this call.
    let pool = unsafe { Arc::from_raw(pool.cast::<Pool>().cast_const()) };
    let idle = {
        let mut devices = pool.devices.lock();
        devices.region = None;
        core::mem::take(&mut devices.idle)
    };
    drop(idle);
}

/// Gives a device without memory its ranges and its driver.
fn fill(device: &DaxDevice, ranges: &[Range<u64>], driver: &str) -> Result {
    let driver = device.load_driver(driver)?;
    device.fix_ranges()?;
    if !device.is_empty() {
        return Err(EBUSY);
    }
    for range in ranges {
        device.add_range(range)?;
    }
    device.close().ok_or(EBUSY)?.give_to(&driver)
}

impl Purpose {
    const fn flags(self) -> usize {
        match self {
            Self::SystemRam => IORESOURCE_DAX_KMEM,
            Self::Mapping => 0,
        }
    }
}

/// Lets nobody make more devices in the region that `owner` is, which must be in the system meanwhile.
pub fn make_no_more(owner: &Device) {
    // `delete` stays: whoever is inside may wait for the owner's lock.
    remove_file(owner, c"create");
}

/// Takes the file `name` of a DAX region away, if it has it, and waits for whoever is inside. `owner` must be in
/// the system meanwhile.
fn remove_file(owner: &Device, name: &CStr) {
    let file = bindings::attribute {
        name: name.as_char_ptr(),
        ..pin_init::zeroed()
    };
    // SAFETY: The owner is in the system, so that it has a folder; the file is found by its name.
    unsafe {
        bindings::sysfs_remove_file_from_group(
            &raw mut (*raw(owner)).kobj,
            &raw const file,
            c"dax_region".as_char_ptr(),
        );
    }
}

/// Makes the DAX region.
fn allocate(
    owner: &Device,
    id: c_int,
    range: &Range<u64>,
    flags: usize,
) -> Result<*mut bindings::dax_region> {
    let mut range = bindings::range {
        start: range.start,
        end: range.end.checked_sub(1).ok_or(EINVAL)?,
    };
    // SAFETY: The functions look up any address.
    let node = unsafe {
        match bindings::phys_to_target_node(range.start) {
            bindings::NUMA_NO_NODE => bindings::memory_add_physaddr_to_nid(range.start),
            node => node,
        }
    };
    // SAFETY: The owner is being probed, so that what is tied to it is undone at its unbind. The
    // range is copied.
    let region = unsafe {
        bindings::alloc_dax_region(raw(owner), id, &raw mut range, node, PMD_SIZE, flags)
    };
    if region.is_null() {
        return Err(ENOMEM);
    }
    Ok(region)
}

/// Makes a device without memory in a region that was just made.
fn create_device(
    region: *mut bindings::dax_region,
    memmap_on_memory: bool,
) -> Result<ARef<DaxDevice>> {
    let mut data = bindings::dev_dax_data {
        dax_region: region,
        pgmap: core::ptr::null_mut(),
        size: 0,
        id: -1,
        memmap_on_memory,
    };
    // SAFETY: The region was just made, and `data` is only read.
    let device = from_err_ptr(unsafe { bindings::devm_create_dev_dax(&raw mut data) })?;
    // SAFETY: The device was just made, and lives as long as its owner is bound.
    Ok(unsafe { DaxDevice::from_raw(device) }.into())
}
