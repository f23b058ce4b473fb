// SPDX-License-Identifier: GPL-2.0-only

//! The memory of one device, and its transitions: entirely or not at all.
//!
//! Lock order: the lock of a device's memory, then the kernel's hotplug lock, under which the zone
//! guard runs, then [`Memory::looking`]. So the guard takes no other lock: what it needs is in atomics.

use crate::{
    abstractions::{
        device::notify_attribute,
        hotplug::{
            self,
            BlockTruth,
            Group,
            Limits,
            NodeMemoryType,
            Removal,
            Reservations, //
        },
        module_ref::ModuleRef,
        text::Text, //
    },
    claims::Policy,
    ledger::{
        physical,
        Ledger, //
    },
};
use core::{
    cell::Cell,
    fmt,
    ops::Range, //
};
use kernel::{
    device::Device,
    module::this_module,
    new_condvar,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            AtomicFlag,
            Relaxed, //
        },
        Arc,
        CondVar,
        CondVarTimeoutResult,
        Mutex, //
    },
    types::ScopeGuard, //
};
use region_policy::{
    blocks::{
        BlockState,
        Blocks, //
    },
    census::BlockCounts,
    engine::{
        self,
        Failure,
        Machine,
        Purpose, //
    },
    journal::{
        Entry,
        Journal, //
    },
    online_type::{
        Configured,
        OnlineType, //
    },
    request::Request,
    state::DeviceState,
    transition::Refusal,
    zone::{
        ZoneKind,
        ZoneRule, //
    },
};

/// For how many seconds memory that does not move is waited for by whoever asks again later.
const ASKED_AGAIN: c_uint = 3;

/// The same, for each block of memory whose contents are lost.
const LOST: c_uint = 1;

/// For how many seconds a request may get nowhere while its device is about to go.
const GIVES_WAY: c_uint = 3;

/// How long it is waited for the turn, and for memory that does not move.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Until a signal comes, or the device is on its way out: somebody asked for it, and may ask again.
    Request,
    /// Until a signal comes, or nothing has moved for so many seconds.
    Within(c_uint),
}

/// The memory of one DAX device.
///
/// It outlives the binding when memory had to be left behind: somebody must know of it.
#[pin_data]
pub struct Memory {
    /// The device's name, also in `/proc/iomem`.
    name: CString,
    /// What the owner wants; none for a device of the stock drivers.
    policy: Option<Policy>,
    ledger: Ledger,
    memmap_on_memory: bool,
    /// What is held while memory is added; gone while a transition has it.
    #[pin]
    plugged: Mutex<Option<Plugged>>,
    #[pin]
    turn: CondVar,
    /// Where changes are notified; none while no driver is bound.
    #[pin]
    device: Mutex<Option<ARef<Device>>>,
    /// What was last asked for, as `MMOP_*` plus one; 0 for nothing.
    last_requested: Atomic<u32>,
    /// The changes of the moment are the driver's own, which are notified once at the end.
    in_transition: AtomicFlag,
    /// No memory comes back: the device below is on its way out.
    frozen: AtomicFlag,
    /// How many want requests to give way at this moment.
    hurried: Atomic<i32>,
    /// What a request is taking away at this moment.
    #[pin]
    removal: Mutex<Option<Arc<Removal>>>,
    /// Whoever has this keeps blocks that are online from being removed: they are noted as offline before.
    #[pin]
    looking: Mutex<()>,
    /// Blocks with poisoned pages, which have to stay: see [`hotplug::poison_used`].
    #[pin]
    poisoned: Mutex<KVec<u64>>,
    group: Group,
    _kind: NodeMemoryType,
}

/// What is held while memory is added.
struct Plugged {
    reservations: Reservations,
    /// Which of the device's ranges are reserved, by index.
    reserved: KVec<usize>,
    /// The kernel keeps pointers into this module as long as memory is added.
    _module: Option<ModuleRef>,
}

impl Memory {
    /// Prepares the memory in `ranges` on `node`; none of it is added yet.
    ///
    /// # Errors
    ///
    /// `EBUSY`: somebody else has a part of it. A device without an owner's policy loses just the
    /// ranges in question, as it always did, unless none is left.
    pub fn new(
        name: &CStr,
        node: i32,
        memmap_on_memory: bool,
        policy: Option<Policy>,
        ranges: &[Blocks],
    ) -> Result<Arc<Self>> {
        let mut plugged = Plugged {
            reservations: Reservations::new(name)?,
            reserved: KVec::new(),
            _module: None,
        };
        let mut kept = KVec::with_capacity(ranges.len(), GFP_KERNEL)?;
        for blocks in ranges.iter().copied() {
            match plugged.reserve(kept.len(), blocks) {
                Ok(()) => kept.push(blocks, GFP_KERNEL)?,
                Err(error) => {
                    pr_warn!(
                        "{}: {} could not reserve region\n",
                        name,
                        Text(Physical(blocks))
                    );
                    if policy.is_some() || kept.is_empty() {
                        return Err(error);
                    }
                }
            }
        }
        let total = kept
            .iter()
            .fold(0u64, |sum, blocks| sum.saturating_add(blocks.count()));
        let ledger = Ledger::new(kept)?;
        let name = CString::try_from(name)?;
        let kind = NodeMemoryType::new(node)?;
        let group = Group::new(node, total.saturating_mul(hotplug::block_size()))?;

        Arc::pin_init(
            pin_init!(Self {
                name,
                policy,
                ledger,
                memmap_on_memory,
                plugged <- new_mutex!(Some(plugged)),
                turn <- new_condvar!(),
                device <- new_mutex!(None),
                last_requested: Atomic::new(0),
                in_transition: AtomicFlag::new(false),
                frozen: AtomicFlag::new(false),
                hurried: Atomic::new(0),
                removal <- new_mutex!(None),
                looking <- new_mutex!(()),
                poisoned <- new_mutex!(KVec::new()),
                group,
                _kind: kind,
            }),
            GFP_KERNEL,
        )
    }

    /// How the log names this memory.
    pub fn label(&self) -> Text<Label<'_>> {
        Text(Label(self))
    }

    /// What the blocks are, now.
    pub fn counts(&self) -> BlockCounts {
        self.ledger.counts()
    }

    /// What the device is as a whole, now.
    pub fn state(&self) -> DeviceState {
        DeviceState::observe(self.counts(), self.last_requested())
    }

    /// Whether none of the memory is added.
    pub fn is_absent(&self) -> bool {
        let counts = self.counts();
        counts.absent == counts.total()
    }

    /// Whether this is memory that had to be left behind in these ranges, and stands under this
    /// policy. The region and the device may be others by now: after its memdev is bound again, the
    /// CXL core finds the same decoders and makes a new region of them.
    pub fn is_left_in(&self, ranges: &[Blocks], online_type: Option<OnlineType>) -> bool {
        self.policy.map(|policy| policy.online_type) == online_type
            && self
                .ledger
                .ranges()
                .iter()
                .all(|blocks| ranges.contains(blocks))
            && self.is_left_behind()
            && !self.is_absent()
    }

    /// Whether no driver is bound to it.
    pub fn is_left_behind(&self) -> bool {
        self.device.lock().is_none()
    }

    /// Whether some of the memory lies in `range` and no driver is bound to it.
    pub fn is_left_behind_in(&self, range: &Range<u64>) -> bool {
        self.is_left_behind() && self.ledger.overlaps(range)
    }

    /// Notifies changes on `device` from now on.
    pub fn attach(&self, device: &Device) {
        self.frozen.store(false, Relaxed);
        *self.device.lock() = Some(device.into());
    }

    /// Notifies no more.
    pub fn detach(&self) {
        *self.device.lock() = None;
    }

    /// Has requests give way, those that come and one that is under way: the device is on its way out. A request may
    /// wait for memory that does not move for as long as its writer likes, and whoever unbinds a device waits
    /// for its writers.
    ///
    /// [`Memory::hurry_no_more`] has to follow.
    pub fn hurry(&self) {
        self.hurried.add(1, Relaxed);
        let patience = hotplug::seconds(GIVES_WAY);
        let mut plugged = self.plugged.lock();
        // Whoever waits for the turn looks again.
        self.turn.notify_all();
        // One that gets on is done soon, and the sooner the less it is disturbed.
        let mut seen = self.ledger.progress();
        while plugged.is_none() {
            match self.turn.wait_interruptible_timeout(&mut plugged, patience) {
                CondVarTimeoutResult::Woken { .. } => {}
                CondVarTimeoutResult::Signal { .. } => break,
                CondVarTimeoutResult::Timeout => {
                    let now = self.ledger.progress();
                    if now == seen {
                        break;
                    }
                    seen = now;
                }
            }
        }
        drop(plugged);
        if let Some(removal) = &*self.removal.lock() {
            removal.interrupt();
        }
    }

    /// Ends what [`Memory::hurry`] began.
    pub fn hurry_no_more(&self) {
        self.hurried.add(-1, Relaxed);
    }

    fn is_hurried(&self) -> bool {
        self.hurried.load(Relaxed) != 0
    }

    /// Brings the memory up for the first time.
    pub fn come_up(&self, online_type: OnlineType) -> Result {
        self.carry_out(Effort::Request, |run, journal| {
            self.ensure_not_frozen()?;
            let counts = engine::plug(run, journal, online_type)?;
            self.set_last_requested(Some(online_type).filter(|_| counts.online() != 0));
            Ok(())
        })
    }

    /// Does what was asked for through one of the attributes.
    ///
    /// # Errors
    ///
    /// `EPERM`: the policy forbids it. `EBUSY`: memory is online in another way, or in use. `EINTR`:
    /// a signal came. `EIO`: blocks did not come online. `ENODEV`: the device is on its way out. In
    /// each case the memory is what it was before, or the log says that it could not be.
    pub fn request(&self, request: Request) -> Result {
        let policy = self.policy.map(|policy| policy.online_type);
        self.carry_out(Effort::Request, |run, journal| {
            if request != Request::Unplug {
                self.ensure_not_frozen()?;
            }
            let outcome = engine::perform(run, journal, request, self.last_requested(), policy)?;
            self.set_last_requested(outcome.last_requested);
            Ok(())
        })
    }

    /// To be asked in turn: whoever evicts the memory freezes it first.
    fn ensure_not_frozen(&self) -> Result<(), Stop> {
        if self.frozen.load(Relaxed) {
            Err(Stop::Frozen)
        } else {
            Ok(())
        }
    }

    /// Tries once more to take away memory that was left behind.
    pub fn reclaim(&self) -> Result {
        // Whoever asks has something else to do with the memory, and can ask again.
        self.unplug(ASKED_AGAIN)
    }

    fn unplug(&self, patience: c_uint) -> Result {
        self.carry_out(Effort::Within(patience), |run, journal| {
            engine::unplug(run, journal)?;
            self.set_last_requested(None);
            Ok(())
        })
    }

    /// Takes all memory away, and lets none come back.
    pub fn evict(&self) -> Result {
        self.frozen.store(true, Relaxed);
        self.hurry();
        let result = self.unplug(hotplug::PATIENCE);
        self.hurry_no_more();
        result
    }

    /// Takes all memory away, and lets none come back if that works. Otherwise it is as it was.
    pub fn take_away(&self) -> Result {
        // Whoever asks for memory meanwhile is told that the device is on its way out, as it is.
        let before = self.frozen.xchg(true, Relaxed);
        // While memory goes offline, none comes anywhere in the system. Whoever asks asks again.
        let result = self.unplug(ASKED_AGAIN);
        if result.is_err() && !before {
            self.frozen.store(false, Relaxed);
        }
        result
    }

    /// The contents of `lost` are lost. Takes away each block that can go, for good; where others have to stay,
    /// their users are told that what they use in `lost` is lost.
    ///
    /// # Errors
    ///
    /// `EBUSY`: some blocks stay. `ENOMEM`.
    pub fn give_up(&self, lost: &Range<u64>) -> Result {
        self.frozen.store(true, Relaxed);
        let mut pages: u32 = 0;
        self.carry_out(Effort::Within(LOST), |run, journal| {
            engine::salvage(run, journal);
            for block in self.ledger.ranges().iter().flat_map(|blocks| blocks.iter()) {
                let range = physical(Blocks::single(block));
                // Others of its pages are as good as ever.
                let lost = range.start.max(lost.start)..range.end.min(lost.end);
                if !lost.is_empty() && run.block_state(block).is_present() {
                    pages = pages.saturating_add(self.poison(block, &lost));
                }
            }
            Ok(())
        })?;
        if self.is_absent() {
            return Ok(());
        }
        if pages != 0 {
            pr_emerg!(
                "{}: memory in [{:#x}-{:#x}] was lost while it was in use: {} pages are poisoned, and stay with their blocks until the next boot ({})\n",
                self.label(),
                lost.start,
                lost.end.saturating_sub(1),
                pages,
                Text(self.counts())
            );
        }
        Err(EBUSY)
    }

    /// Poisons what is in use of `lost`, which is within `block`: that stays from now on. To be called in turn.
    /// Returns how many pages that are which were not poisoned before.
    fn poison(&self, block: u64, lost: &Range<u64>) -> u32 {
        let stays = self.poisoned_in(core::iter::once(Blocks::single(block)));
        // Nobody would know that it has to stay.
        if stays.is_none() && self.poisoned.lock().push(block, GFP_KERNEL).is_err() {
            return 0;
        }
        let pages = hotplug::poison_used(lost);
        if pages == 0 && stays.is_none() {
            self.poisoned.lock().retain(|other| *other != block);
        }
        pages
    }

    /// The first block of `pieces` that has to stay.
    fn poisoned_in(&self, pieces: impl Iterator<Item = Blocks> + Clone) -> Option<u64> {
        let poisoned = self.poisoned.lock();
        let mut poisoned = poisoned.iter().copied();
        poisoned.find(|block| pieces.clone().any(|piece| piece.contains(*block)))
    }

    /// Takes leave of a device that is being unbound.
    ///
    /// Memory under a policy is taken away. Memory of the stock drivers is left online if it is:
    /// their users count on it, and it stays manageable block by block.
    pub fn leave(&self) -> Result {
        let keep = match self.policy {
            None => self.counts().online() != 0,
            // Whoever evicts the memory waits for what cannot be moved: once is enough.
            Some(_) if self.frozen.load(Relaxed) => {
                let _ = self.carry_out(Effort::Within(hotplug::PATIENCE), |_, _| Ok(()));
                !self.is_absent()
            }
            Some(_) => false,
        };
        if keep {
            Err(EBUSY)
        } else {
            self.unplug(hotplug::PATIENCE)
        }
    }

    /// Takes note that `range` is about to go online in `zone`.
    ///
    /// # Errors
    ///
    /// `EPERM`: the policy forbids the zone.
    pub fn going_online(&self, range: &Range<u64>, zone: ZoneKind) -> Result {
        let policy = self.policy.map(|policy| policy.online_type);
        if !ZoneRule::from_policy(policy).admits(self.ledger.online(), zone) {
            pr_warn!(
                "{}: [{:#x}-{:#x}] refused: {} is against the region's policy {}\n",
                self.label(),
                range.start,
                range.end.saturating_sub(1),
                Text(OnlineType::in_zone(zone)),
                Text(Configured(policy))
            );
            return Err(EPERM);
        }
        Ok(())
    }

    /// Takes note that the block in `range` went online, or offline (`None`), whoever did it.
    pub fn block_changed(&self, range: &Range<u64>, zone: Option<ZoneKind>) {
        let state = zone.map_or(BlockState::Offline, BlockState::Online);
        let looking = self.looking.lock();
        // Memory goes online and offline block by block.
        if let Some(block) = range.start.checked_div(hotplug::block_size()) {
            self.ledger.note(block, state);
        }
        drop(looking);
        if !self.in_transition.load(Relaxed) {
            self.notify();
        }
    }

    /// How many pages somebody uses of what is online in `ranges`.
    fn used_pages(&self, ranges: &[Range<u64>]) -> u64 {
        let mut sum: u64 = 0;
        for block in self.ledger.ranges().iter().flat_map(|blocks| blocks.iter()) {
            let own = physical(Blocks::single(block));
            if !ranges
                .iter()
                .any(|range| range.start <= own.start && own.end <= range.end)
            {
                continue;
            }
            let looking = self.looking.lock();
            if self.ledger.is_online(block) {
                sum = sum.saturating_add(hotplug::used_pages(&own));
            }
            drop(looking);
        }
        sum
    }

    /// Whether a block of this memory lies in `range`.
    pub fn holds(&self, range: &Range<u64>) -> bool {
        self.ledger.overlaps(range)
    }

    /// Waits for the turn to run a transition.
    ///
    /// # Errors
    ///
    /// `EINTR`: a signal came first. Memory may take long to move, and so may the turn. `ENODEV`: requests have to
    /// give way. `ETIMEDOUT`: nobody could send a signal, and whoever has the turn gets nowhere.
    fn take_turn(&self, effort: Effort) -> Result<Plugged> {
        let mut plugged = self.plugged.lock();
        let mut seen = self.ledger.progress();
        loop {
            if effort == Effort::Request && self.is_hurried() {
                return Err(ENODEV);
            }
            if let Some(plugged) = plugged.take() {
                return Ok(plugged);
            }
            if hotplug::signals_reach_current() {
                if self.turn.wait_interruptible(&mut plugged) {
                    return Err(EINTR);
                }
                continue;
            }
            let patience = hotplug::seconds(hotplug::PATIENCE);
            let waited = self.turn.wait_interruptible_timeout(&mut plugged, patience);
            let now = self.ledger.progress();
            if matches!(waited, CondVarTimeoutResult::Timeout) && now == seen {
                return Err(ETIMEDOUT);
            }
            seen = now;
        }
    }

    /// Runs a transition, and settles what it leaves.
    fn carry_out<F>(&self, effort: Effort, transition: F) -> Result
    where
        F: FnOnce(&mut Run<'_>, Journal<'_>) -> Result<(), Stop>,
    {
        let entries = Journal::entries_for(self.ledger.ranges());
        let mut storage = KVVec::from_elem(Entry::UNUSED, entries, GFP_KERNEL)?;
        let mut plugged = ScopeGuard::new_with_data(self.take_turn(effort)?, |plugged| {
            *self.plugged.lock() = Some(plugged);
            self.turn.notify_all();
        });
        let mut run = Run {
            memory: self,
            plugged: &mut plugged,
            effort,
        };
        let journal = Journal::read(&run, &mut storage).ok_or(EINVAL)?;

        self.in_transition.store(true, Relaxed);
        let result = transition(&mut run, journal);
        self.in_transition.store(false, Relaxed);
        if self.is_absent() {
            plugged.release();
        }
        self.notify();

        result.map_err(|stop| self.told(&stop))
    }

    /// Tells the log why a transition did not happen, and the writer by an errno.
    fn told(&self, stop: &Stop) -> Error {
        let errno = match stop {
            Stop::Frozen => return ENODEV,
            Stop::Refused(refusal) => {
                pr_info!("{}: {}\n", self.label(), Text(refusal));
                refusal.errno()
            }
            Stop::Failed(failure) => {
                pr_err!("{}: {}\n", self.label(), Text(failure));
                failure
                    .cause
                    .errno(|reason| reason.error.to_errno().saturating_neg())
            }
        };
        Error::from_errno(errno.saturating_neg())
    }

    fn notify(&self) {
        let device = self.device.lock().as_ref().cloned();
        if let Some(device) = device {
            notify_attribute(&device, c"state");
            notify_attribute(&device, c"hotplug");
        }
    }

    fn last_requested(&self) -> Option<OnlineType> {
        let number = self.last_requested.load(Relaxed).checked_sub(1)?;
        OnlineType::from_mmop(u8::try_from(number).ok()?)
    }

    fn set_last_requested(&self, online_type: Option<OnlineType>) {
        let number = online_type.map_or(0, |online_type| {
            u32::from(online_type.mmop()).saturating_add(1)
        });
        self.last_requested.store(number, Relaxed);
    }
}

impl Plugged {
    /// Holds what must be held while memory of range `index` is added.
    fn reserve(&mut self, index: usize, blocks: Blocks) -> Result {
        if self.reserved.contains(&index) {
            return Ok(());
        }
        if self._module.is_none() {
            self._module = Some(ModuleRef::new(this_module::<crate::LocalModule>())?);
        }
        self.reserved.reserve(1, GFP_KERNEL)?;
        self.reservations.reserve(&physical(blocks))?;
        self.reserved.push(index, GFP_KERNEL)?;
        Ok(())
    }

    /// Gives everything back: no memory is added any more.
    fn release(&mut self) {
        self.reservations.release();
        self.reserved.clear();
        self._module = None;
    }
}

/// A transition under way, as the engine sees it.
struct Run<'a> {
    memory: &'a Memory,
    plugged: &'a mut Plugged,
    effort: Effort,
}

impl Machine for Run<'_> {
    type Error = Reason;

    fn ranges(&self) -> &[Blocks] {
        self.memory.ledger.ranges()
    }

    /// Looks at the memory itself: nobody else removes it meanwhile.
    fn block_state(&self, block: u64) -> BlockState {
        match hotplug::block_truth(block.saturating_mul(hotplug::block_size())) {
            BlockTruth::Absent => BlockState::Absent,
            BlockTruth::Offline => BlockState::Offline,
            BlockTruth::Kernel => BlockState::Online(ZoneKind::Kernel),
            BlockTruth::Movable => BlockState::Online(ZoneKind::Movable),
        }
    }

    fn add(&mut self, piece: Blocks, online_type: OnlineType) -> Result<(), Reason> {
        let (index, blocks) = self
            .memory
            .ledger
            .ranges()
            .iter()
            .copied()
            .enumerate()
            .find(|(_, blocks)| blocks.covers(piece))
            .ok_or(Reason::from(EINVAL))?;
        self.plugged.reserve(index, blocks)?;
        // Noted before the blocks are there: they may be online when this returns.
        self.note(piece, BlockState::Offline);
        self.memory
            .group
            .add(
                &physical(piece),
                self.memory.memmap_on_memory,
                online_type.mmop(),
            )
            .map_err(|error| {
                self.note(piece, BlockState::Absent);
                Reason::from(error)
            })
    }

    fn offline_and_remove(
        &mut self,
        pieces: impl Iterator<Item = Blocks> + Clone,
        purpose: Purpose,
    ) -> Result<(), Reason> {
        if let Some(block) = self.memory.poisoned_in(pieces.clone()) {
            return Err(Reason {
                error: EHWPOISON,
                block: Some(block),
            });
        }
        let mut ranges = KVec::new();
        for piece in pieces.clone() {
            ranges
                .push(physical(piece), GFP_KERNEL)
                .map_err(Error::from)?;
        }
        self.memory.ledger.take_last_offline();
        match self.take_away(&ranges, purpose) {
            Ok(()) => {
                pieces.for_each(|piece| self.note(piece, BlockState::Absent));
                Ok(())
            }
            Err(error) => Err(Reason {
                error,
                block: self.stopped_at(pieces),
            }),
        }
    }
}

impl Run<'_> {
    /// Takes what is in `ranges` away, in a thread of its own: whoever wants a request to give way, or waits for
    /// memory that does not move, ends that thread's work and nothing else.
    fn take_away(&self, ranges: &[Range<u64>], purpose: Purpose) -> Result {
        let memory = self.memory;
        let is_request = purpose == Purpose::Transition && self.effort == Effort::Request;
        let patience = match self.effort {
            Effort::Within(seconds) => Some(seconds),
            Effort::Request if is_request && hotplug::signals_reach_current() => None,
            Effort::Request => Some(hotplug::PATIENCE),
        };
        let limits = Limits {
            patience,
            signals: purpose == Purpose::Transition,
        };
        let removal = Removal::begin(ranges)?;
        if is_request {
            *memory.removal.lock() = Some(removal.clone());
            // Whoever came before that did not find it.
            if memory.is_hurried() {
                removal.interrupt();
            }
        }
        // A block that is full takes a while: its pages go one by one. Those of blocks whose turn has not come go
        // and come: only fewer than ever before are progress, or it might never end.
        let fewest = Cell::new(u64::MAX);
        let progress = || {
            fewest.set(fewest.get().min(memory.used_pages(ranges)));
            (memory.ledger.progress(), fewest.get())
        };
        let result = removal.wait(limits, progress);
        let finished = memory.removal.lock().take();
        drop(finished);
        if is_request && memory.is_hurried() && result == Err(EINTR) {
            return Err(ENODEV);
        }
        result
    }

    fn note(&self, piece: Blocks, state: BlockState) {
        for block in piece.iter() {
            self.memory.ledger.note(block, state);
        }
    }

    /// The block of `pieces` at which the kernel stopped to take them offline in this order.
    ///
    /// It does not tell. But those before went offline, and what it then brought back is online
    /// again; of those after the last of them, the first that is online is the one.
    fn stopped_at(&self, pieces: impl Iterator<Item = Blocks>) -> Option<u64> {
        let last = self.memory.ledger.take_last_offline();
        let mut reached = last.is_none();
        for piece in pieces {
            for block in piece.iter() {
                if reached && self.block_state(block).is_online() {
                    return Some(block);
                }
                reached |= last == Some(block);
            }
        }
        None
    }
}

/// Why a transition did not happen.
enum Stop {
    /// The device is on its way out.
    Frozen,
    /// It was not begun.
    Refused(Refusal),
    /// It failed.
    Failed(Failure<Reason>),
}

impl From<Failure<Reason>> for Stop {
    fn from(failure: Failure<Reason>) -> Self {
        Self::Failed(failure)
    }
}

impl From<engine::Error<Reason>> for Stop {
    fn from(error: engine::Error<Reason>) -> Self {
        match error {
            engine::Error::Refused(refusal) => Self::Refused(refusal),
            engine::Error::Failed(failure) => Self::Failed(failure),
        }
    }
}

/// Why the kernel refused.
#[derive(Clone, Copy)]
struct Reason {
    error: Error,
    /// The block in question, where only one is.
    block: Option<u64>,
}

impl From<Error> for Reason {
    fn from(error: Error) -> Self {
        Self { error, block: None }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)?;
        match self.block {
            Some(block) => write!(f, " at {}", Physical(Blocks::single(block))),
            None => Ok(()),
        }
    }
}

/// How the log names a device's memory.
pub struct Label<'a>(&'a Memory);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(policy) = self.0.policy {
            write!(f, "region{}: ", policy.region)?;
        }
        f.write_str(self.0.name.to_str().unwrap_or("?"))
    }
}

/// How the log names memory blocks: by physical address too.
struct Physical(Blocks);

impl fmt::Display for Physical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = physical(self.0);
        write!(
            f,
            "{} [{:#x}-{:#x}]",
            self.0,
            range.start,
            range.end.saturating_sub(1)
        )
    }
}
