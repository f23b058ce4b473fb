// SPDX-License-Identifier: GPL-2.0-only

//! Regions, and drivers that bind to them.
//!
//! C header: `drivers/cxl/cxl.h`

use super::reset::ResetBan;
use crate::{
    abstractions::{
        bindings,
        global::Lifetime,
        marks::Marks, //
    },
    global_mutex,
};
use core::{
    marker::PhantomData,
    mem::offset_of,
    ops::Range,
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    device,
    driver,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    prelude::*,
    sync::aref::ARef,
    types::Opaque,
    ThisModule, //
};
use region_policy::extent::Span;

/// A driver of regions.
///
/// It binds to a region only when somebody names the region in its `bind` file.
pub trait Driver: 'static {
    /// What the driver keeps for a bound region.
    type Data: Send + 'static;

    /// Binds to `region`.
    ///
    /// # Errors
    ///
    /// `ENXIO` and `ENODEV` are silent refusals; the driver core logs every other error.
    fn probe(region: &Region) -> impl PinInit<Self::Data, Error>;

    /// Unbinds from `region`; the data is dropped afterwards.
    fn unbind(_region: &Region, _data: Pin<&Self::Data>) {}
}

/// The adapter between a [`Driver`] and the bus.
pub struct Adapter<T: Driver>(PhantomData<T>);

// SAFETY: `struct cxl_driver` is a C type that embeds a `struct device_driver` as `drv`, and the
// adapter stores `T::Data` as the device's private data.
unsafe impl<T: Driver> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::cxl_driver;
    type DriverData<'bound> = T::Data;
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(bindings::cxl_driver, drv);
}

// SAFETY: Unregistering undoes a successful registration.
unsafe impl<T: Driver> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        driver: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        let raw = driver.get();
        // SAFETY: The structure is ours until it is registered.
        unsafe {
            (*raw).name = name.as_char_ptr();
            (*raw).id = bindings::CXL_DEVICE_REGION as c_int;
            (*raw).probe = Some(Self::probe_callback);
            (*raw).remove = Some(Self::remove_callback);
            super::bind_files::install(&mut (*raw).drv);
        }
        // SAFETY: `raw` is initialised and stays where it is until `unregister()`.
        to_result(unsafe {
            bindings::__cxl_driver_register(raw, module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(driver: &Opaque<Self::DriverType>) {
        // SAFETY: The driver is registered.
        unsafe { bindings::cxl_driver_unregister(driver.get()) };
    }
}

impl<T: Driver> Adapter<T> {
    /// # Safety
    ///
    /// Called by the bus only, with a region whose lock is held.
    unsafe extern "C" fn probe_callback(dev: *mut bindings::device) -> c_int {
        from_result(|| {
            if !super::bind_files::named(dev) {
                return Err(ENODEV);
            }
            // SAFETY: The bus offers us devices of the id that we registered for, and holds the
            // device's lock through the call.
            let region = unsafe { Region::from_device(dev) };
            let data = T::probe(region);
            // SAFETY: In a probe the device is in the core's hands.
            let core = unsafe { &*dev.cast::<device::Device<device::CoreInternal<'_>>>() };
            core.set_drvdata(data)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the bus only, with a region that was probed, and whose lock is held.
    unsafe extern "C" fn remove_callback(dev: *mut bindings::device) {
        // SAFETY: The device was probed, and its lock is held.
        let region = unsafe { Region::from_device(dev) };
        // SAFETY: As in the probe.
        let core = unsafe { &*dev.cast::<device::Device<device::CoreInternal<'_>>>() };
        // SAFETY: The probe stored data of this type, which is dropped after this call.
        let data = unsafe { core.drvdata_borrow::<T::Data>() };
        T::unbind(region, data);
    }
}

/// A region.
///
/// # Invariants
///
/// Stands for a valid `struct cxl_region`.
#[repr(transparent)]
pub struct Region(Opaque<bindings::cxl_region>);

// SAFETY: What is read through a shared region is constant while it is bound, or atomic.
unsafe impl Send for Region {}
// SAFETY: As above.
unsafe impl Sync for Region {}

// SAFETY: A region is counted by its device.
unsafe impl kernel::sync::aref::AlwaysRefCounted for Region {
    fn inc_ref(&self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::get_device(self.as_raw_device()) };
    }

    unsafe fn dec_ref(object: NonNull<Self>) {
        // SAFETY: The caller gives a reference away.
        unsafe { bindings::put_device(object.as_ref().as_raw_device()) };
    }
}

impl Region {
    /// # Safety
    ///
    /// `dev` must be the device of a region that stays valid for the lifetime of the result.
    unsafe fn from_device<'a>(dev: *mut bindings::device) -> &'a Self {
        // SAFETY: The device is embedded in the region, and `Region` is a transparent wrapper.
        unsafe { &*kernel::container_of!(dev, bindings::cxl_region, dev).cast() }
    }

    /// The region whose device `dev` is, if it is one's.
    ///
    /// # Safety
    ///
    /// `dev` must be a valid device for the lifetime of the result.
    pub(super) unsafe fn try_from_device<'a>(dev: *mut bindings::device) -> Option<&'a Self> {
        // SAFETY: The caller promises a valid device, and only its type is looked at.
        let is_region = unsafe { bindings::is_cxl_region(dev) };
        // SAFETY: It is a region's, and the caller promises the rest.
        is_region.then(|| unsafe { Self::from_device(dev) })
    }

    fn as_raw_device(&self) -> *mut bindings::device {
        // SAFETY: The type's invariant.
        unsafe { &raw mut (*self.0.get()).dev }
    }

    /// The `N` of `regionN`.
    pub fn id(&self) -> c_int {
        // SAFETY: The type's invariant; the id never changes.
        unsafe { (*self.0.get()).id }
    }

    /// What the capacity is, as the number of `enum cxl_partition_mode`.
    pub fn mode(&self) -> u32 {
        // SAFETY: The type's invariant; the mode is set at creation.
        unsafe { (*self.0.get()).mode }
    }

    /// Whether the decoders are programmed, and ready for use, as the CXL core tells under its lock.
    ///
    /// Good for the whole time of a binding when it holds in the probe: the core, before it lets
    /// others change what a committed region is made of, releases the region's driver, which waits
    /// for the device lock that a probe holds.
    ///
    /// # Errors
    ///
    /// `EINTR`: a signal came while somebody else had the core's lock.
    pub fn is_committed(&self) -> Result<bool> {
        // SAFETY: The type's invariant; the flag is an atomic bit.
        let needs_reset = unsafe { bindings::region_needs_reset(self.0.get()) };
        Ok(self.shown(c"commit")? != 0 && !needs_reset)
    }

    /// The same, where signals of the current task do not reach.
    pub fn is_committed_unsignalled(&self) -> Result<bool> {
        let mut value = 0;
        // SAFETY: The type's invariant; the name is a C string, and `value` is ours. The flag is an atomic bit.
        unsafe {
            let region = self.0.get();
            let name = c"commit".as_char_ptr();
            to_result(bindings::region_shown_unsignalled(
                region,
                name,
                &raw mut value,
            ))?;
            Ok(value != 0 && !bindings::region_needs_reset(region))
        }
    }

    /// The decoders of the region that decode other addresses than the core gave it, one by one. Only for a
    /// committed region, before its driver is probed or in the probe.
    ///
    /// The decoders of a region that was deleted while it was locked keep its addresses. The core takes those of
    /// the endpoints for free, and a region that is given one for committed.
    pub fn foreign_decoders(&self) -> impl Iterator<Item = ForeignDecoder> + '_ {
        (0..).map_while(|index| {
            // SAFETY: The type's invariant. The targets and ports of a committed region stay until its driver
            // was released, which waits for the device lock that binding holds.
            let decoder = unsafe { bindings::region_foreign_decoder(self.0.get(), index) };
            NonNull::new(decoder).map(|decoder| ForeignDecoder {
                decoder,
                ours: false,
            })
        })
    }

    /// Has every driver refuse the region, until it is committed anew.
    pub fn distrust(&self) {
        // SAFETY: The type's invariant; the flag is an atomic bit.
        unsafe { bindings::region_distrust(self.0.get()) };
    }

    /// What the core shows in the file `name`, a number.
    fn shown(&self, name: &CStr) -> Result<u64> {
        let mut value = 0;
        // SAFETY: The type's invariant; the name is a C string, and `value` is ours.
        to_result(unsafe {
            bindings::region_shown(self.0.get(), name.as_char_ptr(), &raw mut value)
        })?;
        Ok(value)
    }

    /// Whether the driver of one of the region's memdevs has set it aside for itself.
    ///
    /// Only for a committed region.
    pub fn is_set_aside(&self) -> bool {
        self.endpoint_decoders().any(|decoder| {
            // SAFETY: A target of a committed region is a valid decoder below the port of a memdev,
            // whose `attach` is set before the memdev is added.
            unsafe { !(*memdev_of(decoder)).attach.is_null() }
        })
    }

    /// The memdev that gives the region its dynamic capacity, and which of the device's addresses those of the
    /// region are, from its beginning on. Only for a committed region of that mode.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`: the region is interleaved. `ENXIO`: some of what it maps is no dynamic capacity.
    pub fn dynamic_capacity(&self) -> Result<(ARef<super::memdev::Memdev>, Span)> {
        let mut decoders = self.endpoint_decoders();
        let decoder = decoders.next().ok_or(ENXIO)?;
        if decoders.next().is_some() {
            return Err(EOPNOTSUPP);
        }
        // SAFETY: A target of a committed region is a valid decoder with capacity, below the port of a memdev.
        unsafe {
            let capacity = (*decoder).dpa_res.as_ref().ok_or(ENXIO)?;
            if !bindings::endpoint_decoder_is_dynamic(decoder) {
                return Err(ENXIO);
            }
            let length = capacity.end.wrapping_sub(capacity.start).wrapping_add(1);
            let span = Span::new(capacity.start, length).ok_or(ENXIO)?;
            Ok((
                super::memdev::Memdev::from_raw(memdev_of(decoder)).into(),
                span,
            ))
        }
    }

    /// Whether some of what the region maps is dynamic capacity. Only for a committed region, before its driver
    /// is probed or in the probe.
    pub fn maps_dynamic_capacity(&self) -> bool {
        self.endpoint_decoders().any(|decoder| {
            // SAFETY: A target of a committed region is a valid decoder with capacity, below the port of a
            // memdev.
            unsafe {
                !(*decoder).dpa_res.is_null() && bindings::endpoint_decoder_is_dynamic(decoder)
            }
        })
    }

    /// The physical addresses of the region.
    ///
    /// # Errors
    ///
    /// `ENXIO`: it has none. `EINTR`: a signal came while somebody else had the core's lock.
    pub fn range(&self) -> Result<Range<u64>> {
        let start = self.shown(c"resource")?;
        let end = start.checked_add(self.shown(c"size")?);
        end.map(|end| start..end)
            .filter(|range| !range.is_empty())
            .ok_or(ENXIO)
    }

    /// Whether the addresses that the region's decoders were given lie in `range`, at least in part.
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        // SAFETY: The type's invariant. The numbers are part of the region: at worst they change
        // while they are read.
        let own = unsafe { (&raw const (*self.0.get()).hpa_range).read_volatile() };
        own.start < range.end && range.start <= own.end
    }

    /// Offers what its devices can do for the health of the region's memory (scrubbing) to EDAC, until the
    /// region's driver is unbound. To be called in a probe of a committed region.
    pub fn register_edac(&self) -> Result {
        // SAFETY: The type's invariant; what is tied to the binding is undone with it.
        to_result(unsafe { bindings::region_register_edac(self.0.get()) })
    }

    /// How many of the region's first bytes are memory of the processors' own, and a cache of the others;
    /// mostly none. Only for a committed region.
    pub(super) fn linear_cache(&self) -> u64 {
        // SAFETY: The type's invariant; the parameters of a committed region do not change.
        unsafe { (*self.0.get()).params.cache_size }
    }

    /// The region's targets as [`poison`](super::poison) wants them; `None` where an offset in the region
    /// does not tell the place on a device by arithmetic alone, or a device takes no poison. Only for a
    /// committed region.
    pub(super) fn poison_targets(&self) -> Result<Option<super::poison::Targets>> {
        // SAFETY: The type's invariant; the parameters of a committed region do not change.
        let (params, translated) = unsafe {
            let region = self.0.get();
            (
                &(*region).params,
                bindings::region_translates_addresses(region),
            )
        };
        let (Ok(ways), Ok(granularity)) = (
            u32::try_from(params.interleave_ways),
            u32::try_from(params.interleave_granularity),
        ) else {
            return Ok(None);
        };
        let range = self.range()?;
        let mut targets = super::poison::Targets::new(range, params.cache_size, ways, granularity);
        for decoder in self.endpoint_decoders() {
            // SAFETY: A target of a committed region is a valid decoder with capacity, below the port of a
            // memdev.
            let (memdev, position, start) = unsafe {
                let capacity = (*decoder).dpa_res.as_ref().ok_or(ENXIO)?;
                (memdev_of(decoder), (*decoder).pos, capacity.start)
            };
            // SAFETY: As above.
            if !unsafe { bindings::memdev_takes_poison(memdev) } {
                return Ok(None);
            }
            // SAFETY: As above.
            unsafe { targets.push(memdev, position, start)? };
        }
        Ok((!translated && targets.are_known()).then_some(targets))
    }

    /// How fast the region's memory is, for each class of initiators; zeros where nobody knows. Only for
    /// a committed region.
    pub(super) fn coordinates(&self) -> [bindings::access_coordinate; 2] {
        // SAFETY: The type's invariant; the coordinates of a committed region do not change.
        unsafe { (*self.0.get()).coord }
    }

    /// Has the files `accessN/` of the region show what is known of its speed by now: they are made with
    /// the region, when nothing is.
    pub(super) fn show_coordinates(&self) {
        let dev = self.as_raw_device();
        // SAFETY: The type's invariant; a device's type never changes, and has a list of groups that
        // a null pointer ends.
        let mut group = unsafe { (*(*dev).type_).groups };
        // SAFETY: As above.
        while let Some(found) = unsafe { group.as_ref().and_then(|group| group.as_ref()) } {
            // SAFETY: A group's name is null or a string.
            let name = (!found.name.is_null()).then(|| unsafe { CStr::from_char_ptr(found.name) });
            if name.is_some_and(|name| name == c"access0" || name == c"access1") {
                // SAFETY: The group is one that the device was made with. That it fails is no reason
                // to fail: the files are for people to look at.
                let _ = unsafe { bindings::sysfs_update_group(&raw mut (*dev).kobj, found) };
            }
            // SAFETY: The null pointer at the end was not reached.
            group = unsafe { group.add(1) };
        }
    }

    /// Which devices, when they lose their driver, take the region's decoders down with them: the
    /// memdevs and their endpoint ports. Only for a committed region.
    pub fn dependencies(&self) -> Result<KVec<super::notifier::DeviceKey>> {
        let mut keys = KVec::new();
        for decoder in self.endpoint_decoders() {
            // SAFETY: As in `is_set_aside()`; a decoder's parent is its port.
            let (memdev, port) = unsafe {
                (
                    &raw mut (*memdev_of(decoder)).dev,
                    (*decoder).cxld.dev.parent,
                )
            };
            keys.push(super::notifier::DeviceKey::of(memdev), GFP_KERNEL)?;
            keys.push(super::notifier::DeviceKey::of(port), GFP_KERNEL)?;
        }
        Ok(keys)
    }

    /// Keeps the region's devices from being reset. Only for a committed region.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn forbid_resets(&self) -> Result<ResetBan> {
        let mut ban = ResetBan::new();
        for decoder in self.endpoint_decoders() {
            // SAFETY: As in `is_set_aside()`; a memdev's parent is the function that it is of.
            let (function, port) = unsafe {
                let function = (*memdev_of(decoder)).dev.parent;
                (device::Device::from_raw(function), (*function).parent)
            };
            ban.add(function)?;
            // The port that the bus is below is asked as well, and alone once the function was removed from the bus.
            if let Some(port) = NonNull::new(port) {
                // SAFETY: The function keeps its parent.
                ban.add(unsafe { device::Device::from_raw(port.as_ptr()) })?;
            }
        }
        Ok(ban)
    }

    fn endpoint_decoders(&self) -> impl Iterator<Item = *mut bindings::cxl_endpoint_decoder> + '_ {
        // SAFETY: The type's invariant; the targets of a committed region do not change.
        let params = unsafe { &(*self.0.get()).params };
        let count = usize::try_from(params.nr_targets).unwrap_or(0);
        params
            .targets
            .iter()
            .take(count)
            .copied()
            .filter(|decoder| !decoder.is_null())
    }

    /// Locks the region's decoders: they stay as they are until the lock is dropped, whatever
    /// happens to the region.
    ///
    /// `commit=0` is refused (`EPERM`). Removing a memdev, a target or the region itself no longer
    /// resets the decoders under memory that is in use, which would kill the machine.
    ///
    /// A reset that has begun by now is not stopped. Whoever asks [`Region::is_committed`] after this
    /// waits for its end, and learns of it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn lock_decoders(&self) -> Result<DecoderLock> {
        LOCKED.lock()?.add(self, |region| {
            // SAFETY: The type's invariant; the flag is an atomic bit.
            unsafe { bindings::region_lock_decoders(region.0.get()) }
        })?;
        Ok(DecoderLock {
            region: self.into(),
        })
    }

    /// Locks the decoders of all regions whose decoders precede those of this one on a device. Only for a
    /// committed region.
    ///
    /// A device takes its addresses for a decoder from where those of the decoder before end (CXL 3.1, section
    /// 8.2.4.20.12): without that one, this region's addresses lead elsewhere or nowhere.
    ///
    /// # Errors
    ///
    /// `ENXIO`: such a decoder is not programmed, or just being taken down. `ENOMEM`.
    pub fn lock_preceding(&self) -> Result<KVec<DecoderLock>> {
        let mut locks = KVec::new();
        for index in 0.. {
            // SAFETY: The type's invariant. The targets of a committed region do not change.
            let region = from_err_ptr(unsafe { bindings::region_preceding(self.0.get(), index) })?;
            let Some(region) = NonNull::new(region.cast::<Self>()) else {
                break;
            };
            // SAFETY: The helper gave a reference to a valid region; `Region` is a transparent wrapper.
            let region = unsafe { ARef::from_raw(region) };
            locks.push(region.lock_decoders()?, GFP_KERNEL)?;
            if !region.is_committed_unsignalled()? {
                return Err(ENXIO);
            }
        }
        Ok(locks)
    }
}

impl AsRef<device::Device> for Region {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: The type's invariant.
        unsafe { device::Device::from_raw(self.as_raw_device()) }
    }
}

/// The memdev of `decoder`, as the core's `cxled_to_memdev()` finds it.
///
/// # Safety
///
/// `decoder` must be a valid endpoint decoder.
unsafe fn memdev_of(decoder: *mut bindings::cxl_endpoint_decoder) -> *mut bindings::cxl_memdev {
    // SAFETY: The caller promises a valid decoder; its helper only follows pointers.
    unsafe { bindings::endpoint_decoder_memdev(decoder) }
}

/// Keeps a region's decoders programmed; see [`Region::lock_decoders`].
///
/// Several may lock the same. Firmware may have locked the decoders for good.
pub struct DecoderLock {
    region: ARef<Region>,
}

global_mutex! {
    /// The regions whose decoders are locked.
    static LOCKED(locked_lock): Marks<Region> = Marks::new();
}

/// From the module's init to its exit.
pub(super) fn lifetime() -> Lifetime {
    LOCKED.begin()
}

impl DecoderLock {
    /// Whether it keeps the decoders of this very `region`.
    pub fn is_of(&self, region: &Region) -> bool {
        core::ptr::eq(&*self.region, region)
    }
}

impl Drop for DecoderLock {
    fn drop(&mut self) {
        if let Ok(mut locked) = LOCKED.lock() {
            locked.remove(&self.region, |region| {
                // SAFETY: The region is valid; the flag is an atomic bit.
                unsafe { bindings::region_unlock_decoders(region.0.get()) };
            });
        }
    }
}

/// A decoder that a region got, and that decodes the addresses of another.
pub struct ForeignDecoder {
    /// Counted.
    decoder: NonNull<bindings::cxl_decoder>,
    /// Whether it is locked, and that is ours to take away.
    ours: bool,
}

// SAFETY: The reference is counted; of the decoder only an atomic bit is changed.
unsafe impl Send for ForeignDecoder {}

impl ForeignDecoder {
    /// Keeps it programmed, as long as this lives, when its region is taken down.
    pub fn lock(&mut self) {
        // SAFETY: The reference keeps the decoder; the flag is an atomic bit.
        self.ours |= unsafe { bindings::decoder_lock(self.decoder.as_ptr()) };
    }
}

impl Drop for ForeignDecoder {
    fn drop(&mut self) {
        let decoder = self.decoder.as_ptr();
        if self.ours {
            // SAFETY: As in `lock()`.
            unsafe { bindings::decoder_unlock(decoder) };
        }
        // SAFETY: The reference is given away.
        unsafe { bindings::put_device(&raw mut (*decoder).dev) };
    }
}
