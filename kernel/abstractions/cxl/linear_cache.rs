// SPDX-License-Identifier: GPL-2.0-only

//! Memory errors in a region that memory of the processors' own is a cache of.
//!
//! A machine check names one address. Where that is in the cache, what it caches is lost as well, and the
//! other way round: the kernel takes care of the page that was named, and this of the other.
//!
//! C header: [`arch/x86/include/asm/mce.h`](srctree/arch/x86/include/asm/mce.h)

use super::region::Region;
use crate::abstractions::{
    bindings,
    notifier::{
        Chain,
        Next,
        Registration, //
    }, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};
use region_policy::linear_cache;

/// Passes memory errors on as long as it lives; for a driver to keep while the region is bound.
pub struct MemoryErrors {
    _registration: Pin<KBox<Registration<MachineChecks>>>,
}

impl MemoryErrors {
    /// Passes on those in `region`, which must be committed; `None` where it has no such cache.
    ///
    /// # Errors
    ///
    /// `ENXIO`: the region is not committed. `ENOMEM`.
    pub fn of(region: &Region) -> Result<Option<Self>> {
        let cache = region.linear_cache();
        if cache == 0 {
            return Ok(None);
        }
        let chain = MachineChecks {
            region: region.into(),
            range: region.range()?,
            cache,
        };
        Ok(Some(Self {
            _registration: KBox::pin_init(Registration::new(chain), GFP_KERNEL)?,
        }))
    }
}

/// The chain that calls with a record of each machine check, from a worker.
struct MachineChecks {
    region: ARef<Region>,
    range: Range<u64>,
    cache: u64,
}

// SAFETY: Unregistering takes the chain's lock, under which it calls.
unsafe impl Chain for MachineChecks {
    const PRIORITY: c_int = bindings::mce_notifier_prios_MCE_PRIO_UC as c_int;

    unsafe fn register(block: *mut bindings::notifier_block) -> c_int {
        // SAFETY: The caller keeps the block.
        unsafe { bindings::mce_register_decode_chain(block) };
        0
    }

    unsafe fn unregister(block: *mut bindings::notifier_block) {
        // SAFETY: The caller registered the block.
        unsafe { bindings::mce_unregister_decode_chain(block) };
    }

    unsafe fn call(&self, _action: c_ulong, record: *mut c_void) -> Result<Next> {
        let mut address = 0;
        // SAFETY: The chain hands over a record, or null, which the helper checks.
        if !unsafe { bindings::machine_check_address(record, &raw mut address) } {
            return Ok(Next::Others);
        }
        if let Some(alias) = linear_cache::alias(address, &self.range, self.cache) {
            // SAFETY: The helper looks whether there is such a page.
            if unsafe { bindings::memory_give_up(alias) } {
                dev_emerg!(
                    (*self.region).as_ref(),
                    "memory at {:#x} is lost with what was at {:#x}\n",
                    alias,
                    address
                );
            }
        }
        Ok(Next::Others)
    }
}
