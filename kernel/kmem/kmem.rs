// SPDX-License-Identifier: GPL-2.0-only

//! kmem: the memory of a DAX device becomes system RAM, all of it or none.
//!
//! A drop-in for the C module of the same name:
//!
//! - [`driver`]: binds to DAX devices; the attributes `state` and `hotplug`.
//! - [`memory`]: the memory of one device, and its transitions.
//! - [`ledger`]: what each of its blocks is.
//! - [`registry`]: all memory that this module knows, and the zone guard over it.
//! - [`claims`]: the policies of region drivers, who call in from their own module.
//!
//! What is decided here is decided by the `region_policy` crate.

use kernel::{
    prelude::*,
    InPlaceModule, //
};

#[path = "../abstractions"]
pub mod abstractions {
    //! Safe Rust over what the kernel offers; the ones that this module needs.

    pub mod attribute;
    pub mod bindings;
    pub mod dax_driver;
    pub mod device;
    pub mod export;
    pub mod global;
    pub mod hotplug;
    pub mod kmem_abi;
    pub mod memory_notifier;
    pub mod module_ref;
    pub mod notifier;
    pub mod text;
}

pub mod claims;
pub mod driver;
pub mod ledger;
pub mod memory;
pub mod registry;

use abstractions::{
    dax_driver,
    global,
    hotplug,
    memory_notifier,
    module_ref::Quiescence, //
};

module! {
    type: Kmem,
    name: "kmem",
    authors: ["The region-drivers developers"],
    description: "KMEM DAX: map dax-devices as System-RAM, whole devices at once",
    license: "GPL v2",
    alias: ["dax:t0*"],
}

/// The module: what is dropped first stands first.
#[pin_data]
struct Kmem {
    #[pin]
    _driver: kernel::driver::Registration<dax_driver::Adapter<driver::Kmem>>,
    #[pin]
    _guard: memory_notifier::Registration<registry::ZoneGuard>,
    _kinds_of_memory: hotplug::NodeMemoryTypes,
    _known: global::Lifetime,
    _claims: global::Lifetime,
    _quiescence: Quiescence,
}

impl InPlaceModule for Kmem {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Fields are initialised in the order written here, which is the reverse of their drop.
        try_pin_init!(Self {
            _quiescence: Quiescence,
            _claims: claims::lifetime(),
            _known: registry::lifetime(),
            _kinds_of_memory: hotplug::NodeMemoryTypes,
            _guard <- memory_notifier::Memory::<registry::ZoneGuard>::listen(),
            _driver <- kernel::driver::Registration::new(
                <LocalModule as kernel::ModuleMetadata>::NAME,
                module,
            ),
        })
    }
}
