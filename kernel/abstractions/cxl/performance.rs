// SPDX-License-Identifier: GPL-2.0-only

//! How fast a region's memory is, told to those who place memory.
//!
//! The CXL core works out latency and bandwidth of a region from its devices and from what the
//! firmware says of the way to them. The kernel wants them at two moments, which both have a chain:
//! when a node gets its first memory, and when somebody asks how far a node is.
//!
//! C headers: [`include/linux/node.h`](srctree/include/linux/node.h),
//! [`include/linux/memory-tiers.h`](srctree/include/linux/memory-tiers.h)

use super::region::Region;
use crate::abstractions::{
    bindings,
    notifier::{
        Chain,
        Next,
        Registration, //
    }, //
};
use kernel::prelude::*;

/// Tells of a region's memory as long as it lives; for a driver to keep while the region is bound.
#[pin_data]
pub struct Performance {
    #[pin]
    _attributes: Registration<NodeAttributes>,
    #[pin]
    _distance: Registration<Distance>,
}

impl Performance {
    /// Tells of the memory of `region`, which must be committed.
    ///
    /// # Errors
    ///
    /// `ENXIO`: the region is not committed.
    pub fn of(region: &Region) -> Result<impl PinInit<Self, Error>> {
        // SAFETY: The function looks up any address.
        let node = unsafe { bindings::phys_to_target_node(region.range()?.start) };
        let coordinates = region.coordinates();
        region.show_coordinates();
        Ok(try_pin_init!(Self {
            _attributes <- Registration::new(NodeAttributes(Memory { node, coordinates })),
            _distance <- Registration::new(Distance(Memory { node, coordinates })),
        }))
    }
}

/// Memory of a node. A copy: it does not change while the region is bound.
struct Memory {
    node: c_int,
    /// By class of initiators.
    coordinates: [bindings::access_coordinate; 2],
}

/// The chain of changes of nodes: a node that gets its first memory learns how fast it is.
struct NodeAttributes(Memory);

// SAFETY: Unregistering takes the chain's lock, under which it calls.
unsafe impl Chain for NodeAttributes {
    /// After the platform's own tables, which it corrects.
    const PRIORITY: c_int = bindings::CXL_CALLBACK_PRI as c_int;

    unsafe fn register(block: *mut bindings::notifier_block) -> c_int {
        // SAFETY: The caller keeps the block.
        unsafe { bindings::register_node_notifier(block) }
    }

    unsafe fn unregister(block: *mut bindings::notifier_block) {
        // SAFETY: The caller registered the block.
        unsafe { bindings::unregister_node_notifier(block) }
    }

    unsafe fn call(&self, action: c_ulong, argument: *mut c_void) -> Result<Next> {
        // SAFETY: The chain hands over a `struct node_notify` that lives through the call.
        let node = unsafe { (*argument.cast::<bindings::node_notify>()).nid };
        if action != bindings::NODE_ADDED_FIRST_MEMORY as c_ulong || node != self.0.node {
            return Ok(Next::Others);
        }
        let Ok(node) = c_uint::try_from(node) else {
            return Ok(Next::Others);
        };
        for (class, coordinate) in (0..).zip(self.0.coordinates) {
            if coordinate.read_bandwidth != 0 {
                let mut coordinate = coordinate;
                // SAFETY: The node has memory, so it is online; the coordinate is only read.
                unsafe { bindings::node_update_perf_attrs(node, &raw mut coordinate, class) };
            }
        }
        Ok(Next::Others)
    }
}

/// The chain of those who know how far a node's memory is: that decides on its memory tier.
struct Distance(Memory);

// SAFETY: Unregistering takes the chain's lock, under which it calls.
unsafe impl Chain for Distance {
    /// As the platform's own tables have it: whoever comes first and knows, answers.
    const PRIORITY: c_int = 100;

    unsafe fn register(block: *mut bindings::notifier_block) -> c_int {
        // SAFETY: The caller keeps the block.
        unsafe { bindings::register_mt_adistance_algorithm(block) }
    }

    unsafe fn unregister(block: *mut bindings::notifier_block) {
        // SAFETY: The caller registered the block. That it is not there is the only error.
        unsafe { bindings::unregister_mt_adistance_algorithm(block) };
    }

    unsafe fn call(&self, node: c_ulong, argument: *mut c_void) -> Result<Next> {
        if c_ulong::try_from(self.0.node) != Ok(node) {
            return Ok(Next::Others);
        }
        let class = bindings::access_coordinate_class_ACCESS_COORDINATE_CPU as usize;
        let Some(mut coordinate) = self.0.coordinates.get(class).copied() else {
            return Ok(Next::Others);
        };
        // SAFETY: The coordinate is only read; the chain hands over the number to set. It stays as it
        // was where the speed of the region, or of the machine's own memory, is not known.
        match unsafe { bindings::mt_perf_to_adistance(&raw mut coordinate, argument.cast()) } {
            0 => Ok(Next::Nobody),
            _ => Ok(Next::Others),
        }
    }
}
