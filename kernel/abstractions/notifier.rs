// SPDX-License-Identifier: GPL-2.0-only

//! Notifier chains: being called when something happens elsewhere in the kernel.
//!
//! C header: [`include/linux/notifier.h`](srctree/include/linux/notifier.h)

use super::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// What the chain does after a listener was called.
pub enum Next {
    /// It calls the others.
    Others,
    /// It calls nobody else: the listener has given the answer that the caller wanted.
    Nobody,
}

/// A chain, and what is done when it calls.
///
/// # Safety
///
/// After [`Chain::unregister`] the chain must not call, and no call may be under way.
pub unsafe trait Chain: Send + Sync + 'static {
    /// Listeners of higher priority are called first.
    const PRIORITY: c_int = 0;

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
    unsafe fn call(&self, action: c_ulong, argument: *mut c_void) -> Result<Next>;
}

/// A place on a chain; dropping it leaves the chain.
#[pin_data(PinnedDrop)]
pub struct Registration<C: Chain> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    chain: C,
}

// SAFETY: The block is only used by the chain, which locks; what is done then may be sent.
unsafe impl<C: Chain> Send for Registration<C> {}
// SAFETY: A registration has no methods.
unsafe impl<C: Chain> Sync for Registration<C> {}

impl<C: Chain> Registration<C> {
    /// Joins the chain.
    pub fn new(chain: C) -> impl PinInit<Self, Error> {
        // The chain may call before this is over, so the block comes last.
        try_pin_init!(Self {
            chain,
            block <- Opaque::try_ffi_init(|block: *mut bindings::notifier_block| {
                let mut init: bindings::notifier_block = pin_init::zeroed();
                init.notifier_call = Some(callback::<C>);
                init.priority = C::PRIORITY;
                // SAFETY: `block` is valid for writes.
                unsafe { block.write(init) };
                // SAFETY: `block` is initialised, pinned, and unregistered before it goes away.
                to_result(unsafe { C::register(block) })
            }),
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
/// Called by the chain `C` only, with the block of a [`Registration`].
unsafe extern "C" fn callback<C: Chain>(
    block: *mut bindings::notifier_block,
    action: c_ulong,
    argument: *mut c_void,
) -> c_int {
    let block = Opaque::cast_from(block).cast_mut();
    // SAFETY: The block is part of a registration, which leaves the chain before it goes away, and
    // whose other fields stand before the block joins.
    let registration = unsafe { &*kernel::container_of!(block, Registration<C>, block) };
    // SAFETY: The chain passes what belongs to the action.
    match unsafe { registration.chain.call(action, argument) } {
        Ok(Next::Others) => bindings::NOTIFY_OK as c_int,
        Ok(Next::Nobody) => (bindings::NOTIFY_OK | bindings::NOTIFY_STOP_MASK) as c_int,
        // What notifier_from_errno() makes of it, which is an inline function.
        Err(error) => {
            let code = (bindings::NOTIFY_OK as c_int).saturating_sub(error.to_errno());
            code | bindings::NOTIFY_STOP_MASK as c_int
        }
    }
}
