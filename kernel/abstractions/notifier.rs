// SPDX-License-Identifier: GPL-2.0-only

//! Notifier chains: being called when something happens elsewhere in the kernel.
//!
//! C header: [`include/linux/notifier.h`](srctree/include/linux/notifier.h)

use super::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// A chain, and what is done when it calls.
///
/// # Safety
///
/// After [`Chain::unregister`] the chain must not call, and no call may be under way.
pub unsafe trait Chain: 'static {
    /// Puts `block` on the chain.
    ///
    /// # Safety
    ///
    /// `block` must be initialised, and stay where it is until it is unregistered.
    unsafe fn register(block: *mut bindings::notifier_block) -> c_int;

    /// Takes `block` off the chain.
    ///
    /// # Safety
    ///
    /// `block` must be registered.
    unsafe fn unregister(block: *mut bindings::notifier_block);

    /// Takes a call.
    ///
    /// # Errors
    ///
    /// An error ends the chain and refuses what is about to happen, where that can be refused.
    ///
    /// # Safety
    ///
    /// `argument` must be what the chain passes with `action`.
    unsafe fn call(action: c_ulong, argument: *mut c_void) -> Result;
}

/// A place on a chain; dropping it leaves the chain.
#[pin_data(PinnedDrop)]
pub struct Registration<C: Chain> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    _chain: PhantomData<C>,
}

// SAFETY: The block is only used by the chain, which locks.
unsafe impl<C: Chain> Send for Registration<C> {}
// SAFETY: A registration has no methods.
unsafe impl<C: Chain> Sync for Registration<C> {}

impl<C: Chain> Registration<C> {
    /// Joins the chain.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            block <- Opaque::try_ffi_init(|block: *mut bindings::notifier_block| {
                let mut init: bindings::notifier_block = pin_init::zeroed();
                init.notifier_call = Some(callback::<C>);
                // SAFETY: `block` is valid for writes.
                unsafe { block.write(init) };
                // SAFETY: `block` is initialised, pinned, and unregistered before it goes away.
                to_result(unsafe { C::register(block) })
            }),
            _chain: PhantomData,
        })
    }
}

#[pinned_drop]
impl<C: Chain> PinnedDrop for Registration<C> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The existence of `self` means that the block was registered.
        unsafe { C::unregister(self.block.get()) };
    }
}

/// # Safety
///
/// Called by the chain `C` only.
unsafe extern "C" fn callback<C: Chain>(
    _block: *mut bindings::notifier_block,
    action: c_ulong,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: The chain passes what belongs to the action.
    match unsafe { C::call(action, argument) } {
        Ok(()) => bindings::NOTIFY_OK as c_int,
        // What notifier_from_errno() makes of it, which is an inline function.
        Err(error) => {
            let code = (bindings::NOTIFY_OK as c_int).saturating_sub(error.to_errno());
            code | bindings::NOTIFY_STOP_MASK as c_int
        }
    }
}
