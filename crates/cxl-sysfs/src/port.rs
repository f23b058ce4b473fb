// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ports: the root of the CXL bus, host bridges and switches, and the endpoints that stand for memdevs.

use std::collections::BTreeMap;
use std::path::Path;

use crate::device::Device;
use crate::error::Result;
use crate::text;

/// What a port stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// The platform: its decoders are the windows of physical address space (`root0`).
    Root,
    /// A host bridge or a switch (`port1`).
    Switch,
    /// A memdev as the end of the path (`endpoint3`).
    Endpoint,
}

/// A port and the way up from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `root0`, `port1`, `endpoint3`.
    pub name: String,
    /// What it stands for.
    pub kind: PortKind,
    /// The port above; `None` for a root.
    pub parent: Option<String>,
    /// The device that it stands for: `ACPI0017:00`, `pci0000:0c`, `mem0`.
    pub host: Option<String>,
    /// The downstream port of the parent through which this one is reached, by the name of its device.
    pub parent_dport: Option<String>,
    /// Downstream ports: their identity in target lists, and the name of the device behind each.
    pub dports: BTreeMap<u32, String>,
    /// How many decoders are committed; the next region takes the decoder with this number.
    pub decoders_committed: u32,
}

impl Port {
    /// Reads one port. `path` is what its link on the bus says; the parent is in there.
    ///
    /// # Errors
    /// Those of its attributes.
    pub(crate) fn read(
        device: &Device<'_>,
        name: &str,
        kind: PortKind,
        path: &Path,
    ) -> Result<Self> {
        let parent = match kind {
            PortKind::Root => None,
            PortKind::Switch | PortKind::Endpoint => path
                .parent()
                .and_then(Path::file_name)
                .map(|parent| parent.to_string_lossy().into_owned()),
        };
        let mut dports = BTreeMap::new();
        // An endpoint has no downstream ports, so that its folder need not be listed.
        if kind != PortKind::Endpoint {
            for entry in device.entries()? {
                if let Some(id) = text::id(&entry, "dport")
                    && let Some(host) = device.linked(&entry)?
                {
                    dports.insert(id, host);
                }
            }
        }
        Ok(Self {
            name: name.to_owned(),
            kind,
            parent,
            host: device.linked("uport")?,
            parent_dport: device.linked("parent_dport")?,
            dports,
            decoders_committed: device.small("decoders_committed")?,
        })
    }

    /// The number of the port (`1` of `port1`), which is the first number of its decoders.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        let kind = match self.kind {
            PortKind::Root => "root",
            PortKind::Switch => "port",
            PortKind::Endpoint => "endpoint",
        };
        text::id(&self.name, kind)
    }
}
