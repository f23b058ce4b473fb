// SPDX-License-Identifier: GPL-2.0-only

//! What is about to happen to devices on the CXL bus.
//!
//! C header: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h)

use crate::abstractions::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// Which device, as a mere name: two keys are equal when the devices are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceKey(usize);

impl DeviceKey {
    pub(super) fn of(dev: *mut bindings::device) -> Self {
        Self(dev as usize)
    }
}

/// Listens to the bus.
pub trait Listener: 'static {
    /// The device is about to lose its driver, which still has all that it needs.
    ///
    /// The device's lock is held. It cannot be stopped.
    fn unbinding(device: DeviceKey);
}

/// A registered [`Listener`]; dropping it ends the listening.
#[pin_data(PinnedDrop)]
pub struct Registration<L: Listener> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    _listener: PhantomData<L>,
}

// SAFETY: The notifier block is only used by the notifier chain, which locks.
unsafe impl<L: Listener> Send for Registration<L> {}
// SAFETY: A registration has no methods.
unsafe impl<L: Listener> Sync for Registration<L> {}

impl<L: Listener> Registration<L> {
    /// Starts listening.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            block <- Opaque::try_ffi_init(|block: *mut bindings::notifier_block| {
                let mut init: bindings::notifier_block = pin_init::zeroed();
                init.notifier_call = Some(callback::<L>);
                // SAFETY: `block` is valid for writes.
                unsafe { block.write(init) };
                // SAFETY: `block` is initialised, pinned, and unregistered before it goes away.
                to_result(unsafe {
                    bindings::bus_register_notifier(&raw const bindings::cxl_bus_type, block)
                })
            }),
            _listener: PhantomData,
        })
    }
}

#[pinned_drop]
impl<L: Listener> PinnedDrop for Registration<L> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The existence of `self` means that the block was registered. Unregistering waits
        // for callbacks that run.
        unsafe {
            bindings::bus_unregister_notifier(&raw const bindings::cxl_bus_type, self.block.get())
        };
    }
}

/// Translates for the listener `L`.
///
/// # Safety
///
/// Called by the bus's notifier chain only.
unsafe extern "C" fn callback<L: Listener>(
    _block: *mut bindings::notifier_block,
    action: c_ulong,
    argument: *mut c_void,
) -> c_int {
    if action == bindings::bus_notifier_event_BUS_NOTIFY_UNBIND_DRIVER as c_ulong {
        L::unbinding(DeviceKey::of(argument.cast()));
    }
    bindings::NOTIFY_DONE as c_int
}
