// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole machine at one moment, and the questions that span objects.

use std::collections::BTreeMap;
use std::path::Path;

use region_policy::matrix::PartitionMode;
use region_policy::online_type::OnlineType;

use crate::dax;
use crate::dax::DaxDevice;
use crate::decoder;
use crate::decoder::EndpointDecoder;
use crate::decoder::RootDecoder;
use crate::decoder::SwitchDecoder;
use crate::device::CXL_DEVICES;
use crate::device::CXL_DRIVERS;
use crate::device::DAX_DRIVERS;
use crate::device::Device;
use crate::error::Result;
use crate::extent::Extent;
use crate::memdev::Memdev;
use crate::memory;
use crate::port::Port;
use crate::port::PortKind;
use crate::region::Region;
use crate::text;
use crate::tree::Tree;
use crate::tree::optional;

/// Everything that `/sys` says about CXL memory. All lists are in natural order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The root, host bridges, switches and endpoints.
    pub ports: Vec<Port>,
    /// Windows of physical address space.
    pub root_decoders: Vec<RootDecoder>,
    /// Decoders of host bridges and switches.
    pub switch_decoders: Vec<SwitchDecoder>,
    /// Decoders of memdevs.
    pub endpoint_decoders: Vec<EndpointDecoder>,
    /// Memory devices.
    pub memdevs: Vec<Memdev>,
    /// Regions.
    pub regions: Vec<Region>,
    /// What the host has of dynamic capacity.
    pub extents: Vec<Extent>,
    /// Dax devices, from CXL or not.
    pub dax_devices: Vec<DaxDevice>,
    /// Drivers of the CXL bus, by name.
    pub cxl_drivers: Vec<String>,
    /// Drivers of the dax bus, by name.
    pub dax_drivers: Vec<String>,
    /// The size of a memory block in bytes; `None` where memory cannot be hot-plugged.
    pub block_size: Option<u64>,
    /// How new memory comes online when nobody says.
    pub system_default: Option<OnlineType>,
}

impl Snapshot {
    /// Reads the machine. A machine without a CXL bus is empty, not an error; what vanishes meanwhile is left out.
    ///
    /// # Errors
    /// When something is there and cannot be read or understood.
    pub fn read(tree: &dyn Tree) -> Result<Self> {
        let mut snapshot = Self {
            cxl_drivers: optional(Device::new(tree, CXL_DRIVERS).entries())?.unwrap_or_default(),
            dax_drivers: optional(Device::new(tree, DAX_DRIVERS).entries())?.unwrap_or_default(),
            block_size: optional(memory::block_size(tree))?,
            system_default: optional(memory::system_default(tree))?,
            ..Self::default()
        };
        for name in optional(Device::new(tree, CXL_DEVICES).entries())?.unwrap_or_default() {
            let device = Device::new(tree, Path::new(CXL_DEVICES).join(&name));
            let Some(link) = optional(tree.link(device.folder()))? else {
                continue;
            };
            optional(snapshot.add(&device, &name, &link))?;
        }
        for name in dax::names(tree)? {
            snapshot
                .dax_devices
                .extend(optional(DaxDevice::read(tree, &name))?);
        }
        Ok(snapshot)
    }

    /// Reads one device of the CXL bus and files it where it belongs. Its kind is in its name and in its parent's.
    fn add(&mut self, device: &Device<'_>, name: &str, link: &Path) -> Result<()> {
        let parent = link
            .parent()
            .and_then(Path::file_name)
            .map(|parent| parent.to_string_lossy().into_owned());
        let parent = parent.unwrap_or_default();
        if text::id(name, "root").is_some() {
            self.ports
                .push(Port::read(device, name, PortKind::Root, link)?);
        } else if text::id(name, "port").is_some() {
            self.ports
                .push(Port::read(device, name, PortKind::Switch, link)?);
        } else if text::id(name, "endpoint").is_some() {
            self.ports
                .push(Port::read(device, name, PortKind::Endpoint, link)?);
        } else if text::id(name, "mem").is_some() {
            self.memdevs.push(Memdev::read(device, name, link)?);
        } else if text::id(name, "region").is_some() {
            self.regions.push(Region::read(device, name, &parent)?);
        } else if text::id_pair(name, "extent").is_some() {
            self.extents.extend(Extent::read(device.tree(), name)?);
        } else if text::id_pair(name, "decoder").is_some() {
            if text::id(&parent, "root").is_some() {
                self.root_decoders
                    .push(RootDecoder::read(device, name, &parent)?);
            } else if text::id(&parent, "endpoint").is_some() {
                self.endpoint_decoders
                    .push(EndpointDecoder::read(device, name, &parent)?);
            } else {
                self.switch_decoders
                    .push(SwitchDecoder::read(device, name, &parent)?);
            }
        }
        Ok(())
    }

    /// A port by name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// A region by name.
    #[must_use]
    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|region| region.name == name)
    }

    /// A root decoder by name.
    #[must_use]
    pub fn root_decoder(&self, name: &str) -> Option<&RootDecoder> {
        self.root_decoders
            .iter()
            .find(|decoder| decoder.name == name)
    }

    /// A memdev by name.
    #[must_use]
    pub fn memdev(&self, name: &str) -> Option<&Memdev> {
        self.memdevs.iter().find(|memdev| memdev.name == name)
    }

    /// An endpoint decoder by name.
    #[must_use]
    pub fn endpoint_decoder(&self, name: &str) -> Option<&EndpointDecoder> {
        self.endpoint_decoders
            .iter()
            .find(|decoder| decoder.name == name)
    }

    /// The endpoint that stands for a memdev; `None` while the memdev is disabled.
    #[must_use]
    pub fn endpoint_of(&self, memdev: &str) -> Option<&Port> {
        self.ports
            .iter()
            .find(|port| port.kind == PortKind::Endpoint && port.host.as_deref() == Some(memdev))
    }

    /// The memdev that an endpoint decoder belongs to.
    #[must_use]
    pub fn memdev_of(&self, decoder: &EndpointDecoder) -> Option<&Memdev> {
        self.memdev(self.port(&decoder.port)?.host.as_deref()?)
    }

    /// The decoders of an endpoint, in the order in which they are used.
    pub fn decoders_of<'a>(
        &'a self,
        endpoint: &'a str,
    ) -> impl Iterator<Item = &'a EndpointDecoder> {
        self.endpoint_decoders
            .iter()
            .filter(move |decoder| decoder.port == endpoint)
    }

    /// The decoders of a host bridge or switch, in the order in which they are used.
    pub fn switch_decoders_of<'a>(
        &'a self,
        port: &'a str,
    ) -> impl Iterator<Item = &'a SwitchDecoder> {
        self.switch_decoders
            .iter()
            .filter(move |decoder| decoder.port == port)
    }

    /// The regions in a root decoder's window.
    pub fn regions_of<'a>(&'a self, decoder: &str) -> impl Iterator<Item = &'a Region> {
        self.regions
            .iter()
            .filter(move |region| region.decoder == decoder)
    }

    /// The dax devices below a region.
    pub fn dax_devices_of<'a>(&'a self, region: &str) -> impl Iterator<Item = &'a DaxDevice> {
        self.dax_devices
            .iter()
            .filter(move |device| device.region() == Some(region))
    }

    /// The ports from an endpoint up to and including the root.
    #[must_use]
    pub fn path_to_root<'a>(&'a self, endpoint: &'a Port) -> Vec<&'a Port> {
        let mut path = vec![endpoint];
        let mut port = endpoint;
        // A path is never longer than the list of ports, so a tree with a loop ends as well.
        while let Some(parent) = port.parent.as_deref().and_then(|parent| self.port(parent)) {
            if path.len() > self.ports.len() {
                break;
            }
            path.push(parent);
            port = parent;
        }
        path
    }

    /// The extents of a region.
    pub fn extents_of<'a>(&'a self, region: &str) -> impl Iterator<Item = &'a Extent> {
        self.extents
            .iter()
            .filter(move |extent| extent.region == region)
    }

    /// What a region's memory is; `None` where nobody can tell yet, or where this kernel has another word for it.
    ///
    /// The core has no word for dynamic capacity: the decoders of its memdevs tell.
    #[must_use]
    pub fn partition_mode(&self, region: &Region) -> Option<PartitionMode> {
        let mode = region.mode.as_deref().or_else(|| {
            let target = region.targets.iter().flatten().next()?;
            self.endpoint_decoder(target)?.mode.as_deref()
        })?;
        PartitionMode::ALL
            .into_iter()
            .find(|known| decoder::mode(*known) == mode)
    }

    /// Free capacity of a memdev's partition in bytes: what its decoders have not taken.
    #[must_use]
    pub fn free_capacity(&self, memdev: &Memdev, mode: PartitionMode) -> u64 {
        let capacity = memdev.capacity(mode);
        let mode = decoder::mode(mode);
        let taken: u64 = match self.endpoint_of(&memdev.name) {
            Some(endpoint) => self
                .decoders_of(&endpoint.name)
                .filter(|decoder| decoder.mode.as_deref() == Some(mode))
                .map(|decoder| decoder.dpa_size)
                .sum(),
            None => 0,
        };
        capacity.saturating_sub(taken)
    }

    /// Free ranges of a window, in address order; empty where its address may not be read.
    #[must_use]
    pub fn free_ranges(&self, decoder: &RootDecoder) -> Vec<std::ops::Range<u64>> {
        let Some(start) = decoder.mapping.start else {
            return Vec::new();
        };
        let window_end = start.saturating_add(decoder.mapping.size);
        let taken: BTreeMap<u64, u64> = self
            .regions_of(&decoder.name)
            .filter(|region| region.size > 0)
            .filter_map(|region| Some((region.resource?, region.end()?)))
            .collect();
        let mut free = Vec::new();
        let mut cursor = start;
        for (first, end) in taken {
            if first > cursor {
                free.push(cursor..first);
            }
            cursor = cursor.max(end);
        }
        if cursor < window_end {
            free.push(cursor..window_end);
        }
        free
    }
}
