// SPDX-License-Identifier: GPL-2.0-only

//! A region over dynamic capacity, and what of it is memory.

use super::{
    listed::{
        Listed,
        ListedExtent, //
    },
    tagged::Tagged,
    Device,
    Mover, //
};
use crate::{
    abstractions::{
        cxl::subregion::Registered,
        dax_device::DaxDevice,
        dax_region::{
            self,
            Pool, //
        },
        worker::Worker, //
    },
    holds::Hold,
    mappable::Mappable, //
};
use core::ops::Range;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
};
use region_policy::{
    dcd::{
        admission::{
            self,
            Use, //
        },
        holdings::{
            Phase,
            Set, //
        },
    },
    extent::{
        Span,
        Tag, //
    },
};

/// The driver of System RAM.
const KMEM: &str = "kmem";

/// A region whose memory comes and goes.
#[pin_data]
pub struct Area {
    terms: admission::Area,
    pool: Arc<Pool>,
    user: User,
    /// What is memory; `None` once the region is on its way out.
    #[pin]
    surfaced: Mutex<Option<KVec<Surfaced>>>,
    /// Held while memory comes.
    #[pin]
    arrivals: Mutex<()>,
    /// Held while memory goes, which may take long.
    #[pin]
    departures: Mutex<()>,
    /// What is shown of it.
    #[pin]
    listed: Mutex<Option<KVec<Registered<ListedExtent>>>>,
}

/// Who has the memory.
pub enum User {
    /// `kmem`, under the region's policy.
    Kmem(Arc<Hold>),
    /// Applications.
    Applications(Arc<Mappable>),
}

/// A set that is memory.
struct Surfaced {
    set: Set,
    device: ARef<DaxDevice>,
    /// Its file.
    _tagged: Tagged,
}

impl Area {
    /// Begins without memory. The region numbered `region` has the physical addresses `range` for `span` of the
    /// device; `pool` makes its devices for `user`.
    pub fn new(
        region: c_int,
        span: Span,
        range: &Range<u64>,
        pool: Arc<Pool>,
        user: User,
    ) -> Result<Arc<Self>> {
        let (purpose, alignment) = match user {
            User::Kmem(_) => (Use::Sysram, dax_region::memory_block_size()),
            User::Applications(_) => (Use::Devdax, dax_region::ALIGNMENT),
        };
        let terms = admission::Area {
            region: u32::try_from(region)?,
            span,
            physical: range.start,
            alignment,
            purpose,
        };
        Arc::pin_init(
            pin_init!(Self {
                terms,
                pool,
                user,
                surfaced <- new_mutex!(Some(KVec::new())),
                arrivals <- new_mutex!(()),
                departures <- new_mutex!(()),
                listed <- new_mutex!(Some(KVec::new())),
            }),
            GFP_KERNEL,
        )
    }

    /// What extents of it are decided on by.
    pub fn terms(&self) -> admission::Area {
        self.terms
    }

    /// The physical addresses of `span`.
    pub fn range(&self, span: Span) -> Result<Range<u64>> {
        let start = self.terms.physical(span.start()).ok_or(EINVAL)?;
        let end = start.checked_add(span.length()).ok_or(EINVAL)?;
        Ok(start..end)
    }

    /// Whether some of `spans` is System RAM.
    pub fn is_memory(&self, spans: &[Span]) -> bool {
        let mut ranges = spans.iter().filter_map(|span| self.range(*span).ok());
        ranges.any(|range| dax_region::is_system_ram(&range))
    }

    fn ranges(&self, spans: &[Span]) -> Result<KVec<Range<u64>>> {
        let mut ranges = KVec::with_capacity(spans.len(), GFP_KERNEL)?;
        for span in spans {
            ranges.push(self.range(*span)?, GFP_KERNEL)?;
        }
        Ok(ranges)
    }

    /// Makes the extents of `set` memory: one DAX device of all of them.
    pub fn surface(&self, set: Set, tag: Option<Tag>, spans: &[Span]) -> Result {
        let arrivals = self.arrivals.lock();
        if self.surfaced.lock().is_none() {
            return Err(ENODEV);
        }
        let ranges = self.ranges(spans)?;
        let added = match &self.user {
            User::Kmem(_) => self.pool.add(&ranges, KMEM),
            User::Applications(mappable) => {
                mappable.add(|mode| self.pool.add(&ranges, mode.driver()))
            }
        };
        let result = added.and_then(|device| self.note(set, tag, device));
        if let Err(error) = result {
            dev_err!(
                self.pool.owner(),
                "[{:#x}-{:#x}] cannot be used ({:?}), and goes back\n",
                ranges.first().map_or(0, |range| range.start),
                ranges.last().map_or(0, |range| range.end.saturating_sub(1)),
                error
            );
        }
        drop(arrivals);
        result
    }

    fn note(&self, set: Set, tag: Option<Tag>, device: ARef<DaxDevice>) -> Result {
        let noted = Tagged::new(&device, tag).and_then(|tagged| {
            let one = Surfaced {
                set,
                device: device.clone(),
                _tagged: tagged,
            };
            match &mut *self.surfaced.lock() {
                Some(surfaced) => Ok(surfaced.push(one, GFP_KERNEL)?),
                None => Err(ENODEV),
            }
        });
        if noted.is_err() && self.empty(&device, &[], &[]).is_ok() {
            self.pool.recycle(&device);
        }
        noted
    }

    /// Takes the memory of `set` out of use, all of it or none. Where the device took some of it already, `lost`,
    /// as much as can be, whoever uses it.
    pub fn take_away(&self, set: Set, spans: &[Span], lost: &[Span]) -> Result {
        let departures = self.departures.lock();
        let device = match &*self.surfaced.lock() {
            None => return Err(ENODEV),
            Some(surfaced) => surfaced
                .iter()
                .find(|one| one.set == set)
                .map(|one| one.device.clone()),
        };
        let ranges = self.ranges(spans)?;
        if let Some(device) = device {
            self.empty(&device, &ranges, &self.ranges(lost)?)?;
            // Its file goes before another set may have the device.
            let gone = self.forget(set);
            drop(gone);
            self.pool.recycle(&device);
        } else if let User::Kmem(hold) = &self.user {
            // It did not come up whole, and some of it had to stay.
            ranges.iter().try_for_each(|range| hold.take_away(range))?;
        }
        drop(departures);
        if self.is_memory(spans) {
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Takes all memory from a device, which is in `ranges`, of which the contents of `lost` are lost.
    fn empty(&self, device: &DaxDevice, ranges: &[Range<u64>], lost: &[Range<u64>]) -> Result {
        match &self.user {
            User::Kmem(hold) => {
                // All is tried before an error is told.
                let gave_up = lost.iter().map(|range| hold.give_up(range));
                gave_up.fold(Ok(()), Result::and)?;
                ranges.iter().try_for_each(|range| hold.take_away(range))?;
                // Somebody may have given it to applications.
                if device.driver().is_some() && !device.is_with(KMEM) {
                    take_from_applications(device, lost)?;
                }
                self.pool.empty(device)
            }
            User::Applications(mappable) => mappable.remove(|| {
                take_from_applications(device, lost)?;
                self.pool.empty(device)
            }),
        }
    }

    fn forget(&self, set: Set) -> Option<Surfaced> {
        let mut surfaced = self.surfaced.lock();
        let Some(surfaced) = &mut *surfaced else {
            return None;
        };
        let index = surfaced.iter().position(|one| one.set == set)?;
        surfaced.remove(index).ok()
    }

    /// Whether the region is on its way out.
    pub fn is_closed(&self) -> bool {
        self.surfaced.lock().is_none()
    }

    /// Lets nothing more become memory. What is, is taken out of use by whoever calls this.
    pub fn close(&self) {
        let surfaced = self.surfaced.lock().take();
        drop(surfaced);
        // Whoever is just moving memory is waited for.
        drop(self.arrivals.lock());
        drop(self.departures.lock());
        let listed = self.listed.lock().take();
        drop(listed);
    }

    /// Shows what the host has of the region. `mover` gives back what users want to give back.
    pub fn list(&self, device: &Device, mover: &Arc<Worker<Mover>>) {
        let mut listed = self.listed.lock();
        let Some(listed) = &mut *listed else {
            return;
        };
        let Ok(present) = self.present(device) else {
            return;
        };
        listed.retain(|one| present.iter().any(|extent| extent.arrival == one.arrival()));
        for extent in present {
            if let Some(one) = listed.iter().find(|one| one.arrival() == extent.arrival) {
                ListedExtent::set_state(one, extent.state);
                continue;
            }
            let owner = self.pool.owner();
            // What cannot be shown is as good a memory.
            let added = ListedExtent::add(owner, &self.terms, extent, mover)
                .and_then(|one| Ok(listed.push(one, GFP_KERNEL)?));
            if let Err(error) = added {
                dev_warn!(owner, "an extent cannot be shown: {:?}\n", error);
            }
        }
    }

    /// The extents of the region that the host has.
    fn present(&self, device: &Device) -> Result<KVec<Listed>> {
        let mut present = KVec::new();
        let conversation = device.conversation.lock();
        let entries = conversation.holdings().entries();
        for entry in entries.filter(|entry| {
            entry.phase() != Phase::Offered && self.terms.span.covers(entry.extent().span)
        }) {
            let listed = Listed {
                arrival: entry.arrival(),
                extent: entry.extent(),
                state: entry.state(),
            };
            present.push(listed, GFP_KERNEL)?;
        }
        Ok(present)
    }
}

/// Takes a device from its driver unless somebody uses it; where some of it is `lost`, whoever uses it.
///
/// # Errors
///
/// `ETXTBSY`: somebody has it open or mapped. `EBUSY`: somebody holds a page of what is lost.
fn take_from_applications(device: &DaxDevice, lost: &[Range<u64>]) -> Result {
    if !lost.is_empty() {
        return device.take_from_users();
    }
    // Nobody opens it from here on, and nobody has it open.
    let closed = device.close().ok_or(ETXTBSY)?;
    closed.release();
    Ok(())
}
