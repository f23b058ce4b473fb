// SPDX-License-Identifier: MIT OR Apache-2.0
//! One folder of attributes: the only way in which the rest of the crate reads them.

use std::path::Path;
use std::path::PathBuf;

use region_policy::extent::Tag;

use crate::error::Error;
use crate::error::Result;
use crate::text;
use crate::tree::Tree;
use crate::tree::optional;

/// The CXL bus.
pub const CXL_DEVICES: &str = "/sys/bus/cxl/devices";
/// The drivers of the CXL bus.
pub const CXL_DRIVERS: &str = "/sys/bus/cxl/drivers";
/// The dax bus.
pub const DAX_DEVICES: &str = "/sys/bus/dax/devices";
/// The drivers of the dax bus.
pub const DAX_DRIVERS: &str = "/sys/bus/dax/drivers";
/// Whether the dax bus gives new devices to a driver by itself.
pub const DAX_AUTOPROBE: &str = "/sys/bus/dax/drivers_autoprobe";

/// A device, or any other folder with attributes in it.
#[derive(Clone)]
pub struct Device<'tree> {
    tree: &'tree dyn Tree,
    folder: PathBuf,
}

impl<'tree> Device<'tree> {
    /// The folder at `folder`; nothing is read yet.
    #[must_use]
    pub fn new(tree: &'tree dyn Tree, folder: impl Into<PathBuf>) -> Self {
        Self {
            tree,
            folder: folder.into(),
        }
    }

    /// A folder below this one.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self::new(self.tree, self.folder.join(name))
    }

    /// Where an attribute is.
    #[must_use]
    pub fn attribute(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder's own path.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An attribute's text, without the white space around it.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn text(&self, name: &str) -> Result<String> {
        Ok(self.tree.read(&self.attribute(name))?.trim().to_owned())
    }

    /// An attribute, parsed.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Parse`] when `parse` does not understand it.
    pub fn parsed<T>(
        &self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T> {
        let path = self.attribute(name);
        let text = self.tree.read(&path)?;
        parse(&text).ok_or_else(|| Error::Parse {
            path,
            text: text.trim_end().to_owned(),
            expected,
        })
    }

    /// A number of bytes, ways or decoders.
    ///
    /// # Errors
    /// As [`Device::parsed`].
    pub fn number(&self, name: &str) -> Result<u64> {
        self.parsed(name, "a number", text::number)
    }

    /// A small number.
    ///
    /// # Errors
    /// As [`Device::parsed`]; a number beyond 32 bits is not understood.
    pub fn small(&self, name: &str) -> Result<u32> {
        self.parsed(name, "a small number", |text| {
            text::number(text).and_then(|number| u32::try_from(number).ok())
        })
    }

    /// A `0` or `1`.
    ///
    /// # Errors
    /// As [`Device::parsed`].
    pub fn flag(&self, name: &str) -> Result<bool> {
        self.parsed(name, "0 or 1", text::flag)
    }

    /// A NUMA node, `None` where the kernel has none for it.
    ///
    /// # Errors
    /// As [`Device::parsed`].
    pub fn node(&self, name: &str) -> Result<Option<u32>> {
        self.parsed(name, "a NUMA node", text::node)
    }

    /// A tag, `None` where it is all zeros.
    ///
    /// # Errors
    /// As [`Device::parsed`].
    pub fn tag(&self, name: &str) -> Result<Option<Tag>> {
        self.parsed(name, "a tag", text::tag)
    }

    /// The name of another device, `None` where the line is empty.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn name(&self, name: &str) -> Result<Option<String>> {
        Ok(text::name(&self.tree.read(&self.attribute(name))?))
    }

    /// The last part of what a link points to, `None` where there is no such link.
    ///
    /// # Errors
    /// [`Error::Link`] when it is there and cannot be followed.
    pub fn linked(&self, name: &str) -> Result<Option<String>> {
        let target = optional(self.tree.link(&self.attribute(name)))?;
        Ok(target.and_then(|target| {
            target
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        }))
    }

    /// The driver that holds the device.
    ///
    /// # Errors
    /// As [`Device::linked`].
    pub fn driver(&self) -> Result<Option<String>> {
        self.linked("driver")
    }

    /// The names in the folder, in natural order.
    ///
    /// # Errors
    /// [`Error::List`].
    pub fn entries(&self) -> Result<Vec<String>> {
        let mut names = self.tree.entries(&self.folder)?;
        names.sort_by(|left, right| text::natural_order(left, right));
        Ok(names)
    }

    /// The tree that the device is in.
    #[must_use]
    pub fn tree(&self) -> &'tree dyn Tree {
        self.tree
    }
}
