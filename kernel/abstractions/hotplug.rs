// SPDX-License-Identifier: GPL-2.0-only

//! Driver-managed memory: adding it to the system and taking it away again.
//!
//! C header: [`include/linux/memory_hotplug.h`](srctree/include/linux/memory_hotplug.h)

use super::bindings;
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    time::{
        msecs_to_jiffies,
        Jiffies, //
    }, //
};

/// The name under which `/proc/iomem` shows the memory that this module added.
///
/// The kernel keeps the pointer as long as memory is added: hold a reference to the module.
const RESOURCE_NAME: &CStr = c"System RAM (kmem)";

/// `MHP_*` of `include/linux/memory_hotplug.h`, which bindgen does not see through.
const MHP_MERGE_RESOURCE: bindings::mhp_t = 1 << 0;
const MHP_MEMMAP_ON_MEMORY: bindings::mhp_t = 1 << 1;
const MHP_NID_IS_MGID: bindings::mhp_t = 1 << 2;

/// The size of a memory block in bytes, a power of two.
pub fn block_size() -> u64 {
    // SAFETY: The function has no conditions.
    unsafe { bindings::memory_block_size_bytes() as u64 }
}

/// How the system brings new memory online by itself, as `MMOP_*`.
pub fn default_online_type() -> u8 {
    // SAFETY: The function has no conditions.
    let online_type = unsafe { bindings::mhp_get_default_online_type() };
    // The values are 0 to 3.
    u8::try_from(online_type).unwrap_or(0)
}

/// What a memory block is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BlockTruth {
    /// Nobody added it.
    Absent,
    /// It is there and not in use.
    Offline,
    /// It is online, in a zone of the kernel.
    Kernel,
    /// It is online, in `ZONE_MOVABLE`.
    Movable,
}

/// What the memory block of [`block_size`] bytes at physical address `start` is, now.
pub fn block_truth(start: u64) -> BlockTruth {
    // SAFETY: The function looks up any address.
    match unsafe { bindings::memory_block_truth(start, block_size()) } {
        bindings::memory_block_truth_MEMORY_BLOCK_MOVABLE => BlockTruth::Movable,
        bindings::memory_block_truth_MEMORY_BLOCK_KERNEL => BlockTruth::Kernel,
        bindings::memory_block_truth_MEMORY_BLOCK_OFFLINE => BlockTruth::Offline,
        _ => BlockTruth::Absent,
    }
}

/// Tells the users of the physical addresses `range` that what is there is lost. Returns how many pages of it were in
/// use: they are poisoned now, and their block must stay for good, since the tables of processes may name them.
///
/// The caller has to be the one who alone may remove the block.
pub fn poison_used(range: &Range<u64>) -> u32 {
    let size = range.end.saturating_sub(range.start);
    // SAFETY: The helper looks up any address, and pages that are not online are passed over.
    unsafe { bindings::memory_poison_used(range.start, size) }
}

/// How many pages of what is online in `range` somebody uses, at this moment. Only for whoever keeps the memory
/// from being removed meanwhile.
pub fn used_pages(range: &Range<u64>) -> u64 {
    let size = range.end.saturating_sub(range.start);
    // SAFETY: The helper looks up any address, and pages that are not online are passed over.
    unsafe { bindings::memory_used_pages(range.start, size) as u64 }
}

/// A memory group: what belongs to one device is onlined and offlined with regard to each other.
///
/// # Invariants
///
/// The group is registered.
pub struct Group(c_int);

impl Group {
    /// Registers a group of up to `bytes` on `node`.
    pub fn new(node: i32, bytes: u64) -> Result<Self> {
        let bytes = usize::try_from(bytes).map_err(|_| EINVAL)?;
        let pages = bytes.div_ceil(PAGE_SIZE);
        // SAFETY: The function checks its arguments.
        let id = unsafe { bindings::memory_group_register_static(node, pages) };
        to_result(id)?;
        // INVARIANT: Just registered.
        Ok(Self(id))
    }

    /// Adds the memory in `range` to the group, and brings its blocks online as `online_type`
    /// (`MMOP_*`) tells.
    ///
    /// Success tells that the memory was added. The kernel does not tell whether each block went
    /// online: count.
    pub fn add(&self, range: &Range<u64>, memmap_on_memory: bool, online_type: u8) -> Result {
        let mut flags = MHP_NID_IS_MGID | MHP_MERGE_RESOURCE;
        if memmap_on_memory {
            flags |= MHP_MEMMAP_ON_MEMORY;
        }
        let size = range.end.checked_sub(range.start).ok_or(EINVAL)?;
        // SAFETY: The group is registered, the name is static, and the kernel checks the rest.
        to_result(unsafe {
            bindings::__add_memory_driver_managed(
                self.0,
                range.start,
                size,
                RESOURCE_NAME.as_char_ptr(),
                flags,
                online_type.into(),
            )
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: The type's invariant. A group that still has memory is refused, which is a fault
        // of ours that the kernel warns about.
        unsafe { bindings::memory_group_unregister(self.0) };
    }
}

/// For how many seconds it is waited for memory that does not move, where nobody can send a signal.
pub const PATIENCE: c_uint = 15;

/// So many seconds, for a kernel that counts in jiffies.
pub fn seconds(number: c_uint) -> Jiffies {
    msecs_to_jiffies(number.saturating_mul(1000))
}

/// Whether somebody can end what the current task waits for, by a signal. Nobody can for the kernel's
/// own threads.
pub fn signals_reach_current() -> bool {
    // SAFETY: The function has no conditions.
    unsafe { bindings::memory_signals_reach_current() }
}

/// What ends the wait for memory that does not move.
#[derive(Clone, Copy)]
pub struct Limits {
    /// That nothing moved for so many seconds; `None`: nothing of the kind.
    pub patience: Option<c_uint>,
    /// A signal of the current task. A rollback after a signal would be ended by the very signal that made it
    /// necessary.
    pub signals: bool,
}

/// Memory that is taken offline in a given order and then removed, all of it or none, by a thread of its own.
///
/// The kernel never gives up on memory that does not move without a signal, and gives up as long as one is
/// pending. The thread gets one when there is a reason, and no other. The kernel tries to bring back online what
/// it took offline before.
///
/// # Invariants
///
/// `removal` has begun, and not ended; it works on `_ranges`.
pub struct Removal {
    removal: NonNull<bindings::memory_removal>,
    _ranges: KVec<bindings::range>,
}

// SAFETY: The thread, and what is waited for, have locks of their own.
unsafe impl Send for Removal {}
// SAFETY: As above.
unsafe impl Sync for Removal {}

impl Removal {
    /// Begins to take the memory of all `ranges` away.
    pub fn begin(ranges: &[Range<u64>]) -> Result<Arc<Self>> {
        let (list, count) = list(ranges)?;
        // Nothing fails once it has begun.
        Arc::init(
            try_init!(Self {
                // INVARIANT: The ranges are on the heap, and dropped after the removal has ended.
                removal: {
                    // SAFETY: `list` holds `count` ranges, which the kernel checks, until the removal has ended.
                    let removal = unsafe { bindings::memory_removal_begin(list.as_ptr(), count) };
                    NonNull::new(from_err_ptr(removal)?).ok_or(ENOMEM)?
                },
                _ranges: list,
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Has it end as soon as may be.
    pub fn interrupt(&self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::memory_removal_interrupt(self.removal.as_ptr()) };
    }

    /// Waits for its end. Within `limits` that comes by itself; beyond, it is interrupted. `progress` is another
    /// value whenever something has moved; it is asked for only when it takes long.
    ///
    /// # Errors
    ///
    /// `EBUSY`: memory is in use and cannot be moved. `ETIMEDOUT`: there was no progress. `EINTR`: a signal came,
    /// or somebody else interrupted it.
    pub fn wait<P: PartialEq>(&self, limits: Limits, progress: impl Fn() -> P) -> Result {
        let mut heeds_signals = limits.signals;
        let mut cause = None;
        let mut seen = None;
        loop {
            let seconds = match limits.patience {
                // Looked at twice before it is over.
                Some(patience) => patience.div_ceil(2),
                None if heeds_signals => 0,
                None => PATIENCE,
            };
            // SAFETY: The type's invariant.
            let waited = to_result(unsafe {
                bindings::memory_removal_wait(self.removal.as_ptr(), seconds, heeds_signals)
            });
            match waited {
                Ok(()) => break,
                Err(error) if error == EINTR => {
                    heeds_signals = false;
                    cause = cause.or(Some(EINTR));
                    self.interrupt();
                }
                Err(_) if limits.patience.is_some() => {
                    let now = Some(progress());
                    if now == seen {
                        cause = cause.or(Some(ETIMEDOUT));
                        self.interrupt();
                    }
                    seen = now;
                }
                Err(_) => {}
            }
        }
        // SAFETY: The type's invariant; it is done.
        let result = to_result(unsafe { bindings::memory_removal_result(self.removal.as_ptr()) });
        result.map_err(|error| match cause {
            Some(cause) if error == EINTR => cause,
            _ => error,
        })
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        // SAFETY: The type's invariant; it is not used any more.
        unsafe { bindings::memory_removal_end(self.removal.as_ptr()) };
    }
}

/// The ranges, and how many they are, as the kernel wants them.
fn list(ranges: &[Range<u64>]) -> Result<(KVec<bindings::range>, c_uint)> {
    let mut list = KVec::with_capacity(ranges.len(), GFP_KERNEL)?;
    for range in ranges {
        let end = range.end.checked_sub(1).ok_or(EINVAL)?;
        let range = bindings::range {
            start: range.start,
            end,
        };
        list.push(range, GFP_KERNEL)?;
    }
    let count = c_uint::try_from(list.len()).map_err(|_| EINVAL)?;
    Ok((list, count))
}

/// Physical addresses reserved for memory that is yet to be added.
///
/// # Invariants
///
/// The resource is in the tree and ours.
pub struct Reservation(*mut bindings::resource);

// SAFETY: The resource tree has a lock of its own.
unsafe impl Send for Reservation {}

impl Reservation {
    /// Reserves `range` under `name`.
    ///
    /// # Safety
    ///
    /// `name` must outlive the reservation: the tree keeps the pointer.
    ///
    /// # Errors
    ///
    /// `EBUSY`: somebody else has a part of it.
    unsafe fn new(range: &Range<u64>, name: &CStr) -> Result<Self> {
        let size = range.end.checked_sub(range.start).ok_or(EINVAL)?;
        // SAFETY: The root is the kernel's, and the caller keeps the name.
        let resource = unsafe {
            bindings::__request_region(
                &raw mut bindings::iomem_resource,
                range.start,
                size,
                name.as_char_ptr(),
                0,
            )
        };
        if resource.is_null() {
            return Err(EBUSY);
        }
        // The memory that is added becomes a child, so the reservation itself must look like System
        // RAM and not be busy.
        //
        // SAFETY: The resource was just made and is ours.
        unsafe { (*resource).flags = bindings::IORESOURCE_SYSTEM_RAM as usize };
        // INVARIANT: It is in the tree.
        Ok(Self(resource))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: The type's invariant; the kernel allocated the resource for us.
        unsafe {
            bindings::remove_resource(self.0);
            bindings::kfree(self.0.cast());
        }
    }
}

/// The reservations of one device, and the name that they bear.
pub struct Reservations {
    // Dropped before the name that it points to.
    list: KVec<Reservation>,
    name: kernel::str::CString,
}

impl Reservations {
    /// Prepares reservations under `name`.
    pub fn new(name: &CStr) -> Result<Self> {
        Ok(Self {
            list: KVec::new(),
            name: kernel::str::CString::try_from(name)?,
        })
    }

    /// Whether nothing is reserved.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Reserves one more `range`.
    ///
    /// # Errors
    ///
    /// `EBUSY`: somebody else has a part of it.
    pub fn reserve(&mut self, range: &Range<u64>) -> Result {
        self.list.reserve(1, GFP_KERNEL)?;
        // SAFETY: The name is on the heap, and is dropped after the list.
        let reservation = unsafe { Reservation::new(range, &self.name)? };
        self.list.push(reservation, GFP_KERNEL)?;
        Ok(())
    }

    /// Gives all of it back.
    pub fn release(&mut self) {
        self.list.clear();
    }
}

/// What kind of memory a node has, for the kernel's memory tiers.
///
/// # Invariants
///
/// The node's type was initialised once for this object.
pub struct NodeMemoryType {
    node: i32,
}

impl NodeMemoryType {
    /// Says of `node` that it has memory at the abstract distance that the platform tells.
    pub fn new(node: i32) -> Result<Self> {
        // SAFETY: The helper locks its list and checks the node.
        let kind = from_err_ptr(unsafe { bindings::memory_tier_type_get(node) })?;
        // SAFETY: `kind` is valid: the list that it is on lives as long as the module.
        unsafe { bindings::init_node_memory_type(node, kind) };
        // INVARIANT: Just initialised.
        Ok(Self { node })
    }
}

impl Drop for NodeMemoryType {
    fn drop(&mut self) {
        // SAFETY: The type's invariant.
        unsafe { bindings::clear_node_memory_type(self.node, core::ptr::null_mut()) };
    }
}

/// The kinds of memory that this module made known; dropped when the module goes.
pub struct NodeMemoryTypes;

impl Drop for NodeMemoryTypes {
    fn drop(&mut self) {
        // SAFETY: No device is bound any more, so no node refers to the types.
        unsafe { bindings::memory_tier_types_put() };
    }
}
