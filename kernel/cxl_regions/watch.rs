// SPDX-License-Identifier: GPL-2.0-only

//! What happens on the CXL bus that regions of ours have to know of.

use crate::{
    abstractions::{
        cxl::{
            notifier::{
                DeviceKey,
                Listener, //
            },
            region::{
                DecoderLock,
                Region, //
            },
            reset::ResetBan,
            root_decoder::RootDecoder, //
        },
        global::{
            GlobalMutex,
            Lifetime, //
        },
    },
    create_dc_region,
    global_mutex,
    holds,
    mappable,
    suspects, //
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        GlobalLockBackend, //
    },
};

global_mutex! {
    /// What is losing its driver at this moment.
    static UNBINDING(unbinding_lock): KVec<DeviceKey> = KVec::new();
}

/// From the module's init to its exit.
pub fn lifetime() -> Lifetime {
    UNBINDING.begin()
}

/// Checks that the decoders of `region`, which depend on `dependencies`, will stay programmed. To be asked
/// once they are locked, by whoever was made known before to be told of an unbinding.
///
/// A reset that began before the lock ends before this tells. One that is to come would be skipped for
/// the lock, and the decoders would stay programmed for nobody.
///
/// # Errors
///
/// `ENXIO`: somebody is just taking the decoders down, or they are not programmed any more. `EINTR`: a signal
/// came meanwhile.
pub fn ensure_kept(region: &Region, dependencies: &[DeviceKey]) -> Result {
    let going = UNBINDING
        .lock()?
        .iter()
        .any(|device| dependencies.contains(device));
    if going || !region.is_committed()? {
        return Err(ENXIO);
    }
    // The core does not notice that a device was reset.
    if region.foreign_decoders().next().is_some() {
        region.distrust();
        dev_err!(
            region.as_ref(),
            "its decoders are not programmed any more, as after a reset: delete this region, and bind its memdevs to cxl_mem again\n"
        );
        return Err(ENXIO);
    }
    Ok(())
}

/// What the addresses of a committed region depend on beyond its own decoders.
pub struct Anchor {
    _preceding: KVec<DecoderLock>,
    _resets: ResetBan,
}

impl Anchor {
    /// Keeps all of it as it is, as long as this lives.
    ///
    /// # Errors
    ///
    /// `ENXIO`: the decoders before those of the region are not programmed. `ENOMEM`.
    pub fn new(region: &Region) -> Result<Self> {
        Ok(Self {
            _preceding: region.lock_preceding()?,
            _resets: region.forbid_resets()?,
        })
    }
}

/// Something that ends in good order before the decoders of a region are taken down.
pub trait Keeper {
    /// Whose unbinding takes the decoders down.
    fn dependencies(&self) -> &[DeviceKey];

    /// Ends it, while the decoders still work.
    fn let_go(&self);
}

/// Has those of `keepers` let go whose decoders go down with `device`.
pub fn let_go<B, K>(keepers: &GlobalMutex<B>, device: DeviceKey)
where
    B: GlobalLockBackend<Item = KVec<Arc<K>>>,
    K: Keeper,
{
    // Letting go takes a while: the list is not locked meanwhile.
    let Ok(affected) = affected(keepers, device) else {
        return;
    };
    for keeper in affected {
        keeper.let_go();
    }
}

fn affected<B, K>(keepers: &GlobalMutex<B>, device: DeviceKey) -> Result<KVec<Arc<K>>>
where
    B: GlobalLockBackend<Item = KVec<Arc<K>>>,
    K: Keeper,
{
    let mut affected = KVec::new();
    for keeper in keepers.lock()?.iter() {
        if keeper.dependencies().contains(&device) {
            affected.push(keeper.clone(), GFP_KERNEL)?;
        }
    }
    Ok(affected)
}

/// Tells those who keep regions.
pub struct Watch;

impl Listener for Watch {
    fn unbinding(device: DeviceKey) {
        // Where there is no room to note it, a decoder may be lost, and no memory.
        if let Ok(mut unbinding) = UNBINDING.lock() {
            let _ = unbinding.push(device, GFP_KERNEL);
        }
        holds::unbinding(device);
        mappable::unbinding(device);
    }

    fn unbound(device: DeviceKey) {
        if let Ok(mut unbinding) = UNBINDING.lock() {
            unbinding.retain(|other| *other != device);
        }
    }

    fn region_added(region: &Region) {
        suspects::added(region);
    }

    fn region_binding(region: &Region) {
        suspects::binding(region);
    }

    fn region_bound(region: &Region) {
        holds::bound(region);
    }

    fn root_decoder_added(root_decoder: &RootDecoder) {
        create_dc_region::added(root_decoder);
    }

    fn root_decoder_leaving(root_decoder: &RootDecoder) {
        create_dc_region::leaving(root_decoder);
    }
}
