// SPDX-License-Identifier: GPL-2.0-only

//! What is about to happen to devices on the CXL bus.
//!
//! C header: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h)

use super::region::Region;
use crate::abstractions::{
    bindings,
    notifier::{
        self,
        Next, //
    }, //
};
use core::marker::PhantomData;
use kernel::prelude::*;

/// Which device, as a mere name: two keys are equal when the devices are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceKey(usize);

impl DeviceKey {
    pub(super) fn of(dev: *mut bindings::device) -> Self {
        Self(dev as usize)
    }
}

/// Listens to the bus.
pub trait Listener: Send + Sync + 'static {
    /// The device is about to lose its driver, which still has all that it needs.
    ///
    /// The device's lock is held. It cannot be stopped.
    fn unbinding(device: DeviceKey);

    /// The device has lost its driver. The device's lock is held.
    fn unbound(device: DeviceKey);

    /// The region is new: there is nothing to it yet.
    fn added(region: &Region);

    /// The region is offered to a driver, of ours or another, which is probed next. The device's lock is held.
    fn binding(region: &Region);

    /// The region has got a driver, of ours or another. The device's lock is held.
    fn bound(region: &Region);
}

/// The chain that calls the listener `L`.
pub struct Bus<L: Listener>(PhantomData<L>);

impl<L: Listener> Bus<L> {
    /// Joins the chain for `L`.
    pub fn listen() -> impl PinInit<Registration<L>, Error> {
        Registration::new(Self(PhantomData))
    }
}

/// A registered [`Listener`].
pub type Registration<L> = notifier::Registration<Bus<L>>;

// SAFETY: Unregistering takes the chain's lock, under which it calls.
unsafe impl<L: Listener> notifier::Chain for Bus<L> {
    unsafe fn register(block: *mut bindings::notifier_block) -> c_int {
        // SAFETY: The caller keeps the block.
        unsafe { bindings::bus_register_notifier(&raw const bindings::cxl_bus_type, block) }
    }

    unsafe fn unregister(block: *mut bindings::notifier_block) {
        // SAFETY: The caller registered the block.
        unsafe { bindings::bus_unregister_notifier(&raw const bindings::cxl_bus_type, block) };
    }

    unsafe fn call(&self, action: c_ulong, argument: *mut c_void) -> Result<Next> {
        let dev = argument.cast();
        match action as bindings::bus_notifier_event {
            bindings::bus_notifier_event_BUS_NOTIFY_UNBIND_DRIVER => {
                L::unbinding(DeviceKey::of(dev));
            }
            bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER => {
                L::unbound(DeviceKey::of(dev));
            }
            action => {
                // SAFETY: The bus hands over a device that is valid for the call.
                if let Some(region) = unsafe { Region::try_from_device(dev) } {
                    tell::<L>(action, region);
                }
            }
        }
        Ok(Next::Others)
    }
}

/// What only matters of regions.
fn tell<L: Listener>(action: bindings::bus_notifier_event, region: &Region) {
    match action {
        bindings::bus_notifier_event_BUS_NOTIFY_ADD_DEVICE => L::added(region),
        bindings::bus_notifier_event_BUS_NOTIFY_BIND_DRIVER => L::binding(region),
        bindings::bus_notifier_event_BUS_NOTIFY_BOUND_DRIVER => L::bound(region),
        _ => {}
    }
}
