// SPDX-License-Identifier: GPL-2.0-only

//! The DAX devices of a region, as long as applications may map them.
//!
//! Their decoders are locked meanwhile, and the memory devices kept from resets. The CXL core resets decoders
//! *before* it unbinds the region when a memdev or a port loses its driver: what is mapped by then reads
//! garbage and loses what is written. So mappings end earlier, when [`unbinding`] is told.

use crate::{
    abstractions::{
        cxl::{
            notifier::DeviceKey,
            region::{
                DecoderLock,
                Region, //
            },
        },
        dax_device::{
            self,
            Closed,
            DaxDriver, //
        },
        dax_region,
        global::Lifetime,
    },
    global_mutex,
    suspects,
    watch::{
        self,
        Anchor,
        Keeper, //
    }, //
};
use kernel::{
    device::Device,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
};
use region_policy::{
    dax_mode::DaxMode,
    handover::{
        self,
        Devices, //
    },
};

/// The DAX devices below a bound `dax_regionN`.
#[pin_data]
pub struct Mappable {
    owner: ARef<Device>,
    /// Whose unbinding takes the decoders down.
    dependencies: KVec<DeviceKey>,
    /// `None` once nothing may be mapped any more. Its lock is held while devices change their driver.
    #[pin]
    decoders: Mutex<Option<Locks>>,
    /// The mode whose driver gets devices.
    #[pin]
    mode: Mutex<DaxMode>,
}

/// What keeps the memory where it is.
struct Locks {
    _own: DecoderLock,
    _anchor: Anchor,
}

global_mutex! {
    /// All that there are.
    static MAPPABLE(mappable_lock): KVec<Arc<Mappable>> = KVec::new();
}

/// From the module's init to its exit. A bound region keeps the module loaded: there is none at the end.
pub fn lifetime() -> Lifetime {
    MAPPABLE.begin()
}

impl Mappable {
    /// Locks the decoders of `region` for the DAX devices that `owner` will have, with the driver of `mode`.
    ///
    /// # Errors
    ///
    /// `ENXIO`: somebody is just taking the decoders down, or they are not programmed, or those before them on a
    /// device are not. `EINTR`: a signal came meanwhile. `ENOMEM`.
    pub fn begin(region: &Region, owner: &Device, mode: DaxMode) -> Result<Arc<Self>> {
        let dependencies = region.dependencies()?;
        let lock = Locks {
            _anchor: Anchor::new(region)?,
            _own: suspects::lock(region)?,
        };
        let mappable = Arc::pin_init(
            pin_init!(Self {
                owner: owner.into(),
                dependencies,
                decoders <- new_mutex!(Some(lock)),
                mode <- new_mutex!(mode),
            }),
            GFP_KERNEL,
        )?;
        MAPPABLE.lock()?.push(mappable.clone(), GFP_KERNEL)?;
        if let Err(error) = watch::ensure_kept(region, &mappable.dependencies) {
            mappable.end();
            return Err(error);
        }
        Ok(mappable)
    }

    /// Ends all mappings, and unlocks the decoders.
    pub fn end(self: &Arc<Self>) {
        self.release();
        if let Ok(mut list) = MAPPABLE.lock() {
            list.retain(|other| !Arc::ptr_eq(other, self));
        }
    }

    /// Takes the devices from their drivers, which ends all mappings, for good.
    fn release(&self) {
        let mut decoders = self.decoders.lock();
        // The owner is in the system as long as the decoders are locked.
        if decoders.is_some() {
            dax_region::make_no_more(&self.owner);
            dax_device::release_all(&self.owner, None);
        }
        *decoders = None;
    }

    /// Does `add`, which makes devices and gives them to the driver of the mode that it is told, unless nothing
    /// may be mapped any more.
    ///
    /// # Errors
    ///
    /// `ENODEV`: the region is on its way out. Those of `add`.
    pub fn add<R>(&self, add: impl FnOnce(DaxMode) -> Result<R>) -> Result<R> {
        // Who ends mappings waits, and finds the devices.
        let decoders = self.decoders.lock();
        if decoders.is_none() {
            return Err(ENODEV);
        }
        let mode = *self.mode.lock();
        add(mode)
    }

    /// Does `remove`, which takes devices from their driver; nobody gives them to one meanwhile.
    pub fn remove(&self, remove: impl FnOnce() -> Result) -> Result {
        let decoders = self.decoders.lock();
        let result = remove();
        drop(decoders);
        result
    }

    /// Gives every device that has memory to the driver of `mode`, or leaves all where they are; `then`
    /// is called before anybody else may do so.
    ///
    /// # Errors
    ///
    /// `ENODEV`: there is no such driver, or the region is on its way out. `EBUSY`: a device is in use.
    pub fn switch(&self, mode: DaxMode, then: impl FnOnce()) -> Result {
        let decoders = self.decoders.lock();
        if decoders.is_none() {
            return Err(ENODEV);
        }
        let mut switch = Switch::new(&self.owner, mode)?;
        let count = switch.moves.len();
        if let Err(failure) = handover::hand_over(&mut switch, count) {
            dev_err!(
                self.owner,
                "{} does not take the devices ({:?}): they stay as they were, but for {} without a driver\n",
                mode.driver(),
                failure.error,
                failure.stranded
            );
            return Err(failure.error);
        }
        *self.mode.lock() = mode;
        then();
        Ok(())
    }
}

impl Keeper for Mappable {
    fn dependencies(&self) -> &[DeviceKey] {
        &self.dependencies
    }

    fn let_go(&self) {
        self.release();
    }
}

/// A change of drivers.
struct Switch {
    moves: KVec<Move>,
}

/// One device on its way.
struct Move {
    device: Closed,
    from: Option<DaxDriver>,
    to: DaxDriver,
}

impl Switch {
    /// The devices of `owner` that have memory and are not with the driver of `mode`.
    fn new(owner: &Device, mode: DaxMode) -> Result<Self> {
        let mut moves = KVec::new();
        for device in dax_device::of_region(owner)? {
            if device.is_empty() {
                continue;
            }
            let to = device.load_driver(mode.driver())?;
            let from = device.driver();
            if from.as_ref() == Some(&to) {
                continue;
            }
            let Some(device) = device.close() else {
                dev_err!(
                    (*device).as_ref(),
                    "in use: close it and end its mappings, or unmount its file system, first\n"
                );
                return Err(EBUSY);
            };
            moves.push(Move { device, from, to }, GFP_KERNEL)?;
        }
        Ok(Self { moves })
    }

    fn at(&self, index: usize) -> Result<&Move> {
        self.moves.get(index).ok_or(EINVAL)
    }
}

impl Devices for Switch {
    type Error = Error;

    fn hand_over(&mut self, device: usize) -> Result {
        let Move { device, to, .. } = self.at(device)?;
        device.give_to(to)
    }

    fn put_back(&mut self, device: usize) -> Result {
        let Move { device, from, .. } = self.at(device)?;
        match from {
            Some(from) => device.give_to(from),
            None => {
                device.release();
                Ok(())
            }
        }
    }
}

/// Ends the mappings of the regions whose decoders go down with `device`, while those still work.
pub fn unbinding(device: DeviceKey) {
    watch::let_go(&MAPPABLE, device);
}
