// SPDX-License-Identifier: GPL-2.0-only

//! What happens to memory blocks, whoever makes it happen.
//!
//! C header: [`include/linux/memory.h`](srctree/include/linux/memory.h)

use super::bindings;
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    error::to_result,
    page::PAGE_SHIFT,
    prelude::*,
    types::Opaque, //
};

/// The kind of zone that pages are in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// A zone in which the kernel places its own allocations.
    Kernel,
    /// `ZONE_MOVABLE`.
    Movable,
}

/// A change of memory, by physical addresses.
pub enum Event {
    /// The memory is about to go online; an error from the listener stops it.
    GoingOnline(Range<u64>, Zone),
    /// The memory is online.
    Online(Range<u64>),
    /// The memory is offline.
    Offline(Range<u64>),
}

/// Listens to what happens to memory.
pub trait Listener: 'static {
    /// Takes an event.
    ///
    /// Runs in the context of whoever changes the memory, who holds the hotplug lock: may sleep,
    /// and must not wait for anybody who adds, removes, onlines or offlines memory.
    ///
    /// The error refuses what is about to happen; for what has happened it is ignored.
    fn event(event: &Event) -> Result;
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
                to_result(unsafe { bindings::register_memory_notifier(block) })
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
        unsafe { bindings::unregister_memory_notifier(self.block.get()) };
    }
}

/// Translates for the listener `L`.
///
/// # Safety
///
/// Called by the memory notifier chain only.
unsafe extern "C" fn callback<L: Listener>(
    _block: *mut bindings::notifier_block,
    action: c_ulong,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: The chain hands over a `struct memory_notify` that lives through the call.
    let notify = unsafe { &*argument.cast::<bindings::memory_notify>() };
    let address = |pfn: c_ulong| -> u64 {
        // Page frame numbers stay below the number of pages of the address space.
        (pfn as u64) << PAGE_SHIFT
    };
    let range =
        address(notify.start_pfn)..address(notify.start_pfn.saturating_add(notify.nr_pages));

    let event = match action as bindings::memory_block_state {
        bindings::memory_block_state_MEM_GOING_ONLINE => {
            // SAFETY: The pages exist, and were moved to their zone before the chain was called.
            let movable = unsafe { bindings::memory_pfn_is_movable(notify.start_pfn) };
            let zone = if movable { Zone::Movable } else { Zone::Kernel };
            Event::GoingOnline(range, zone)
        }
        bindings::memory_block_state_MEM_ONLINE => Event::Online(range),
        bindings::memory_block_state_MEM_OFFLINE => Event::Offline(range),
        _ => return bindings::NOTIFY_DONE as c_int,
    };

    match L::event(&event) {
        Ok(()) => bindings::NOTIFY_OK as c_int,
        // notifier_from_errno() is an inline function.
        Err(error) => {
            let code = (bindings::NOTIFY_OK as c_int).saturating_sub(error.to_errno());
            code | bindings::NOTIFY_STOP_MASK as c_int
        }
    }
}
