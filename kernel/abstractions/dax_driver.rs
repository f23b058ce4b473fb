// SPDX-License-Identifier: GPL-2.0-only

//! Drivers on the DAX bus.
//!
//! C header: `drivers/dax/bus.h`

use super::{
    attribute::{
        Groups,
        Owner, //
    },
    bindings,
};
use core::{
    marker::PhantomData,
    mem::offset_of,
    ops::Range,
    pin::Pin, //
};
use kernel::{
    device,
    driver,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    types::Opaque,
    ThisModule, //
};

/// A driver of DAX devices that turns them into memory of the system (`DAXDRV_KMEM_TYPE`).
pub trait Driver: 'static {
    /// What the driver keeps for a bound device.
    type Data: Send + Sync + 'static;

    /// The attributes of a device that is bound.
    const ATTRIBUTES: &'static Groups;

    /// Binds to `device`.
    fn probe(device: &Device) -> impl PinInit<Self::Data, Error>;

    /// The device is about to be unbound: its files go next, and whoever is writing to one is waited for.
    fn leaving(data: Pin<&Self::Data>);

    /// Unbinds from `device`; the driver's data is dropped afterwards.
    fn unbind(device: &Device, data: Pin<&Self::Data>);
}

/// The adapter between a [`Driver`] and the bus.
pub struct Adapter<T: Driver>(PhantomData<T>);

// SAFETY: `struct dax_device_driver` is a C type that embeds a `struct device_driver` as `drv`, and
// the adapter stores `T::Data` as the device's private data.
unsafe impl<T: Driver> driver::DriverLayout for Adapter<T> {
    type DriverType = bindings::dax_device_driver;
    type DriverData<'bound> = T::Data;
    const DEVICE_DRIVER_OFFSET: usize = offset_of!(bindings::dax_device_driver, drv);
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
            (*raw).type_ = bindings::dax_driver_type_DAXDRV_KMEM_TYPE;
            (*raw).probe = Some(Self::probe_callback);
            (*raw).remove = Some(Self::remove_callback);
            // Whoever adds a device asks right after what came of it.
            (*raw).drv.probe_type = bindings::probe_type_PROBE_FORCE_SYNCHRONOUS;
        }
        // SAFETY: `raw` is initialised and stays where it is until `unregister()`.
        to_result(unsafe {
            bindings::__dax_driver_register(raw, module.as_ptr(), name.as_char_ptr())
        })
    }

    unsafe fn unregister(driver: &Opaque<Self::DriverType>) {
        // SAFETY: The driver is registered.
        unsafe { bindings::dax_driver_unregister(driver.get()) };
    }
}

impl<T: Driver> Adapter<T> {
    /// # Safety
    ///
    /// Called by the bus only, with a device whose lock is held.
    unsafe extern "C" fn probe_callback(raw: *mut bindings::dev_dax) -> c_int {
        // SAFETY: The bus calls with a valid device, and holds its lock through the call.
        let device = unsafe { Device::from_raw(raw) };
        from_result(|| {
            let data = T::probe(device);
            // SAFETY: In a probe the device is in the core's hands.
            let core = unsafe {
                &*core::ptr::from_ref::<device::Device>(device.as_ref())
                    .cast::<device::Device<device::CoreInternal<'_>>>()
            };
            core.set_drvdata(data)?;
            // The driver core would have the files go before anybody could tell those who write to them.
            //
            // SAFETY: The device is valid, and the groups are constant. They find their data.
            let added = to_result(unsafe {
                bindings::device_add_groups(device.as_raw_device(), T::ATTRIBUTES.as_ptr())
            });
            if let Err(error) = added {
                // SAFETY: The data was just stored, and is dropped by the driver core once this failed.
                let data = unsafe { DriverData::<T>::pinned(device.as_raw_device()) };
                T::leaving(data);
                T::unbind(device, data);
                return Err(error);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the bus only, with a device that was probed, and whose lock is held.
    unsafe extern "C" fn remove_callback(raw: *mut bindings::dev_dax) {
        // SAFETY: The bus calls with a device that was probed, and holds its lock.
        let device = unsafe { Device::from_raw(raw) };
        // SAFETY: The probe stored the data, which is dropped after this call.
        let data = unsafe { DriverData::<T>::pinned(device.as_raw_device()) };
        T::leaving(data);
        // SAFETY: The probe added these.
        unsafe { bindings::device_remove_groups(device.as_raw_device(), T::ATTRIBUTES.as_ptr()) };
        T::unbind(device, data);
    }
}

/// A DAX device: ranges of memory that belong together.
///
/// # Invariants
///
/// Stands for a valid `struct dev_dax`, held by the bus.
#[repr(transparent)]
pub struct Device(Opaque<bindings::dev_dax>);

impl Device {
    /// # Safety
    ///
    /// `raw` must be a valid device for the lifetime of the result.
    unsafe fn from_raw<'a>(raw: *mut bindings::dev_dax) -> &'a Self {
        // SAFETY: `Device` is a transparent wrapper, and the caller promises the rest.
        unsafe { &*raw.cast() }
    }

    fn as_raw_device(&self) -> *mut bindings::device {
        // SAFETY: The type's invariant.
        unsafe { &raw mut (*self.0.get()).dev }
    }

    /// The node that the memory goes to once it is online, if the platform knows one.
    pub fn target_node(&self) -> Option<i32> {
        // SAFETY: The type's invariant; the node is set before the device is added.
        let node = unsafe { (*self.0.get()).target_node };
        (node >= 0).then_some(node)
    }

    /// Whether the memory map may be placed in the memory itself.
    ///
    /// The bus refuses to change it while a driver of this type is bound.
    pub fn memmap_on_memory(&self) -> bool {
        // SAFETY: The type's invariant.
        unsafe { (*self.0.get()).memmap_on_memory }
    }

    /// The device that owns the DAX region of this device: the key of a policy.
    pub fn owner(&self) -> OwnerKey {
        // SAFETY: The type's invariant; a device's region and its owner never change.
        OwnerKey(unsafe { (*(*self.0.get()).region).dev } as usize)
    }

    /// The number of ranges, which does not change while a driver is bound.
    pub fn range_count(&self) -> usize {
        // SAFETY: The type's invariant.
        usize::try_from(unsafe { (*self.0.get()).nr_range }).unwrap_or(0)
    }

    /// The physical addresses of range `index`.
    pub fn range(&self, index: usize) -> Option<Range<u64>> {
        if index >= self.range_count() {
            return None;
        }
        // SAFETY: The type's invariant: there are `range_count()` ranges, which do not change while
        // a driver is bound.
        let range = unsafe { (*(*self.0.get()).ranges.add(index)).range };
        Some(range.start..range.end.saturating_add(1))
    }
}

impl AsRef<device::Device> for Device {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: The type's invariant.
        unsafe { device::Device::from_raw(self.as_raw_device()) }
    }
}

/// Which device owns a DAX region, as a mere name: two keys are equal when the owners are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnerKey(usize);

impl OwnerKey {
    /// The key of the owner `device`.
    pub fn of(device: *mut c_void) -> Self {
        Self(device as usize)
    }
}

/// The [`Owner`] of the attributes of a device bound to `T`: the driver's data.
pub struct DriverData<T: Driver>(PhantomData<T>);

impl<T: Driver> DriverData<T> {
    /// # Safety
    ///
    /// `dev` must be bound to `T`, and its data not yet dropped for the lifetime of the result.
    unsafe fn pinned<'a>(dev: *mut bindings::device) -> Pin<&'a T::Data> {
        // SAFETY: The caller promises that the device is valid and bound.
        let bound = unsafe { &*dev.cast::<device::Device<device::CoreInternal<'_>>>() };
        // SAFETY: The adapter stored the data of this type.
        unsafe { bound.drvdata_borrow::<T::Data>() }
    }
}

// SAFETY: The attributes of a bound device exist from the end of the probe to the beginning of the remove, and
// the data for longer.
unsafe impl<T: Driver> Owner for DriverData<T> {
    type Target = T::Data;

    unsafe fn from_device<'a>(dev: *mut bindings::device) -> &'a T::Data {
        // SAFETY: The caller promises that the attributes exist.
        unsafe { Self::pinned(dev) }.get_ref()
    }
}
