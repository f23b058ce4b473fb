// SPDX-License-Identifier: GPL-2.0-only

//! What is about to happen to devices on the CXL bus.
//!
//! C header: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h)

use super::{
    memdev::Memdev,
    region::Region,
    root_decoder::RootDecoder, //
};
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

/// Listens to the bus, to as much as it wants to know.
pub trait Listener: Send + Sync + 'static {
    /// The device is about to lose its driver, which still has all that it needs.
    ///
    /// The device's lock is held. It cannot be stopped.
    fn unbinding(_device: DeviceKey) {}

    /// The device has lost its driver. The device's lock is held.
    fn unbound(_device: DeviceKey) {}

    /// The region is new: there is nothing to it yet.
    fn region_added(_region: &Region) {}

    /// The region is offered to a driver, of ours or another, which is probed next. The device's lock is held.
    fn region_binding(_region: &Region) {}

    /// The region has got a driver, of ours or another. The device's lock is held.
    fn region_bound(_region: &Region) {}

    /// The memdev has got its driver. The device's lock is held.
    fn memdev_bound(_memdev: &Memdev) {}

    /// The memdev is about to lose its driver; as [`Listener::unbinding`].
    fn memdev_unbinding(_memdev: &Memdev) {}

    /// The root decoder was added.
    fn root_decoder_added(_root_decoder: &RootDecoder) {}

    /// The root decoder is about to be removed; its files are still there.
    fn root_decoder_leaving(_root_decoder: &RootDecoder) {}
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
        // SAFETY: The bus hands over a device that is valid for the call.
        let (region, memdev, root_decoder) = unsafe {
            (
                Region::try_from_device(dev),
                Memdev::try_from_device(dev),
                RootDecoder::try_from_device(dev),
            )
        };
        match action as bindings::bus_notifier_event {
            bindings::bus_notifier_event_BUS_NOTIFY_ADD_DEVICE => {
                region.map(L::region_added);
                root_decoder.map(L::root_decoder_added);
            }
            bindings::bus_notifier_event_BUS_NOTIFY_DEL_DEVICE => {
                root_decoder.map(L::root_decoder_leaving);
            }
            bindings::bus_notifier_event_BUS_NOTIFY_UNBIND_DRIVER => {
                L::unbinding(DeviceKey::of(dev));
                memdev.map(L::memdev_unbinding);
            }
            bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER => {
                L::unbound(DeviceKey::of(dev));
            }
            bindings::bus_notifier_event_BUS_NOTIFY_BIND_DRIVER => {
                region.map(L::region_binding);
            }
            bindings::bus_notifier_event_BUS_NOTIFY_BOUND_DRIVER => {
                region.map(L::region_bound);
                memdev.map(L::memdev_bound);
            }
            _ => {}
        }
        Ok(Next::Others)
    }
}
