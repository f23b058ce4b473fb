// SPDX-License-Identifier: GPL-2.0-only

//! What is held while memory of a region is in the system: its decoders, its devices, and this module.
//!
//! Tearing decoders down under memory that is in use kills the machine, and the CXL core does so
//! for whoever removes a memdev, a target or the region. So the decoders are locked before memory
//! is added, and the devices kept from resets. They are unlocked when it is gone; as long as some stays
//! behind they stay locked.
//!
//! The core also resets decoders *before* it unbinds the region, so that what is moved out by then
//! is garbage. [`unbinding`] is told earlier of a memdev or a port that loses its driver.

use crate::{
    abstractions::{
        cxl::{
            memdev::Memdev,
            notifier::DeviceKey,
            region::{
                DecoderLock,
                Region, //
            },
        },
        dax_device,
        dax_region,
        global::Lifetime,
        kmem_client::{
            self,
            Claim, //
        },
        module_ref::ModuleRef, //
    },
    admission::Capacity,
    global_mutex,
    suspects,
    watch::{
        self,
        Anchor,
        Keeper, //
    }, //
};
use core::ops::Range;
use kernel::{
    module::this_module,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            AtomicFlag,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};
use region_policy::{
    extent::Span,
    online_type::OnlineType, //
};

/// Keeps a region's decoders, its devices, its claim on memory, and this module.
///
/// What stays behind is known by its addresses. The region may be deleted and its memdev unbound; when
/// the memdev comes back, the CXL core finds the decoders as they are and makes another region of them.
#[pin_data]
pub struct Hold {
    region: ARef<Region>,
    range: Range<u64>,
    /// Whose unbinding takes the decoders down.
    dependencies: KVec<DeviceKey>,
    claim: Claim,
    /// The policy of the memory.
    policy: OnlineType,
    /// The serial number of the device that gives and takes the memory, and its addresses there.
    capacity: Option<(u64, Span)>,
    #[pin]
    decoders: Mutex<Option<DecoderLock>>,
    #[pin]
    anchor: Mutex<Anchor>,
    /// Whether the claim's owner is in the system, and may have DAX devices.
    #[pin]
    devices: Mutex<bool>,
    gave_up: AtomicFlag,
    _module: ModuleRef,
}

impl Hold {
    /// The memory's physical addresses.
    pub fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// The claim's owner is in the system from now on, or about to leave it.
    pub fn devices_are_there(&self, there: bool) {
        // Whoever works on the devices is waited for.
        *self.devices.lock() = there;
    }

    /// Takes all memory away for good; if that works, the decoders are free to go.
    ///
    /// Several parts of a device may lose their driver one after the other. What could not be moved
    /// when the first did is not waited for again.
    pub fn evict(&self) {
        if self.gave_up.load(Relaxed) {
            return;
        }
        let result = self.claim.evict();
        // The addresses tell the truth, whatever the claim knows of: memory that stayed behind earlier
        // is none of it, and neither is memory that is just being added.
        if !dax_region::is_system_ram(&self.range) {
            self.end_mappings();
            self.release_decoders();
        } else if let Err(error) = result {
            self.gave_up.store(true, Relaxed);
            // The core makes no region of decoders with a mode that it does not know.
            let otherwise = if self.capacity.is_some() {
                "if it is gone, nothing but the next boot frees them"
            } else {
                "if it is gone or not committed: delete it, bind its memdev again, and take the region that appears; none does below a host bridge without decoders, where only the next boot frees them"
            };
            dev_err!(
                (*self.region).as_ref(),
                "[{:#x}-{:#x}] cannot be taken away ({:?}): its decoders stay locked; free the memory and bind the region to cxl_sysram_region again ({})\n",
                self.range.start,
                self.range.end.saturating_sub(1),
                error,
                otherwise
            );
        }
    }

    /// Whether this is for memory that had to be left behind.
    fn is_left(&self) -> bool {
        self.claim.has_ended()
    }

    /// Takes the memory of one device away, the one that has `range`, or leaves it as it is.
    pub fn take_away(&self, range: &Range<u64>) -> Result {
        self.claim.take_away(range)
    }

    /// The contents of `range` are lost: takes away what it can of the device that has it.
    pub fn give_up(&self, range: &Range<u64>) -> Result {
        self.claim.give_up(range)
    }

    /// Whether this is for memory that had to be left behind in `range`.
    fn is_left_in(&self, range: &Range<u64>) -> bool {
        self.is_left() && overlap(&self.range, range)
    }

    /// The physical addresses of `span` of the device with this serial number, as far as it gave this memory.
    fn range_of(&self, serial: u64, span: Span) -> Option<Range<u64>> {
        let (_, own) = self
            .capacity
            .filter(|(device, own)| *device == serial && own.overlaps(span))?;
        let physical = |address: u64| {
            let offset = address
                .clamp(own.start(), own.last())
                .checked_sub(own.start())?;
            self.range.start.checked_add(offset)
        };
        Some(physical(span.start())?..physical(span.last())?.checked_add(1)?)
    }

    /// Takes devices that somebody gave to another driver than `kmem` from that: what is mapped reads garbage, and
    /// loses what is written, once the decoders are taken down. No driver gets a device from here on.
    fn end_mappings(&self) {
        let there = self.devices.lock();
        if *there {
            let owner = self.claim.owner();
            dax_region::make_no_more(owner);
            dax_device::release_all(owner, Some("kmem"));
        }
    }

    fn release_decoders(&self) {
        let lock = self.decoders.lock().take();
        drop(lock);
    }
}

impl Keeper for Hold {
    fn dependencies(&self) -> &[DeviceKey] {
        &self.dependencies
    }

    fn let_go(&self) {
        self.evict();
    }
}

global_mutex! {
    /// Every hold there is.
    static HOLDS(holds_lock): KVec<Arc<Hold>> = KVec::new();
}

/// From the module's init to its exit. A hold keeps the module loaded: there is none at the end.
pub fn lifetime() -> Lifetime {
    HOLDS.begin()
}

/// Locks the decoders of `region`, whose addresses are `range`, for the memory in `claim`, or takes over
/// the lock of memory that stayed behind.
///
/// # Errors
///
/// `ENXIO`: somebody is just taking the decoders down, or they are not programmed, or those before them on a
/// device are not. `EINTR`: a signal came meanwhile. `ENOMEM`.
pub fn take(
    region: &Region,
    range: &Range<u64>,
    claim: Claim,
    policy: OnlineType,
    capacity: Option<&Capacity>,
) -> Result<Arc<Hold>> {
    let left = find(|hold| hold.is_left_in(range))?;
    let anchor = Anchor::new(region)?;
    let lock = suspects::lock(region)?;
    let hold = Arc::pin_init(
        try_pin_init!(Hold {
            dependencies: region.dependencies()?,
            region: region.into(),
            range: range.clone(),
            claim,
            policy,
            capacity: capacity.map(|(memdev, span)| (memdev.serial(), *span)),
            decoders <- new_mutex!(Some(lock)),
            anchor <- new_mutex!(anchor),
            devices <- new_mutex!(false),
            gave_up: AtomicFlag::new(false),
            _module: ModuleRef::new(this_module::<crate::LocalModule>())?,
        }),
        GFP_KERNEL,
    )?;
    let mut holds = HOLDS.lock()?;
    holds.push(hold.clone(), GFP_KERNEL)?;
    holds.retain(|other| left.as_ref().is_none_or(|left| !Arc::ptr_eq(other, left)));
    drop(holds);
    if let Some(left) = left {
        left.release_decoders();
    }
    if let Err(error) = watch::ensure_kept(region, &hold.dependencies) {
        give_back(&hold);
        return Err(error);
    }
    Ok(hold)
}

/// Ends a hold whose devices are gone, unless memory stays behind.
pub fn give_back(hold: &Arc<Hold>) {
    // The addresses tell the truth, whatever became of the claim.
    let _ = hold.claim.end();
    if dax_region::is_system_ram(&hold.range) {
        return;
    }
    forget(hold);
}

/// Ends a hold on memory that is gone.
fn forget(hold: &Arc<Hold>) {
    hold.release_decoders();
    if let Ok(mut holds) = HOLDS.lock() {
        holds.retain(|other| !Arc::ptr_eq(other, hold));
    }
    if let Ok(None) = left() {
        suspects::acquit_all();
    }
}

/// The policy of memory that had to be left behind in `range`.
pub fn policy_left_in(range: &Range<u64>) -> Result<Option<OnlineType>> {
    Ok(find(|hold| hold.is_left_in(range))?.map(|hold| hold.policy))
}

/// Takes away what stayed behind in `range`, and ends the holds on it.
///
/// # Errors
///
/// `EINTR`: a signal came. `EBUSY` and others: some memory is still in use.
pub fn reclaim(range: &Range<u64>) -> Result {
    kmem_client::reclaim(range)?;
    while let Some(hold) =
        find(|hold| hold.is_left_in(range) && !dax_region::is_system_ram(&hold.range))?
    {
        forget(&hold);
    }
    Ok(())
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn find(wanted: impl Fn(&Hold) -> bool) -> Result<Option<Arc<Hold>>> {
    Ok(HOLDS.lock()?.iter().find(|hold| wanted(hold)).cloned())
}

/// Moves the memory of the regions whose decoders go down with `device` out, while those still work.
pub fn unbinding(device: DeviceKey) {
    watch::let_go(&HOLDS, device);
}

/// Locks the decoders of a region that was made anew over memory that stayed behind: the lock is a
/// flag of the region, and this one has none.
pub fn bound(region: &Region) {
    if let Ok(Some(hold)) = left_below(region) {
        let mut decoders = hold.decoders.lock();
        if !decoders.as_ref().is_some_and(|lock| lock.is_of(region)) {
            // Where there is no room for it, that of before is better than none.
            if let Ok(lock) = suspects::lock(region) {
                *decoders = Some(lock);
            }
            // Devices and regions may be others as well.
            if let Ok(anchor) = Anchor::new(region) {
                *hold.anchor.lock() = anchor;
            }
        }
    }
}

/// Whether some memory that had to be left behind is that of `span` of `memdev`.
pub fn is_left_over(memdev: &Memdev, span: Span) -> bool {
    let serial = memdev.serial();
    let is_memory = |hold: &Hold| {
        hold.is_left()
            && hold
                .range_of(serial, span)
                .is_some_and(|range| dax_region::is_system_ram(&range))
    };
    // Where it is not known, it may be.
    find(is_memory).map_or(true, |hold| hold.is_some())
}

/// Something that stayed behind.
pub fn left() -> Result<Option<Arc<Hold>>> {
    find(Hold::is_left)
}

/// What stayed behind in the addresses of `region`.
pub fn left_below(region: &Region) -> Result<Option<Arc<Hold>>> {
    find(|hold| hold.is_left() && region.overlaps(&hold.range))
}
