// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Carries out a transition on a whole device: entirely or not at all, counted and not assumed.
//!
//! The kernel's part is behind [`Machine`]. It leaves two gaps that are closed here: adding memory
//! succeeds even if blocks of it then fail to come online, so every piece is looked at after it was
//! added; and an offline that fails may fail to bring blocks back, so what is missing is restored.
//!
//! # Other agents
//! Anyone may write to `memoryN/state` at any time. A block counts as done when it was seen as it
//! should be after its piece was added. What others do to it *after* that, within the zone rule, is
//! their request and not a failure of this one: it is not undone, and [`Outcome::counts`] tells of it.
//! What they do *before* cannot be told from a failure of the kernel, and is treated as one: the
//! transition fails and is rolled back. Nobody but the device's driver adds or removes its blocks.

use core::fmt;

use crate::blocks::{BlockState, Blocks};
use crate::census::BlockCounts;
use crate::errno;
use crate::journal::{Entry, Journal};
use crate::online_type::OnlineType;
use crate::request::Request;
use crate::transition::{decide, Refusal, Transition};
use crate::zone::ZoneKind;

/// What the engine needs from the kernel for one device.
pub trait Machine {
    /// Why the kernel refused.
    type Error: Copy;

    /// The device's ranges as memory blocks. They do not overlap; their order is free.
    fn ranges(&self) -> &[Blocks];

    /// What a block of the device is, read now.
    fn block_state(&self, block: u64) -> BlockState;

    /// Adds absent blocks, which lie in one range, and brings them up in ascending order.
    ///
    /// Neighbours that were added one by one may be removed as one piece, and the other way round, so
    /// their resources have to be merged (`MHP_MERGE_RESOURCE`): the kernel releases a resource only
    /// for a piece that is within it, and silently leaks those that a piece goes beyond.
    ///
    /// # Errors
    /// If nothing was added. Success means that all were added, not that all are online.
    fn add(&mut self, piece: Blocks, online_type: OnlineType) -> Result<(), Self::Error>;

    /// Takes present blocks offline, piece by piece in the order given and ascending within each,
    /// then removes all of them. There is at least one piece, and each lies in one range.
    ///
    /// # Errors
    /// If nothing was removed. Blocks that were taken offline are online again, as far as the kernel
    /// managed that.
    fn offline_and_remove(
        &mut self,
        pieces: impl Iterator<Item = Blocks> + Clone,
        purpose: Purpose,
    ) -> Result<(), Self::Error>;
}

/// What memory is taken away for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It was asked for: a signal may interrupt it.
    Transition,
    /// It undoes what a failed transition did. The kernel gives up an offline as soon as the caller
    /// has a signal pending, so this has to run where the caller's signals do not reach.
    Rollback,
}

/// A fulfilled request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// What was done.
    pub transition: Transition,
    /// What the blocks are afterwards; other agents may have been at work in the meantime.
    pub counts: BlockCounts,
    /// To be kept for the next request: what this one asked for, unless it was to unplug.
    pub last_requested: Option<OnlineType>,
}

/// Why a request was not fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// It was refused before anything was done.
    Refused(Refusal),
    /// It was begun and failed.
    Failed(Failure<E>),
}

/// A transition that failed, and what became of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<E> {
    /// What was being done.
    pub step: Step,
    /// What went wrong.
    pub cause: Cause<E>,
    /// Where this leaves the device.
    pub rollback: Rollback,
}

/// A step of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Removing the blocks that are offline, to add them again as online: there is no other way to
    /// bring a block up that a module may use.
    Clear,
    /// Adding these blocks and bringing them online.
    Add(Blocks),
    /// Taking the device offline and removing it.
    Unplug,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause<E> {
    /// The kernel said so.
    Kernel(E),
    /// The kernel reported success, but the first of the blocks that are not as asked for is this.
    NotAsAsked {
        /// The block.
        block: u64,
        /// What it is instead.
        found: BlockState,
    },
}

impl<E> Cause<E> {
    /// The error number for the writer; `of_kernel` tells that of the kernel's own error.
    pub fn errno(self, of_kernel: impl FnOnce(E) -> i32) -> i32 {
        match self {
            Self::Kernel(error) => of_kernel(error),
            Self::NotAsAsked { .. } => errno::EIO,
        }
    }
}

/// Where a failed transition leaves the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rollback {
    /// All that the transition changed is again what it was.
    RolledBack,
    /// Something could not be brought back; this is what the blocks are.
    Stuck(BlockCounts),
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step {
            Step::Clear => f.write_str("removing offline blocks to bring them online")?,
            Step::Add(blocks) => write!(f, "bringing {blocks} online")?,
            Step::Unplug => f.write_str("unplugging")?,
        }
        match &self.cause {
            Cause::Kernel(error) => write!(f, " failed: {error}")?,
            Cause::NotAsAsked { block, found } => write!(f, " failed: memory{block} is {found}")?,
        }
        match self.rollback {
            Rollback::RolledBack => f.write_str("; rolled back"),
            Rollback::Stuck(counts) => write!(
                f,
                "; the rollback failed too, which leaves {counts}; free the memory and unplug"
            ),
        }
    }
}

/// Decides what a request means for the device as the journal found it, and does it.
///
/// `last_requested` is that of the last [`Outcome`], and `policy` what the owner of the region chose.
///
/// # Errors
/// See [`decide`], [`plug`] and [`unplug`].
pub fn perform<M: Machine>(
    machine: &mut M,
    journal: Journal<'_>,
    request: Request,
    last_requested: Option<OnlineType>,
    policy: Option<OnlineType>,
) -> Result<Outcome, Error<M::Error>> {
    let found = journal.counts();
    let transition = decide(found, last_requested, request, policy).map_err(Error::Refused)?;
    let counts = match transition {
        Transition::Nothing => Ok(found),
        Transition::Plug(online_type) => plug(machine, journal, online_type),
        Transition::Unplug => unplug(machine, journal),
    }
    .map_err(Error::Failed)?;
    let last_requested = match (transition, request) {
        (Transition::Nothing, _) => last_requested,
        (_, Request::Online(target)) => Some(target.into()),
        (_, Request::Unplug) => None,
    };
    Ok(Outcome {
        transition,
        counts,
        last_requested,
    })
}

/// Brings every block that is absent or offline up with `online_type`, and leaves those that are
/// online alone. With [`OnlineType::Offline`] it adds what is absent and leaves the rest alone.
///
/// With [`OnlineType::Online`] the kernel chooses the zone of the first block, and all others follow.
/// Returns what the blocks are afterwards.
///
/// # Errors
/// If a step failed or a block did not come up as asked for. All that was done is undone, as
/// [`Failure::rollback`] tells.
pub fn plug<M: Machine>(
    machine: &mut M,
    mut journal: Journal<'_>,
    online_type: OnlineType,
) -> Result<BlockCounts, Failure<M::Error>> {
    let replaced =
        |entry: &Entry| entry.before == BlockState::Offline && online_type != OnlineType::Offline;
    let missing = |entry: &Entry| entry.before == BlockState::Absent || replaced(entry);

    if let Err(cause) = remove(machine, &mut journal, replaced, Purpose::Transition) {
        // Blocks that are still there are not ours to touch: nothing was done to them yet.
        let touched = |_: &Entry| false;
        return Err(Failure {
            step: Step::Clear,
            cause,
            rollback: restore(machine, &mut journal, touched),
        });
    }
    if let Err((piece, cause)) = add_all(machine, journal.addition(missing), online_type) {
        let added = |entry: &Entry| match entry.before {
            BlockState::Absent => entry.now.is_present(),
            BlockState::Offline => replaced(entry) && entry.now.is_online(),
            BlockState::Online(_) => false,
        };
        return Err(Failure {
            step: Step::Add(piece),
            cause,
            rollback: restore(machine, &mut journal, added),
        });
    }
    journal.refresh(machine);
    Ok(journal.counts())
}

/// Takes every block offline and removes it. Returns what the blocks are afterwards: all absent.
///
/// # Errors
/// If the kernel refused, for memory in use or for a signal, or did not do what it reported. Blocks
/// that were online and are not any more are brought back, as [`Failure::rollback`] tells.
pub fn unplug<M: Machine>(
    machine: &mut M,
    mut journal: Journal<'_>,
) -> Result<BlockCounts, Failure<M::Error>> {
    let present = |entry: &Entry| entry.before.is_present();
    let Err(cause) = remove(machine, &mut journal, present, Purpose::Transition) else {
        return Ok(journal.counts());
    };
    // A block that somebody else took offline just now looks the same as one that the kernel failed
    // to bring back. Bringing it back as well is the safe mistake: it is what was there before.
    let lost = |entry: &Entry| entry.before.is_online() && entry.now == BlockState::Offline;
    Err(Failure {
        step: Step::Unplug,
        cause,
        rollback: restore(machine, &mut journal, lost),
    })
}

/// Takes away each block that can go, whatever becomes of the others: half of memory whose contents are lost is
/// better gone than none. Returns what the blocks are afterwards.
pub fn salvage<M: Machine>(machine: &mut M, mut journal: Journal<'_>) -> BlockCounts {
    for block in journal.present() {
        // What stays is counted below.
        let single = core::iter::once(Blocks::single(block));
        let _ = machine.offline_and_remove(single, Purpose::Rollback);
    }
    journal.refresh(machine);
    journal.counts()
}

/// Makes the device again what it was: removes the blocks that are out of place, then adds what is
/// gone as it was before.
fn restore<M: Machine>(
    machine: &mut M,
    journal: &mut Journal<'_>,
    out_of_place: impl Fn(&Entry) -> bool + Copy,
) -> Rollback {
    journal.refresh(machine);
    let mut restored = remove(machine, journal, out_of_place, Purpose::Rollback).is_ok();
    for online_type in [
        OnlineType::Offline,
        OnlineType::OnlineKernel,
        OnlineType::OnlineMovable,
    ] {
        let gone = |entry: &Entry| {
            entry.now == BlockState::Absent && entry.before.online_type() == Some(online_type)
        };
        for piece in journal.addition(gone) {
            // What fails here stays as it is; the others still go back to what they were.
            restored &= add(machine, piece, online_type).is_ok();
        }
    }
    if restored {
        Rollback::RolledBack
    } else {
        journal.refresh(machine);
        Rollback::Stuck(journal.counts())
    }
}

/// Removes the wanted blocks, if there are any, and looks whether they are gone.
fn remove<M: Machine>(
    machine: &mut M,
    journal: &mut Journal<'_>,
    wanted: impl Fn(&Entry) -> bool + Copy,
    purpose: Purpose,
) -> Result<(), Cause<M::Error>> {
    if journal.find(wanted).is_none() {
        return Ok(());
    }
    let removed = machine.offline_and_remove(journal.removal(wanted), purpose);
    journal.refresh(machine);
    removed.map_err(Cause::Kernel)?;
    match journal.find(|entry| wanted(entry) && entry.now.is_present()) {
        None => Ok(()),
        Some(entry) => Err(Cause::NotAsAsked {
            block: entry.block,
            found: entry.now,
        }),
    }
}

/// Adds the pieces in order, up to the first that fails. Once the kernel has chosen a zone, the rest
/// is told to go there.
fn add_all<M: Machine>(
    machine: &mut M,
    pieces: impl Iterator<Item = Blocks>,
    mut online_type: OnlineType,
) -> Result<(), (Blocks, Cause<M::Error>)> {
    for piece in pieces {
        online_type = add(machine, piece, online_type).map_err(|cause| (piece, cause))?;
    }
    Ok(())
}

/// Adds a piece and looks at every block of it. Returns the online type for what follows: if the
/// zone was left to the kernel, that of the zone in which the first block is.
fn add<M: Machine>(
    machine: &mut M,
    piece: Blocks,
    mut online_type: OnlineType,
) -> Result<OnlineType, Cause<M::Error>> {
    machine.add(piece, online_type).map_err(Cause::Kernel)?;
    for block in piece.iter() {
        let found = machine.block_state(block);
        if let (OnlineType::Online, BlockState::Online(zone)) = (online_type, found) {
            online_type = OnlineType::in_zone(zone);
        }
        let as_asked = match online_type {
            OnlineType::Offline => found.is_present(),
            OnlineType::Online => false,
            OnlineType::OnlineKernel => found == BlockState::Online(ZoneKind::Kernel),
            OnlineType::OnlineMovable => found == BlockState::Online(ZoneKind::Movable),
        };
        if !as_asked {
            return Err(Cause::NotAsAsked { block, found });
        }
    }
    Ok(online_type)
}
