// SPDX-License-Identifier: GPL-2.0-only

//! What happens to memory blocks, whoever makes it happen.
//!
//! C header: [`include/linux/memory.h`](srctree/include/linux/memory.h)

use super::{
    bindings,
    notifier::{
        self,
        Next, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
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
    Online(Range<u64>, Zone),
    /// The memory is offline.
    Offline(Range<u64>),
}

/// Listens to what happens to memory.
pub trait Listener: Send + Sync + 'static {
    /// Takes an event.
    ///
    /// Runs in the context of whoever changes the memory, who holds the hotplug lock: may sleep,
    /// and must not wait for anybody who adds, removes, onlines or offlines memory.
    ///
    /// The error refuses what is about to happen; for what has happened it is ignored.
    fn event(event: &Event) -> Result;
}

/// The chain that calls the listener `L`.
pub struct Memory<L: Listener>(PhantomData<L>);

impl<L: Listener> Memory<L> {
    /// Joins the chain for `L`.
    pub fn listen() -> impl PinInit<Registration<L>, Error> {
        Registration::new(Self(PhantomData))
    }
}

/// A registered [`Listener`].
pub type Registration<L> = notifier::Registration<Memory<L>>;

// SAFETY: Unregistering takes the chain's lock, under which it calls.
unsafe impl<L: Listener> notifier::Chain for Memory<L> {
    unsafe fn register(block: *mut bindings::notifier_block) -> c_int {
        // SAFETY: The caller keeps the block.
        unsafe { bindings::register_memory_notifier(block) }
    }

    unsafe fn unregister(block: *mut bindings::notifier_block) {
        // SAFETY: The caller registered the block.
        unsafe { bindings::unregister_memory_notifier(block) }
    }

    unsafe fn call(&self, action: c_ulong, argument: *mut c_void) -> Result<Next> {
        // SAFETY: The chain hands over a `struct memory_notify` that lives through the call.
        let notify = unsafe { &*argument.cast::<bindings::memory_notify>() };
        // Page frame numbers stay below the number of pages of the address space.
        let address = |pfn: c_ulong| (pfn as u64) << PAGE_SHIFT;
        let end = notify.start_pfn.saturating_add(notify.nr_pages);
        let range = address(notify.start_pfn)..address(end);

        let zone = || {
            // SAFETY: In the two events that ask, the pages exist, are in their zone, and the caller
            // holds the hotplug lock.
            match unsafe { bindings::memory_pfn_is_movable(notify.start_pfn) } {
                true => Zone::Movable,
                false => Zone::Kernel,
            }
        };

        match action as bindings::memory_block_state {
            // The pages were moved to their zone before the chain was called.
            bindings::memory_block_state_MEM_GOING_ONLINE => {
                L::event(&Event::GoingOnline(range, zone()))?;
            }
            bindings::memory_block_state_MEM_ONLINE => L::event(&Event::Online(range, zone()))?,
            bindings::memory_block_state_MEM_OFFLINE => L::event(&Event::Offline(range))?,
            _ => {}
        }
        Ok(Next::Others)
    }
}
