// SPDX-License-Identifier: GPL-2.0-only

//! DAX devices as the owner of their region sees them, and the drivers that they are given to.
//!
//! C headers: `drivers/dax/{bus,dax-private}.h`

use super::{
    attribute::Owner,
    bindings,
    device::raw, //
};
use core::{
    ops::Range,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    device,
    error::to_result,
    prelude::*,
    str::CString,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};

/// A DAX device.
///
/// # Invariants
///
/// Stands for a valid `struct dev_dax`.
#[repr(transparent)]
pub struct DaxDevice(Opaque<bindings::dev_dax>);

// SAFETY: Everything that is done to a shared device takes the locks that it needs.
unsafe impl Send for DaxDevice {}
// SAFETY: As above.
unsafe impl Sync for DaxDevice {}

// SAFETY: A DAX device is counted by its device.
unsafe impl AlwaysRefCounted for DaxDevice {
    fn inc_ref(&self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::get_device(self.as_raw_device()) };
    }

    unsafe fn dec_ref(object: NonNull<Self>) {
        // SAFETY: The caller gives a reference away.
        unsafe { bindings::put_device(object.as_ref().as_raw_device()) };
    }
}

impl DaxDevice {
    /// # Safety
    ///
    /// `raw` must be a valid device for the lifetime of the result.
    pub(super) unsafe fn from_raw<'a>(raw: *mut bindings::dev_dax) -> &'a Self {
        // SAFETY: `DaxDevice` is a transparent wrapper, and the caller promises the rest.
        unsafe { &*raw.cast() }
    }

    fn as_raw_device(&self) -> *mut bindings::device {
        // SAFETY: The type's invariant.
        unsafe { &raw mut (*self.0.get()).dev }
    }

    /// Whether the device has no memory yet; no driver takes it then.
    pub fn is_empty(&self) -> bool {
        self.range_count() == 0
    }

    /// Gives the device `range` of its region, after those that it has, as a write to its attribute `mapping`
    /// does.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: another device has some of it. `EINVAL`: it is not made of whole huge pages.
    pub fn add_range(&self, range: &Range<u64>) -> Result {
        let last = range.end.saturating_sub(1);
        let text = CString::try_from_fmt(fmt!("{:#x}-{:#x}", range.start, last))?;
        let before = self.range_count();
        self.write(c"mapping", &text)?;
        // The attribute does not tell.
        if self.range_count() == before {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn range_count(&self) -> c_int {
        // SAFETY: The type's invariant. The number is a word, read once.
        unsafe { (&raw const (*self.0.get()).nr_range).read_volatile() }
    }

    /// Lets nobody change the ranges of the device by its files.
    pub(super) fn fix_ranges(&self) -> Result {
        // SAFETY: The type's invariant.
        to_result(unsafe { bindings::dev_dax_fix_ranges(self.0.get()) })
    }

    /// Lets nobody open the device until the result is dropped or a driver takes the device.
    ///
    /// `None` if somebody has it open or mapped, holds a page of it, or a file system lies on it. Drivers do not look after
    /// such users of the driver before them: those would crash the kernel.
    pub fn close(&self) -> Option<Closed> {
        let mut before = ptr::null();
        // SAFETY: The type's invariant.
        let closed = unsafe { bindings::dev_dax_close(self.0.get(), &raw mut before) };
        closed.then(|| Closed {
            device: self.into(),
            before,
        })
    }

    /// Gives the device `size` bytes of its region, as a write to its attribute `size` does: the DAX
    /// bus has no other door.
    ///
    /// # Errors
    ///
    /// Those of the attribute: `EBUSY` with a driver, `ENOSPC`, `EINVAL` if the size is not aligned.
    pub fn set_size(&self, size: u64) -> Result {
        let text = CString::try_from_fmt(fmt!("{size}"))?;
        self.write(c"size", &text)
    }

    /// Writes `text` to the attribute `name` of all DAX devices.
    fn write(&self, name: &CStr, text: &CStr) -> Result {
        let dev = self.as_raw_device();
        // SAFETY: The type's invariant: the device's type and its tables are constant, and a null
        // pointer ends each.
        unsafe {
            let mut group = (*(*dev).type_).groups;
            while let Some(table) = (*group).as_ref() {
                let mut attribute = table
                    .__bindgen_anon_2
                    .attrs
                    .cast::<*mut bindings::attribute>();
                while let Some(entry) = (*attribute).as_ref() {
                    if CStr::from_char_ptr(entry.name) == name {
                        return store(dev, *attribute, text);
                    }
                    attribute = attribute.add(1);
                }
                group = group.add(1);
            }
        }
        Err(ENOENT)
    }

    /// The driver that has the device.
    pub fn driver(&self) -> Option<DaxDriver> {
        // SAFETY: The type's invariant.
        NonNull::new(unsafe { bindings::dev_dax_driver_get(self.0.get()) }).map(DaxDriver)
    }

    /// Whether the driver called `name` has the device.
    pub fn is_with(&self, name: &str) -> bool {
        let Some(driver) = self.driver() else {
            return false;
        };
        // SAFETY: A driver has a name, and stays registered as long as it is held.
        let own = unsafe { CStr::from_char_ptr(driver.0.as_ref().name) };
        own.to_bytes() == name.as_bytes()
    }

    /// The driver called `name` on the device's bus; its module, which is called the same, is loaded
    /// if it is not.
    ///
    /// # Errors
    ///
    /// `ENODEV`: there is no such driver.
    pub fn load_driver(&self, name: &str) -> Result<DaxDriver> {
        if let Some(driver) = self.find_driver(name) {
            return Ok(driver);
        }
        let length = c_int::try_from(name.len())?;
        // SAFETY: The format takes a length and as many bytes. Whether it worked is seen below.
        unsafe { bindings::__request_module(true, c"%.*s".as_char_ptr(), length, name.as_ptr()) };
        self.find_driver(name).ok_or(ENODEV)
    }

    fn find_driver(&self, name: &str) -> Option<DaxDriver> {
        let mut wanted = Wanted { name, found: None };
        // SAFETY: The device is on a bus, which calls back with what it is given.
        unsafe {
            bindings::bus_for_each_drv(
                (*self.as_raw_device()).bus,
                ptr::null_mut(),
                (&raw mut wanted).cast(),
                Some(compare),
            )
        };
        wanted.found
    }

    /// Has every driver refuse the device from here on; the one that has it keeps it.
    fn retire(&self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::dev_dax_retire(self.0.get()) };
    }

    /// Lets nobody open the device any more, whoever has it open; returns whether somebody may. See
    /// [`release_all`].
    fn shut(&self) -> bool {
        // SAFETY: The type's invariant.
        unsafe { bindings::dev_dax_shut(self.0.get()) }
    }

    /// Takes the memory of the device from whoever uses it: mappings of it end, whoever touches what was mapped is
    /// told by SIGBUS, and the driver goes.
    ///
    /// # Errors
    ///
    /// `EBUSY`: somebody holds a page of it. The driver stays, and nobody can open or map it any more.
    pub fn take_from_users(&self) -> Result {
        self.shut();
        wait_for_openers();
        // SAFETY: The type's invariant.
        if !unsafe { bindings::dev_dax_revoke(self.0.get()) } {
            return Err(EBUSY);
        }
        self.release();
        Ok(())
    }

    /// Takes the device from its driver, if it has one: mappings of it end.
    pub(super) fn release(&self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::device_release_driver(self.as_raw_device()) };
    }
}

// SAFETY: The device is embedded in the DAX device.
unsafe impl Owner for DaxDevice {
    type Target = Self;

    unsafe fn from_device<'a>(dev: *mut bindings::device) -> &'a Self {
        // SAFETY: The caller promises a device of this kind.
        unsafe { Self::from_raw(kernel::container_of!(dev, bindings::dev_dax, dev)) }
    }
}

impl AsRef<device::Device> for DaxDevice {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: The type's invariant.
        unsafe { device::Device::from_raw(self.as_raw_device()) }
    }
}

/// A DAX device that nobody uses, and nobody can open.
pub struct Closed {
    device: ARef<DaxDevice>,
    /// The operations of its character device.
    before: *const bindings::file_operations,
}

impl Closed {
    /// Gives the device to `driver`, whoever has it now.
    ///
    /// # Errors
    ///
    /// The driver's own. `EBUSY`: somebody who tries to open the device is in the way. The device is without a
    /// driver then.
    pub fn give_to(&self, driver: &DaxDriver) -> Result {
        if self.device.driver().is_some_and(|now| now == *driver) {
            return Ok(());
        }
        self.device.release();
        let raw = self.device.0.get();
        // SAFETY: The device is valid, and so is what it has for the core of DAX. A driver lets the
        // device be opened before it brings it to life, and whoever maps what was opened then makes it
        // follow a null pointer. So the device is alive before that.
        unsafe {
            if !bindings::dev_dax_wait_for_latecomers(raw) {
                return Err(EBUSY);
            }
            bindings::run_dax((*raw).dax_dev);
        }
        // SAFETY: Both are valid, and the driver is registered.
        let result = to_result(unsafe {
            bindings::device_driver_attach(driver.0.as_ptr(), self.device.as_raw_device())
        });
        if result.is_err() && self.device.driver().is_none() {
            // What a driver that failed has left of its page map would keep every other from taking the device.
            //
            // SAFETY: As above.
            unsafe { bindings::kill_dev_dax(raw) };
        }
        result
    }

    /// Takes the device from its driver, if it has one.
    pub fn release(&self) {
        self.device.release();
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        // SAFETY: The device is valid, and these are the operations that it had. They are the driver's
        // that has it, or nothing is done.
        unsafe { bindings::dev_dax_reopen(self.device.0.get(), self.before) };
    }
}

/// Calls the attribute's own function, with the newline that it may have.
///
/// # Safety
///
/// `attribute` must be an attribute of `dev`.
unsafe fn store(
    dev: *mut bindings::device,
    attribute: *mut bindings::attribute,
    text: &CStr,
) -> Result {
    // SAFETY: The attributes of a device are embedded in this structure.
    let attribute = unsafe { kernel::container_of!(attribute, bindings::device_attribute, attr) };
    // SAFETY: The caller promises the attribute; what it stores is set once.
    let store = unsafe { (*attribute).__bindgen_anon_2.store }.ok_or(EPERM)?;
    let length = text.to_bytes().len();
    // SAFETY: The attribute is the device's, and the text has as many bytes and a zero byte.
    let written = unsafe { store(dev, attribute, text.as_char_ptr(), length) };
    to_result(c_int::try_from(written)?)
}

/// The driver that is looked for among those of a bus.
struct Wanted<'a> {
    name: &'a str,
    found: Option<DaxDriver>,
}

/// # Safety
///
/// Called by `bus_for_each_drv()` only, with a [`Wanted`]. The driver stays registered meanwhile.
unsafe extern "C" fn compare(driver: *mut bindings::device_driver, data: *mut c_void) -> c_int {
    // SAFETY: `load_driver()` passes its own.
    let wanted = unsafe { &mut *data.cast::<Wanted<'_>>() };
    // SAFETY: A registered driver has a name.
    let name = unsafe { CStr::from_char_ptr((*driver).name) };
    if name.to_bytes() == wanted.name.as_bytes() {
        // SAFETY: As above; a reference to its module keeps it registered.
        if unsafe { bindings::try_module_get((*driver).owner) } {
            wanted.found = NonNull::new(driver).map(DaxDriver);
        }
    }
    c_int::from(wanted.found.is_some())
}

/// A driver on the DAX bus.
///
/// # Invariants
///
/// Stands for a registered driver, and holds a reference to its module.
pub struct DaxDriver(NonNull<bindings::device_driver>);

impl PartialEq for DaxDriver {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Drop for DaxDriver {
    fn drop(&mut self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::module_put(self.0.as_ref().owner) };
    }
}

/// The DAX devices of the region that `owner` is.
pub fn of_region(owner: &device::Device) -> Result<KVec<ARef<DaxDevice>>> {
    let mut devices = KVec::new();
    for_each(owner, |device| Ok(devices.push(device.into(), GFP_KERNEL)?))?;
    Ok(devices)
}

/// Takes the DAX devices of the region that `owner` is from their drivers, whoever uses them: their
/// mappings end. No driver gets one again. Those of the driver called `but` stay with it.
pub fn release_all(owner: &device::Device, but: Option<&str>) {
    let is_kept = |device: &DaxDevice| but.is_some_and(|but| device.is_with(but));
    // Whoever names a device in the file of a driver could have it back in the meantime.
    let retire = |device: &DaxDevice| {
        device.retire();
        Ok(())
    };
    // While a driver leaves, the device can still be opened, and whoever maps what was opened then makes
    // `device_dax` follow a null pointer. So nobody may open it any more, and nobody may be about to.
    let mut any = false;
    let shut = |device: &DaxDevice| {
        any |= !is_kept(device) && device.shut();
        Ok(())
    };
    let release = |device: &DaxDevice| {
        if !is_kept(device) {
            device.release();
        }
        Ok(())
    };
    // None of these can fail.
    let _ = for_each(owner, retire);
    let _ = for_each(owner, shut);
    // It takes a while.
    if !any {
        return;
    }
    wait_for_openers();
    let _ = for_each(owner, release);
}

/// Waits for those who are just about to open a device that was shut.
fn wait_for_openers() {
    // SAFETY: This may sleep. Opening does not, between the look at how to open and the opening.
    unsafe { bindings::synchronize_rcu_tasks() };
}

/// Calls `f` with each DAX device of the region that `owner` is, until it fails.
///
/// Devices of the CXL bus may be below `owner` as well.
fn for_each<F: FnMut(&DaxDevice) -> Result>(owner: &device::Device, mut f: F) -> Result {
    // SAFETY: The owner is valid, and its children are given to a function of this type.
    to_result(unsafe {
        bindings::device_for_each_child(raw(owner), (&raw mut f).cast(), Some(visit::<F>))
    })
}

/// # Safety
///
/// Called by `for_each()` only, with a DAX device and an `F`.
unsafe extern "C" fn visit<F: FnMut(&DaxDevice) -> Result>(
    dev: *mut bindings::device,
    data: *mut c_void,
) -> c_int {
    // SAFETY: The bus hands over a valid device, whose bus never changes.
    if ptr::eq(unsafe { (*dev).bus }, &raw const bindings::cxl_bus_type) {
        return 0;
    }
    // SAFETY: The caller passes its own `F`, which nobody else uses meanwhile.
    let f = unsafe { &mut *data.cast::<F>() };
    // SAFETY: The device is embedded in a DAX device, and valid for the call.
    let device = unsafe { DaxDevice::from_raw(kernel::container_of!(dev, bindings::dev_dax, dev)) };
    f(device).map_or_else(|error| error.to_errno(), |()| 0)
}
