// SPDX-License-Identifier: GPL-2.0-only

//! Region drivers for CXL memory: each region is bound to a driver of its own, and its policy is
//! set between two binding steps.
//!
//! | driver | binds to | adds |
//! |---|---|---|
//! | [`cxl_sysram_region`](sysram) | a committed region of RAM or dynamic capacity, by name | `sysram_regionN` with `online_type` |
//! | [`cxl_dax_kmem_region`](dax_kmem) | `sysram_regionN`, once `online_type` is set | `dax_regionN` |
//! | [`cxl_devdax_region`](devdax) | the same | `dax_regionN` with `dax_mode` |
//! | [`cxl_dax_device_region`](dax_device) | that `dax_regionN`, once `dax_mode` is set | `daxN.M`, which `device_dax` or `fsdev_dax` takes |
//! | [`cxl_driver_dax_region`](dax_region) | the other `dax_regionN` | `daxN.M`, which `kmem` takes |
//!
//! Memory that the fabric gives and takes back is that of [`dynamic_capacity`]; its regions are made by
//! [`create_dc_region`].
//!
//! What is decided here is decided by the `region_policy` crate; all `unsafe` is in the
//! abstractions.

use kernel::{
    prelude::*,
    InPlaceModule, //
};

#[path = "../abstractions"]
pub mod abstractions {
    //! Safe Rust over what the kernel offers; the ones that this module needs.

    pub mod attribute;
    pub mod bindings;
    pub mod cxl;
    pub mod dax_device;
    pub mod dax_region;
    pub mod device;
    pub mod global;
    pub mod hmem;
    pub mod kmem_abi;
    pub mod kmem_client;
    pub mod link;
    pub mod marks;
    pub mod module_ref;
    pub mod notifier;
    pub mod text;
    pub mod worker;
}

pub mod admission;
pub mod binding;
pub mod create_dc_region;
pub mod dax_device;
pub mod dax_kmem;
pub mod dax_region;
pub mod devdax;
pub mod dynamic_capacity;
pub mod holds;
pub mod mappable;
pub mod services;
pub mod suspects;
pub mod sysram;
pub mod table;
pub mod watch;

use abstractions::{
    cxl::{
        self,
        memdev,
        notifier,
        subregion::WaitForRelease, //
    },
    global,
    module_ref::Quiescence,
};

module! {
    type: CxlRegions,
    name: "cxl_regions",
    authors: ["The region-drivers developers"],
    description: "Region drivers for CXL memory",
    license: "GPL v2",
    imports_ns: ["CXL"],
}

/// The module: what is dropped first stands first.
#[pin_data]
struct CxlRegions {
    #[pin]
    _memdevs: memdev::Registration<dynamic_capacity::DynamicCapacity>,
    _drivers: table::Drivers,
    _offer: create_dc_region::Offer,
    #[pin]
    _watch: notifier::Registration<watch::Watch>,
    _files: global::Lifetime,
    _devices_known: global::Lifetime,
    _companions: global::Lifetime,
    _tags: global::Lifetime,
    _unbinding: global::Lifetime,
    _mappable: global::Lifetime,
    _holds: global::Lifetime,
    _suspects: global::Lifetime,
    _bus: [global::Lifetime; 3],
    _devices: WaitForRelease,
    _quiescence: Quiescence,
}

impl InPlaceModule for CxlRegions {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // Fields are initialised in the order written here, which is the reverse of their drop.
        try_pin_init!(Self {
            _quiescence: Quiescence,
            _devices: WaitForRelease,
            _bus: cxl::lifetimes(),
            _suspects: suspects::lifetime(),
            _holds: holds::lifetime(),
            _mappable: mappable::lifetime(),
            _unbinding: watch::lifetime(),
            _tags: dynamic_capacity::tagged::lifetime(),
            _companions: memdev::lifetime(),
            _devices_known: dynamic_capacity::lifetime(),
            _files: create_dc_region::lifetime(),
            _watch <- notifier::Bus::<watch::Watch>::listen(),
            _offer: create_dc_region::Offer::begin(),
            _drivers: table::Drivers::register(module)?,
            _memdevs <- memdev::Registration::new(),
        })
    }
}
