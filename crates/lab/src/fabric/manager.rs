// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fabric manager's commands, by the program of that name in the guest.

use serde::Deserialize;

use super::Extent;
use crate::error::Error;
use crate::error::Result;
use crate::guest::Guest;

/// A manager of the fabric for a device behind a guest's switch.
///
/// It runs in the guest, and only because nobody else does: to the host's kernel it is another machine.
#[derive(Clone, Copy)]
pub struct Manager<'g> {
    guest: &'g Guest,
    port: u8,
    region: u8,
}

impl<'g> Manager<'g> {
    /// Of this dynamic capacity region of the device behind the first port.
    #[must_use]
    pub fn new(guest: &'g Guest, region: u8) -> Self {
        Self {
            guest,
            port: 0,
            region,
        }
    }

    /// Of the device behind another port.
    #[must_use]
    pub fn behind(self, port: u8) -> Self {
        Self { port, ..self }
    }

    /// Offers the extents to the guest as one group, under one tag.
    ///
    /// # Errors
    /// When the device refuses: they are not whole blocks of it, or it offers or gave some of them already.
    pub fn add(&self, tag: Option<&str>, extents: &[Extent]) -> Result<()> {
        let extents = extents.iter().map(range).collect();
        self.tell("add", tag, extents)
    }

    /// The same, for extents that hosts share: each has its place among them.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_shared(&self, tag: &str, extents: &[(u16, Extent)]) -> Result<()> {
        let extents = extents
            .iter()
            .map(|(sequence, extent)| format!("{}#{sequence}", range(extent)))
            .collect();
        self.tell("add", Some(tag), extents)
    }

    /// Asks the guest to give the extents back.
    ///
    /// # Errors
    /// When the device refuses: the guest does not have all of them.
    pub fn release(&self, tag: Option<&str>, extents: &[Extent]) -> Result<()> {
        let extents = extents.iter().map(range).collect();
        self.tell("release", tag, extents)
    }

    /// What the guest has, as the device sees it, in the order in which it was taken.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn held(&self) -> Result<Vec<Held>> {
        let text = self
            .guest
            .sh_ok(&format!("fabric-manager --port {} extents", self.port))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::test(format!("the fabric manager says '{text}': {error}")))
    }

    fn tell(&self, command: &str, tag: Option<&str>, extents: Vec<String>) -> Result<()> {
        let mut argv = vec![
            "fabric-manager".to_owned(),
            format!("--port={}", self.port),
            command.to_owned(),
            self.region.to_string(),
        ];
        argv.extend(tag.map(|tag| format!("--tag={tag}")));
        argv.extend(extents);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.guest.run(&argv)?.success().map(drop)
    }
}

fn range(extent: &Extent) -> String {
    format!("{:#x}+{:#x}", extent.offset, extent.length)
}

/// An extent that a guest has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Held {
    /// Its first address on the device.
    pub dpa: u64,
    /// Bytes.
    pub length: u64,
    /// With which others it belongs together.
    pub tag: Option<String>,
    /// Its place among them; 0 where nobody shares them.
    pub sequence: u16,
}
