// SPDX-License-Identifier: GPL-2.0-only

//! Memory devices: companions that come and go with their driver, and their mailbox.
//!
//! C header: `drivers/cxl/cxlmem.h`

use super::notifier::{
    self,
    Listener, //
};
use crate::{
    abstractions::{
        attribute::Owner,
        bindings,
        global::Lifetime,
        worker::{
            Task,
            Worker, //
        }, //
    },
    global_mutex, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        Arc,
        Mutex, //
    },
    types::Opaque, //
};
use region_policy::extent::Span;

/// A memory device.
///
/// # Invariants
///
/// Stands for a valid `struct cxl_memdev`.
#[repr(transparent)]
pub struct Memdev(Opaque<bindings::cxl_memdev>);

// SAFETY: Nothing of it is changed through a shared reference but what locks itself.
unsafe impl Send for Memdev {}
// SAFETY: As above.
unsafe impl Sync for Memdev {}

// SAFETY: A memdev is counted by its device.
unsafe impl AlwaysRefCounted for Memdev {
    fn inc_ref(&self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::get_device(self.as_raw_device()) };
    }

    unsafe fn dec_ref(object: NonNull<Self>) {
        // SAFETY: The caller gives a reference away.
        unsafe { bindings::put_device(object.as_ref().as_raw_device()) };
    }
}

impl Memdev {
    /// # Safety
    ///
    /// `raw` must be a valid memdev for the lifetime of the result.
    pub(super) unsafe fn from_raw<'a>(raw: *mut bindings::cxl_memdev) -> &'a Self {
        // SAFETY: `Memdev` is a transparent wrapper, and the caller promises the rest.
        unsafe { &*raw.cast() }
    }

    /// The serial number of the device; it outlives the memdev. Only while its driver is bound.
    pub fn serial(&self) -> u64 {
        // SAFETY: The type's invariant; a bound memdev has its device's state.
        unsafe { bindings::memdev_serial(self.0.get()) }
    }

    /// The memdev whose device `dev` is, if it is one's.
    ///
    /// # Safety
    ///
    /// `dev` must be a valid device for the lifetime of the result.
    pub(super) unsafe fn try_from_device<'a>(dev: *mut bindings::device) -> Option<&'a Self> {
        // SAFETY: The caller promises a valid device, and only its type is looked at.
        let is_memdev = unsafe { bindings::is_cxl_memdev(dev) };
        // SAFETY: It is embedded in a memdev; `Memdev` is a transparent wrapper.
        is_memdev.then(|| unsafe { &*kernel::container_of!(dev, bindings::cxl_memdev, dev).cast() })
    }

    fn as_raw_device(&self) -> *mut bindings::device {
        // SAFETY: The type's invariant.
        unsafe { &raw mut (*self.0.get()).dev }
    }

    /// Has the endpoint decoder of this name take its capacity from the memdev's dynamic capacity, which is
    /// `span` of the device's addresses. For a memdev that is bound to its driver.
    ///
    /// # Errors
    ///
    /// `ENODEV`: no endpoint decoder of this memdev has that name. `EBUSY`: it has capacity, or is programmed.
    /// `EOPNOTSUPP`: the core has no room for one more partition.
    pub fn choose_dynamic_capacity(&self, decoder: &CStr, span: Span) -> Result {
        // SAFETY: The type's invariant; the driver is there, and so is the state of the device.
        to_result(unsafe {
            bindings::memdev_choose_dynamic_capacity(
                self.0.get(),
                decoder.as_char_ptr(),
                span.start(),
                span.length(),
            )
        })
    }
}

// SAFETY: The device is embedded in the memdev.
unsafe impl Owner for Memdev {
    type Target = Self;

    unsafe fn from_device<'a>(dev: *mut bindings::device) -> &'a Self {
        // SAFETY: The caller promises a device of this kind.
        unsafe { &*kernel::container_of!(dev, bindings::cxl_memdev, dev).cast() }
    }
}

impl AsRef<device::Device> for Memdev {
    fn as_ref(&self) -> &device::Device {
        // SAFETY: The type's invariant.
        unsafe { device::Device::from_raw(self.as_raw_device()) }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The device refused, with this return code.
    Refused(u16),
    /// The device was not reached, or nobody knows whether it heard.
    Failed(Error),
}

impl SendError {
    /// As an error of the kernel.
    pub fn errno(self) -> Error {
        match self {
            Self::Refused(_) => EIO,
            Self::Failed(error) => error,
        }
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The way to a memdev's firmware and interrupts, as long as the memdev is bound to its driver.
#[pin_data]
pub struct Mailbox {
    memdev: ARef<Memdev>,
    /// Whether the driver is still there: it owns all that is used here. Who uses it holds the lock.
    #[pin]
    open: Mutex<bool>,
}

impl Mailbox {
    /// The memdev.
    pub fn memdev(&self) -> &Memdev {
        &self.memdev
    }

    /// The most bytes that a command or its answer can have.
    pub fn payload_size(&self) -> Result<usize> {
        let open = self.open.lock();
        if !*open {
            return Err(ENODEV);
        }
        // SAFETY: The driver is there.
        Ok(unsafe { bindings::memdev_payload_size(self.memdev.0.get()) })
    }

    /// Sends a command and waits for the answer, of which at most as much as fits is written into
    /// `answer`. Returns how much that is.
    pub fn send(
        &self,
        opcode: u16,
        payload: &[u8],
        answer: &mut [u8],
    ) -> core::result::Result<usize, SendError> {
        let open = self.open.lock();
        if !*open {
            return Err(SendError::Failed(ENODEV));
        }
        let mut length = answer.len();
        let mut return_code = 0;
        // SAFETY: The driver is there. The payload is only read; at most `length` bytes of the answer
        // are written.
        let result = unsafe {
            bindings::memdev_send(
                self.memdev.0.get(),
                opcode,
                payload.as_ptr().cast(),
                payload.len(),
                answer.as_mut_ptr().cast(),
                &raw mut length,
                &raw mut return_code,
            )
        };
        match (result, return_code) {
            (0, _) => Ok(length.min(answer.len())),
            (_, 0) => Err(SendError::Failed(Error::from_errno(result))),
            (_, code) => Err(SendError::Refused(code)),
        }
    }

    /// Has `worker` hurry whenever the device has events of dynamic capacity, from now on.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the PCI driver is just being bound or unbound; it sets interrupts up itself.
    pub fn watch<T: Task>(&self, worker: &Arc<Worker<T>>) -> Result<Interrupts<T>> {
        let setting = {
            let open = self.open.lock();
            if !*open {
                return Err(ENODEV);
            }
            // SAFETY: The driver is there, and with it the device that it belongs to.
            let device = unsafe { bindings::memdev_pci_device(self.memdev.0.get()) };
            // SAFETY: As above. It must not be waited for: who holds it may wait for the worker.
            if !unsafe { bindings::device_lock_try(device) } {
                return Err(EAGAIN);
            }
            drop(open);
            let setting = self.enable_events();
            // SAFETY: The lock was taken above.
            unsafe { bindings::device_lock_release(device) };
            setting?
        };
        let watched = Watched {
            worker: worker.clone(),
            memdev: self.memdev.clone(),
        };
        let mut interrupts = Interrupts {
            watched: KBox::new(watched, GFP_KERNEL)?,
            numbers: KVec::new(),
        };
        for setting in setting {
            interrupts.add(u32::from(setting >> 4))?;
        }
        Ok(interrupts)
    }

    /// Switches interrupts of dynamic capacity on (CXL 3.1, 8.2.9.2.4 and 8.2.9.2.5), and leaves those
    /// of other events as they are. Returns the settings of this and of informational events: some
    /// devices use the vector of those.
    fn enable_events(&self) -> Result<[u8; 2]> {
        const GET: u16 = 0x0102;
        const SET: u16 = 0x0103;
        const MESSAGE_SIGNALED: u8 = 1;
        let mut policy = [0_u8; 5];
        self.send(GET, &[], &mut policy).map_err(SendError::errno)?;
        policy[4] = MESSAGE_SIGNALED;
        self.send(SET, &policy, &mut []).map_err(SendError::errno)?;
        let length = self.send(GET, &[], &mut policy).map_err(SendError::errno)?;
        if length < policy.len() {
            return Err(EOPNOTSUPP);
        }
        Ok([policy[4], policy[0]])
    }

    fn close(&self) {
        *self.open.lock() = false;
    }
}

/// Interrupts that make a worker hurry; dropping it frees them.
pub struct Interrupts<T: Task> {
    watched: KBox<Watched<T>>,
    numbers: KVec<c_uint>,
}

struct Watched<T: Task> {
    worker: Arc<Worker<T>>,
    memdev: ARef<Memdev>,
}

impl<T: Task> Interrupts<T> {
    /// Adds the interrupt of vector `number`, if it is not there yet.
    fn add(&mut self, number: u32) -> Result {
        // SAFETY: The memdev's driver is there.
        let number = unsafe { bindings::memdev_vector(self.watched.memdev.0.get(), number) };
        to_result(number)?;
        let number = c_uint::try_from(number)?;
        if self.numbers.contains(&number) {
            return Ok(());
        }
        self.numbers.reserve(1, GFP_KERNEL)?;
        // SAFETY: The handler gets the worker, which lives until the interrupt is freed. The flags are
        // those of the CXL driver, with which it is shared.
        to_result(unsafe {
            bindings::request_threaded_irq(
                number,
                None,
                Some(on_interrupt::<T>),
                (bindings::IRQF_SHARED | bindings::IRQF_ONESHOT) as c_ulong,
                c"cxl_regions".as_char_ptr(),
                self.cookie(),
            )
        })?;
        self.numbers.push(number, GFP_KERNEL)?;
        Ok(())
    }

    fn cookie(&self) -> *mut c_void {
        core::ptr::from_ref(&*self.watched).cast_mut().cast()
    }
}

impl<T: Task> Drop for Interrupts<T> {
    fn drop(&mut self) {
        for number in &self.numbers {
            // SAFETY: It was requested with this cookie; this waits until the handler has ended.
            unsafe { bindings::free_irq(*number, self.cookie()) };
        }
    }
}

/// # Safety
///
/// Called as the handler of an interrupt only, with what is watched as its cookie.
unsafe extern "C" fn on_interrupt<T: Task>(
    _number: c_int,
    cookie: *mut c_void,
) -> bindings::irqreturn_t {
    /// The bit of the log of dynamic capacity in the device's event status register.
    const DYNAMIC_CAPACITY: u32 = 1 << 4;

    // SAFETY: The interrupt is freed before what is watched goes.
    let watched = unsafe { &*cookie.cast::<Watched<T>>() };
    // SAFETY: The interrupt is freed before the memdev's driver goes.
    let status = unsafe { bindings::memdev_event_status(watched.memdev.0.get()) };
    if status & DYNAMIC_CAPACITY == 0 {
        // It was for somebody else on the line.
        return bindings::irqreturn_t(bindings::irqreturn::IRQ_NONE.0);
    }
    watched.worker.hurry();
    bindings::irqreturn_t(bindings::irqreturn::IRQ_HANDLED.0)
}

/// What comes with a memdev that is bound to its driver. It is dropped before the memdev is unbound, and
/// when the module goes; the mailbox is closed afterwards. The memdev's lock is held through the drop.
pub trait Companion: Send + Sync {}

/// Who makes companions.
pub trait Source: 'static {
    /// The memdev has its driver; its lock is held. `None`: it needs no companion.
    fn attach(mailbox: Arc<Mailbox>) -> Result<Option<KBox<dyn Companion>>>;
}

struct Attached {
    companion: KBox<dyn Companion>,
    mailbox: Arc<Mailbox>,
}

global_mutex! {
    /// Every memdev that has a companion.
    static ATTACHED(attached_lock): KVec<Attached> = KVec::new();
}

/// From the module's init to its exit.
pub fn lifetime() -> Lifetime {
    ATTACHED.begin()
}

/// Gives every memdev that has its driver a companion, as long as it lives: what is dropped first
/// stands first.
#[pin_data]
pub struct Registration<S: Source> {
    _detach: DetachAll,
    #[pin]
    _notifier: notifier::Registration<Companions<S>>,
    _rest: DetachAll,
}

impl<S: Source> Registration<S> {
    /// Begins with the memdevs that there are.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // A memdev that comes between the first detach and the end of the notifier is left to this one.
            _rest: DetachAll,
            _notifier <- notifier::Bus::<Companions<S>>::listen(),
            _detach: attach_all::<S>(),
        })
    }
}

/// Detaches all companions when it is dropped.
struct DetachAll;

impl Drop for DetachAll {
    fn drop(&mut self) {
        loop {
            let memdev = match ATTACHED.lock() {
                Ok(attached) => attached.first().map(|one| one.mailbox.memdev.clone()),
                Err(_) => None,
            };
            let Some(memdev) = memdev else {
                return;
            };
            let _locked = Locked::new(&memdev);
            detach(&memdev);
        }
    }
}

/// The lock of a memdev: while it is held its driver neither comes nor goes.
struct Locked<'m>(&'m Memdev);

impl<'m> Locked<'m> {
    fn new(memdev: &'m Memdev) -> Self {
        // SAFETY: The type's invariant.
        unsafe { bindings::device_lock_wait(memdev.as_raw_device()) };
        Self(memdev)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: The lock was taken in `new()`.
        unsafe { bindings::device_lock_release(self.0.as_raw_device()) };
    }
}

fn attach_all<S: Source>() -> DetachAll {
    // SAFETY: The callback takes each device of the bus as it is given.
    unsafe {
        bindings::bus_for_each_dev(
            &raw const bindings::cxl_bus_type,
            core::ptr::null_mut(),
            core::ptr::null_mut(),
            Some(attach_bound::<S>),
        )
    };
    DetachAll
}

/// # Safety
///
/// Called by the bus only, with a device that is valid for the call.
unsafe extern "C" fn attach_bound<S: Source>(
    dev: *mut bindings::device,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: The bus hands over a valid device.
    if let Some(memdev) = unsafe { Memdev::try_from_device(dev) } {
        let _locked = Locked::new(memdev);
        // SAFETY: The device is valid, and its lock is held.
        if !unsafe { (*dev).driver.is_null() } {
            attach::<S>(memdev);
        }
    }
    0
}

/// Gives `memdev` a companion; its lock is held, and it has its driver.
fn attach<S: Source>(memdev: &Memdev) {
    if let Err(error) = try_attach::<S>(memdev) {
        dev_err!(memdev.as_ref(), "cannot be looked after: {:?}\n", error);
    }
}

fn try_attach<S: Source>(memdev: &Memdev) -> Result {
    if ATTACHED.lock()?.iter().any(|one| one.is_of(memdev)) {
        return Ok(());
    }
    let mailbox = Arc::pin_init(
        pin_init!(Mailbox {
            memdev: memdev.into(),
            open <- new_mutex!(true),
        }),
        GFP_KERNEL,
    )?;
    let result = S::attach(mailbox.clone()).and_then(|companion| {
        let Some(companion) = companion else {
            return Ok(false);
        };
        let attached = Attached {
            companion,
            mailbox: mailbox.clone(),
        };
        ATTACHED.lock()?.push(attached, GFP_KERNEL)?;
        Ok(true)
    });
    if !matches!(result, Ok(true)) {
        mailbox.close();
    }
    result.map(drop)
}

/// Takes away the companion of `memdev`, whose lock is held.
fn detach(memdev: &Memdev) {
    let Ok(mut attached) = ATTACHED.lock() else {
        return;
    };
    let Some(index) = attached.iter().position(|one| one.is_of(memdev)) else {
        return;
    };
    let Ok(one) = attached.remove(index) else {
        return;
    };
    drop(attached);
    let Attached { companion, mailbox } = one;
    drop(companion);
    mailbox.close();
}

impl Attached {
    fn is_of(&self, memdev: &Memdev) -> bool {
        core::ptr::eq(&*self.mailbox.memdev, memdev)
    }
}

/// Who is told of memdevs' drivers.
pub struct Companions<S: Source>(PhantomData<fn() -> S>);

impl<S: Source> Listener for Companions<S> {
    fn memdev_bound(memdev: &Memdev) {
        attach::<S>(memdev);
    }

    fn memdev_unbinding(memdev: &Memdev) {
        detach(memdev);
    }
}
