// SPDX-License-Identifier: GPL-2.0-only

//! What happens on the CXL bus that regions of ours have to know of.

use crate::{
    abstractions::cxl::{
        notifier::{
            DeviceKey,
            Listener, //
        },
        region::Region,
    },
    holds,
    mappable, //
};

/// Tells those who keep regions.
pub struct Watch;

impl Listener for Watch {
    fn unbinding(device: DeviceKey) {
        holds::unbinding(device);
        mappable::unbinding(device);
    }

    fn bound(region: &Region) {
        holds::bound(region);
    }
}
