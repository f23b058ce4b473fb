// SPDX-License-Identifier: GPL-2.0-only

//! Devices of our own on the CXL bus, below a region, and their drivers.
//!
//! The driver above adds the device; the device's own driver binds to it and never adds itself.
//!
//! The bus does not know our kinds of device: its id for them is 0, which it has for decoders as
//! well. So the adapter looks at the kind itself, and answers `ENODEV` for everything else.

use crate::abstractions::{
    attribute::{
        Groups,
        Owner, //
    },
    bindings,
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    device,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    types::Opaque,
    ThisModule, //
};

/// What stands behind a device of a kind of ours.
pub trait Object: Send + Sync + 'static {
    /// The kind of device.
    fn kind() -> &'static Kind<Self>
    where
        Self: Sized;
}

/// A kind of device; there is one static of it for each [`Object`].
#[repr(transparent)]
pub struct Kind<T>(bindings::device_type, PhantomData<fn() -> T>);

// SAFETY: The structure is only read once it is initialised.
unsafe impl<T> Sync for Kind<T> {}

impl<T: Object> Kind<T> {
    /// Makes a kind called `name`, whose devices have `attributes`.
    pub const fn new(name: &'static CStr, attributes: Option<&'static Groups>) -> Self {
        let mut kind: bindings::device_type = pin_init::zeroed();
        kind.name = name.to_bytes_with_nul().as_ptr().cast();
        if let Some(attributes) = attributes {
            kind.groups = attributes.as_ptr().cast_mut();
        }
        kind.release = Some(release::<T>);
        Self(kind, PhantomData)
    }

    fn as_ptr(&'static self) -> *const bindings::device_type {
        &raw const self.0
    }
}

/// A device of a kind of ours.
///
/// # Invariants
///
/// `dev` is an initialised device of the kind of `T`, embedded in this structure, which it frees
/// with its last reference.
#[pin_data]
#[repr(C)]
pub struct Subregion<T: Object> {
    dev: Opaque<bindings::device>,
    #[pin]
    object: T,
}

impl<T: Object> Subregion<T> {
    /// # Safety
    ///
    /// `dev` must be a valid device of the kind of `T` for the lifetime of the result.
    unsafe fn from_raw<'a>(dev: *mut bindings::device) -> &'a Self {
        // SAFETY: The device is the first field.
        unsafe { &*dev.cast() }
    }

    fn as_raw(&self) -> *mut bindings::device {
        self.dev.get()
    }
}

impl<T: Object> Deref for Subregion<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T: Object> AsRef<device::Device> for Subregion<T> {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: The type's invariant.
        unsafe { device::Device::from_raw(self.as_raw()) }
    }
}

// SAFETY: The object is embedded in the device, and is freed with it.
unsafe impl<T: Object> Owner for Subregion<T> {
    type Target = T;

    unsafe fn from_device<'a>(dev: *mut bindings::device) -> &'a T {
        // SAFETY: The caller promises a device of this kind.
        unsafe { Self::from_raw(dev) }
    }
}

/// Frees a device with its last reference.
///
/// # Safety
///
/// Called by the driver core only, once, for a device of the kind of `T`.
unsafe extern "C" fn release<T: Object>(dev: *mut bindings::device) {
    // SAFETY: The device was made by `Pending::new()`, from a box, and nobody refers to it.
    drop(unsafe { KBox::from_raw(dev.cast::<Subregion<T>>()) });
    // SAFETY: Pairs with the count in `Pending::new()`.
    unsafe { bindings::subregion_count_put() };
}

/// Waits until the last device of our kinds is freed: their release is code of this module.
///
/// Keep one for the whole life of the module, to be dropped last.
pub struct WaitForRelease;

impl Drop for WaitForRelease {
    fn drop(&mut self) {
        // SAFETY: Drivers are unregistered, so that no device is made any more.
        unsafe { bindings::subregion_count_wait() };
    }
}

/// A device that is made and not yet added to the system.
pub struct Pending<T: Object>(NonNull<Subregion<T>>);

impl<T: Object> Pending<T> {
    /// Makes a device called `prefix` and `number` below `parent`.
    pub fn new(
        parent: &device::Device,
        prefix: &CStr,
        number: c_int,
        object: impl PinInit<T, Error>,
    ) -> Result<Self> {
        let subregion = KBox::pin_init(
            try_pin_init!(Subregion {
                dev: Opaque::zeroed(),
                object <- object,
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: The device will be counted, and never moves before its release.
        let raw = KBox::into_raw(unsafe { Pin::into_inner_unchecked(subregion) });
        let dev = raw.cast::<bindings::device>();

        // SAFETY: The device is zeroed memory of ours. From its initialisation on, its reference
        // count owns the box, and its release counts down.
        unsafe {
            bindings::subregion_count_get();
            bindings::device_initialize(dev);
            (*dev).parent = crate::abstractions::device::raw(parent);
            (*dev).bus = &raw const bindings::cxl_bus_type;
            (*dev).type_ = T::kind().as_ptr();
        }
        // SAFETY: `raw` comes from a box.
        let pending = Self(unsafe { NonNull::new_unchecked(raw) });
        // SAFETY: The format takes a string and a number.
        to_result(unsafe {
            bindings::dev_set_name(dev, c"%s%d".as_char_ptr(), prefix.as_char_ptr(), number)
        })?;
        Ok(pending)
    }

    /// Adds the device; its driver, if there is one, binds to it meanwhile.
    pub fn add(self) -> Result<Registered<T>> {
        // SAFETY: The device is initialised and named.
        to_result(unsafe { bindings::device_add(self.as_raw()) })?;
        let registered = Registered(self.0);
        // The reference goes over.
        core::mem::forget(self);
        Ok(registered)
    }
}

impl<T: Object> Deref for Pending<T> {
    type Target = Subregion<T>;

    fn deref(&self) -> &Subregion<T> {
        // SAFETY: `self` holds a reference.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Object> Drop for Pending<T> {
    fn drop(&mut self) {
        // SAFETY: `self` holds a reference, and gives it away.
        unsafe { bindings::put_device(self.as_raw()) };
    }
}

/// A device that was added; dropping this takes it away, its driver first.
pub struct Registered<T: Object>(NonNull<Subregion<T>>);

// SAFETY: The object is `Send` and `Sync`, and a device may be removed from any thread.
unsafe impl<T: Object> Send for Registered<T> {}
// SAFETY: As above.
unsafe impl<T: Object> Sync for Registered<T> {}

impl<T: Object> Deref for Registered<T> {
    type Target = Subregion<T>;

    fn deref(&self) -> &Subregion<T> {
        // SAFETY: `self` holds a reference.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Object> Drop for Registered<T> {
    fn drop(&mut self) {
        // SAFETY: The device was added, and `self` gives its reference away.
        unsafe { bindings::device_unregister(self.as_raw()) };
    }
}

/// A driver of devices of a kind of ours.
///
/// What it keeps of a device, it keeps in the device's object: a DAX region takes the place of the
/// driver's data for itself.
pub trait Driver: 'static {
    /// What stands behind the devices.
    type Object: Object;

    /// Whether users bind and unbind it by name; otherwise it binds to each device that is added.
    const BOUND_BY_USERS: bool;

    /// Binds to `device`.
    ///
    /// # Errors
    ///
    /// `ENXIO` and `ENODEV` are silent refusals; the driver core logs every other error.
    fn probe(device: &Subregion<Self::Object>) -> Result;

    /// Unbinds from `device`.
    fn unbind(device: &Subregion<Self::Object>);
}

/// A registered [`Driver`]; dropping it unregisters the driver.
#[pin_data(PinnedDrop)]
pub struct Registration<T: Driver> {
    #[pin]
    driver: Opaque<bindings::cxl_driver>,
    _driver: PhantomData<T>,
}

// SAFETY: A registration has no methods.
unsafe impl<T: Driver> Sync for Registration<T> {}
// SAFETY: A driver may be unregistered from any thread.
unsafe impl<T: Driver> Send for Registration<T> {}

impl<T: Driver> Registration<T> {
    /// Registers the driver under `name`.
    pub fn new(name: &'static CStr, module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            driver <- Opaque::try_ffi_init(move |driver: *mut bindings::cxl_driver| {
                let mut init: bindings::cxl_driver = pin_init::zeroed();
                init.name = name.as_char_ptr();
                init.probe = Some(probe_callback::<T>);
                init.remove = Some(remove_callback::<T>);
                init.drv.name = name.as_char_ptr();
                init.drv.bus = &raw const bindings::cxl_bus_type;
                init.drv.owner = module.as_ptr();
                init.drv.mod_name = name.as_char_ptr();
                // Whoever adds a device asks right after what came of it.
                init.drv.probe_type = bindings::probe_type_PROBE_FORCE_SYNCHRONOUS;
                if T::BOUND_BY_USERS {
                    super::bind_files::install(&mut init.drv);
                } else {
                    init.drv.suppress_bind_attrs = true;
                }
                // SAFETY: `driver` is valid for writes, is pinned, and is unregistered before it
                // goes away. The bus's own function refuses the id 0, so the driver core's is
                // called, which does all else that it does.
                unsafe {
                    driver.write(init);
                    to_result(bindings::driver_register(&raw mut (*driver).drv))
                }
            }),
            _driver: PhantomData,
        })
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The existence of `self` means that the driver was registered.
        unsafe { bindings::driver_unregister(&raw mut (*self.driver.get()).drv) };
    }
}

/// # Safety
///
/// Called by the bus only, with a device whose lock is held.
unsafe extern "C" fn probe_callback<T: Driver>(dev: *mut bindings::device) -> c_int {
    from_result(|| {
        // SAFETY: The device is valid, and its type never changes.
        let kind = unsafe { (*dev).type_ };
        if !core::ptr::eq(kind, T::Object::kind().as_ptr()) {
            return Err(ENODEV);
        }
        if T::BOUND_BY_USERS && !super::bind_files::named(dev) {
            return Err(ENODEV);
        }
        // SAFETY: The kind tells what the device is.
        T::probe(unsafe { Subregion::from_raw(dev) })?;
        Ok(0)
    })
}

/// # Safety
///
/// Called by the bus only, with a device that was probed, and whose lock is held.
unsafe extern "C" fn remove_callback<T: Driver>(dev: *mut bindings::device) {
    // SAFETY: Only devices of this kind are probed successfully.
    T::unbind(unsafe { Subregion::from_raw(dev) });
}
