// SPDX-License-Identifier: GPL-2.0-only

//! Dynamic capacity: memory that devices give and take back while the host runs.
//!
//! Every memdev with dynamic capacity has a companion. It does nothing to a device of which the host has nothing until a
//! region over it is bound: until then the fabric's offers wait in the device's log. From then on one worker has the
//! [`conversation`] with the device, an interrupt at a time, another brings memory and gives it back, and a third
//! takes it out of use, which may take long and keeps no event of the device waiting. The memory is that of the
//! [`area`] of a region, and its extents are [`listed`] there.

pub mod area;
pub mod conversation;
pub mod listed;
pub mod tagged;

use crate::{
    abstractions::{
        attribute::{
            Attribute,
            Files,
            Page, //
        },
        cxl::memdev::{
            Companion,
            Interrupts,
            Mailbox,
            Memdev,
            SendError,
            Source, //
        },
        device::announce_change,
        global::Lifetime,
        worker::{
            Task,
            Worker, //
        },
    },
    extra_attributes,
    global_mutex, //
};
use area::Area;
use conversation::{
    Conversation,
    Ending,
    Lane,
    ONCE_IN_A_WHILE, //
};
use core::{
    fmt::Write,
    ops::Range, //
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        ArcBorrow,
        Mutex, //
    },
};
use region_policy::{
    dcd::{
        configuration::DcRegion,
        holdings::{
            Phase,
            Work, //
        },
    },
    extent::Tag,
};

/// How much of a mailbox is used at most, in bytes.
const BUFFER: usize = 16 << 10;

/// How long to wait for the PCI driver to have set up its own interrupts, in milliseconds.
const SOON: u32 = 20;

/// A memdev with dynamic capacity.
pub struct Device {
    mailbox: Arc<Mailbox>,
    /// The first of the device's regions, which is the one that the host can map.
    region: DcRegion,
    conversation: Pin<KBox<Mutex<Conversation>>>,
    /// The tags that the host has extents of, for other devices to know.
    tags: Pin<KBox<Mutex<KVec<Tag>>>>,
    /// Who has the conversation; `None` at the end.
    talker: Later<Arc<Worker<Talker>>>,
}

/// A device and those who work on it.
struct Known {
    device: Arc<Device>,
    talker: Arc<Worker<Talker>>,
    mover: Arc<Worker<Mover>>,
}

global_mutex! {
    /// Every device.
    static DEVICES(devices_lock): KVec<Known> = KVec::new();
}

/// From the module's init to its exit. The companions go before the end, and the devices with them.
pub fn lifetime() -> Lifetime {
    DEVICES.begin()
}

/// Who looks after memdevs with dynamic capacity.
pub struct DynamicCapacity;

impl Source for DynamicCapacity {
    fn attach(mailbox: Arc<Mailbox>) -> Result<Option<KBox<dyn Companion>>> {
        let size = mailbox.payload_size()?.min(BUFFER);
        let mut buffer = KVec::from_elem(0, size, GFP_KERNEL)?;
        let configuration =
            conversation::read_configuration(&mailbox, &mut buffer).map_err(SendError::errno)?;
        let Some(configuration) = configuration else {
            return Ok(None);
        };
        let Some(region) = configuration.regions().next() else {
            return Ok(None);
        };
        let conversation = Conversation::new(configuration.extents_supported(), size)?;
        let device = Arc::new(
            Device {
                mailbox: mailbox.clone(),
                region,
                conversation: KBox::pin_init(new_mutex!(conversation), GFP_KERNEL)?,
                tags: KBox::pin_init(new_mutex!(KVec::new()), GFP_KERNEL)?,
                talker: KBox::pin_init(new_mutex!(None), GFP_KERNEL)?,
            },
            GFP_KERNEL,
        )?;
        let remover = Worker::new(Remover {
            device: device.clone(),
            mover: KBox::pin_init(new_mutex!(None), GFP_KERNEL)?,
        })?;
        let mover = Worker::new(Mover {
            device: device.clone(),
            remover: remover.clone(),
        })?;
        let talker = Worker::new(Talker {
            device: device.clone(),
            mover: mover.clone(),
            interrupts: KBox::pin_init(new_mutex!(None), GFP_KERNEL)?,
        })?;
        let known = Known {
            device: device.clone(),
            talker: talker.clone(),
            mover: mover.clone(),
        };
        let attached = Attached {
            device,
            talker,
            mover,
            remover,
            files: None,
        };
        let mut attached = KBox::new(attached, GFP_KERNEL)?;
        // These are taken away again when it is dropped.
        *attached.remover.mover.lock() = Some(attached.mover.clone());
        *attached.device.talker.lock() = Some(attached.talker.clone());
        DEVICES.lock()?.push(known, GFP_KERNEL)?;
        attached.files = Some(Files::add(mailbox.memdev(), &FILES)?);
        // One that cannot be asked now is asked again by the talker.
        if conversation::holds_extents(&mailbox, &mut buffer).unwrap_or(true) {
            // What the host has from before may be wanted back, whether there is a region over it or not.
            attached.talker.hurry();
        }
        Ok(Some(attached))
    }
}

/// The companion; dropping it ends everything.
struct Attached {
    device: Arc<Device>,
    talker: Arc<Worker<Talker>>,
    mover: Arc<Worker<Mover>>,
    remover: Arc<Worker<Remover>>,
    files: Option<Files>,
}

impl Companion for Attached {}

impl Drop for Attached {
    fn drop(&mut self) {
        // Whoever is inside the files is waited for.
        self.files = None;
        if let Ok(mut devices) = DEVICES.lock() {
            devices.retain(|known| !Arc::ptr_eq(&known.device, &self.device));
        }
        self.talker.stop();
        self.mover.stop();
        self.remover.stop();
        // What refers to the workers.
        let mover = self.remover.mover.lock().take();
        drop(mover);
        let talker = self.device.talker.lock().take();
        drop(talker);
        drop(self.talker.interrupts.lock().take());
    }
}

/// What a worker gets after it was made, and loses before it goes.
type Later<T> = Pin<KBox<Mutex<Option<T>>>>;

/// Who has the conversation with the device.
pub struct Talker {
    device: Arc<Device>,
    mover: Arc<Worker<Mover>>,
    interrupts: Later<Interrupts<Talker>>,
}

impl Task for Talker {
    fn run(worker: ArcBorrow<'_, Worker<Self>>) -> u32 {
        let watched = watch(worker);
        let device = &worker.device;
        let (wait, refused) = {
            let mut conversation = device.conversation.lock();
            let before = conversation.refusals().count;
            let tag_elsewhere = |tag| !claim_tag(device, tag);
            let wait = conversation.talk(&device.mailbox, &tag_elsewhere);
            device.note_tags(&conversation);
            (wait, conversation.refusals().count != before)
        };
        if refused {
            announce_change(device.mailbox.memdev().as_ref());
        }
        device.list(&worker.mover);
        worker.mover.hurry();
        worker.mover.remover.hurry();
        if watched {
            wait
        } else {
            SOON
        }
    }
}

/// Has the device's interrupts make the worker hurry. Returns whether that is done, or never will be.
fn watch(worker: ArcBorrow<'_, Worker<Talker>>) -> bool {
    let mut interrupts = worker.interrupts.lock();
    if interrupts.is_some() {
        return true;
    }
    match worker.device.mailbox.watch(&Arc::from(worker)) {
        Ok(registered) => {
            *interrupts = Some(registered);
            true
        }
        Err(EAGAIN) => false,
        Err(error) => {
            dev_warn!(
                worker.device.mailbox.memdev().as_ref(),
                "dynamic capacity: no interrupts ({:?}); events are looked for once a minute\n",
                error
            );
            true
        }
    }
}

/// Who brings memory, and gives back what is no memory any more.
pub struct Mover {
    device: Arc<Device>,
    remover: Arc<Worker<Remover>>,
}

impl Mover {
    /// Has the set of the extent that arrived as number `arrival` given back.
    pub fn give_back(&self, arrival: u32) {
        self.device.conversation.lock().want_back(arrival);
    }
}

impl Task for Mover {
    fn run(worker: ArcBorrow<'_, Worker<Self>>) -> u32 {
        let wait = worker.device.work(Lane::Quick, &Arc::from(worker));
        worker.remover.hurry();
        wait
    }
}

/// Who takes memory out of use.
pub struct Remover {
    device: Arc<Device>,
    /// Who gives it back; `None` at the end.
    mover: Later<Arc<Worker<Mover>>>,
}

impl Task for Remover {
    fn run(worker: ArcBorrow<'_, Worker<Self>>) -> u32 {
        let mover = worker.mover.lock().clone();
        let Some(mover) = mover else {
            return ONCE_IN_A_WHILE;
        };
        worker.device.work(Lane::Removal, &mover)
    }
}

impl Device {
    /// Does what is to be done in `lane`. Returns after how many milliseconds there may be more.
    fn work(&self, lane: Lane, mover: &Arc<Worker<Mover>>) -> u32 {
        loop {
            let next = {
                let mut conversation = self.conversation.lock();
                let next = conversation.next_job(&self.mailbox, lane);
                // What was given back another device may offer.
                self.note_tags(&conversation);
                next
            };
            let job = match next {
                Ok(Ok(job)) => job,
                Ok(Err(wait)) => {
                    self.list(mover);
                    self.hurry_talker();
                    return wait;
                }
                // There is no memory to note what is to be done.
                Err(_) => return ONCE_IN_A_WHILE,
            };
            self.list(mover);
            let ending = match (&job.area, job.work) {
                (Some(area), Work::Surface(set)) => match area.surface(set, job.tag, &job.spans) {
                    Ok(()) => Ending::Done,
                    Err(_) if area.is_memory(&job.spans) => Ending::Stuck,
                    Err(_) if area.is_closed() => Ending::TooLate,
                    Err(_) => Ending::Failed,
                },
                (Some(area), Work::TakeAway(set)) => {
                    match area.take_away(set, &job.spans, &job.lost) {
                        Ok(()) => Ending::Done,
                        Err(ETXTBSY) => Ending::Open,
                        Err(_) => Ending::Failed,
                    }
                }
                (None, _) | (_, Work::GiveBack(_)) => Ending::TooLate,
            };
            self.conversation.lock().done(&job, ending);
            self.hurry_talker();
            if lane == Lane::Removal {
                // It may be given back, and there may be room for others.
                mover.hurry();
            }
        }
    }

    /// Has the device asked soon what it lists, where that may be something that the host does not know of.
    fn hurry_talker(&self) {
        if !self.conversation.lock().take_hurry() {
            return;
        }
        if let Some(talker) = &*self.talker.lock() {
            talker.hurry();
        }
    }

    /// Shows in each region what the host has of it.
    fn list(&self, mover: &Arc<Worker<Mover>>) {
        let mut areas = KVec::new();
        for area in self.conversation.lock().areas() {
            // Where there is no room, it is shown the next time.
            let _ = areas.push(area.clone(), GFP_KERNEL);
        }
        for area in areas {
            area.list(self, mover);
        }
    }

    fn note_tags(&self, conversation: &Conversation) {
        let mut tags = self.tags.lock();
        tags.clear();
        for entry in conversation.holdings().entries() {
            let Some(tag) = entry.extent().tag else {
                continue;
            };
            if entry.phase() != Phase::Offered && !tags.contains(&tag) {
                // What there is no room for is not known elsewhere.
                let _ = tags.push(tag, GFP_KERNEL);
            }
        }
    }
}

/// Notes that `device` is about to accept extents of `tag`, unless another device has some or is about to:
/// both are decided under one lock. Returns whether it is noted.
fn claim_tag(device: &Arc<Device>, tag: Tag) -> bool {
    DEVICES.lock().is_ok_and(|devices| {
        let elsewhere = devices.iter().any(|known| {
            !Arc::ptr_eq(&known.device, device) && known.device.tags.lock().contains(&tag)
        });
        // What comes of it is noted when the device was talked to.
        !elsewhere && device.tags.lock().push(tag, GFP_KERNEL).is_ok()
    })
}

/// A region over dynamic capacity whose memory is in use as the fabric gives it; [`Open::close`] it.
pub struct Open {
    device: Arc<Device>,
    mover: Arc<Worker<Mover>>,
    area: Arc<Area>,
}

impl Open {
    /// Takes what the fabric offers of `area`, from now on, and what the host had of it before.
    ///
    /// # Errors
    ///
    /// `ENXIO`: the memdev is on its way out.
    pub fn new(memdev: &Memdev, area: Arc<Area>) -> Result<Self> {
        let (device, talker, mover) = find(memdev)?;
        device.conversation.lock().open(&area)?;
        talker.hurry();
        Ok(Self {
            device,
            mover,
            area,
        })
    }

    /// Takes nothing more.
    pub fn close(&self) {
        self.device.conversation.lock().close(&self.area);
        self.area.close();
    }

    /// Tells that the memory is out of use, but for the addresses of which `is_memory` tells. What is not memory
    /// any more stays with the host, for the next region.
    pub fn closed(&self, is_memory: impl Fn(&Range<u64>) -> bool) {
        let is_memory = |span| self.area.range(span).is_ok_and(|range| is_memory(&range));
        self.device
            .conversation
            .lock()
            .closed(&self.area, is_memory);
        self.mover.hurry();
    }
}

type Workers = (Arc<Device>, Arc<Worker<Talker>>, Arc<Worker<Mover>>);

fn find(memdev: &Memdev) -> Result<Workers> {
    DEVICES
        .lock()?
        .iter()
        .find(|known| core::ptr::eq(known.device.mailbox.memdev(), memdev))
        .map(|known| {
            (
                known.device.clone(),
                known.talker.clone(),
                known.mover.clone(),
            )
        })
        .ok_or(ENXIO)
}

extra_attributes! {
    /// What a memdev with dynamic capacity has.
    static FILES: Memdev, Some(c"dynamic_ram_a") => [Size, Decoder, RefusedOffers, LastRefusal];
}

struct Size;

impl Attribute<Memdev> for Size {
    const NAME: &'static CStr = c"size";

    const MODE: u16 = 0o444;

    fn show(memdev: &Memdev, page: &mut Page<'_>) -> Result {
        let (device, ..) = find(memdev)?;
        writeln!(page, "{:#x}", device.region.span.length())?;
        Ok(())
    }
}

struct RefusedOffers;

impl Attribute<Memdev> for RefusedOffers {
    const NAME: &'static CStr = c"refused_offers";

    const MODE: u16 = 0o444;

    fn show(memdev: &Memdev, page: &mut Page<'_>) -> Result {
        let (device, ..) = find(memdev)?;
        let refusals = device.conversation.lock().refusals();
        writeln!(page, "{}", refusals.count)?;
        Ok(())
    }
}

struct LastRefusal;

impl Attribute<Memdev> for LastRefusal {
    const NAME: &'static CStr = c"last_refusal";

    const MODE: u16 = 0o444;

    fn show(memdev: &Memdev, page: &mut Page<'_>) -> Result {
        let (device, ..) = find(memdev)?;
        let refusals = device.conversation.lock().refusals();
        if let Some(why) = refusals.latest {
            writeln!(page, "{why}")?;
        }
        Ok(())
    }
}

struct Decoder;

impl Attribute<Memdev> for Decoder {
    const NAME: &'static CStr = c"decoder";

    const MODE: u16 = 0o200;

    fn show(_memdev: &Memdev, _page: &mut Page<'_>) -> Result {
        Err(EPERM)
    }

    fn store(memdev: &Memdev, text: &[u8]) -> Result {
        let (device, ..) = find(memdev)?;
        let name = text.strip_suffix(b"\n").unwrap_or(text);
        let name =
            CString::try_from_fmt(fmt!("{}", core::str::from_utf8(name).map_err(|_| EINVAL)?))?;
        memdev.choose_dynamic_capacity(&name, device.region.span)
    }
}
