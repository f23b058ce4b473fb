// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts a boot's initramfs together, in memory.

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::MemfdFlags;

use crate::binaries::Binaries;
use crate::cpio::Archive;
use crate::error::Error;
use crate::error::Result;
use crate::modules::Modules;
use crate::tree::Tree;

/// An initramfs in memory; it is gone when this is dropped.
pub struct Image(File);

impl Image {
    /// The path under which a child process can open it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// What goes into an image.
pub struct Contents<'a> {
    /// The archive of the guest's programs.
    pub userland: &'a Path,
    /// The archive of later tools, where the guest has those.
    pub later_tools: Option<&'a Path>,
    /// The tree whose kernel is booted.
    pub tree: &'a Tree,
    /// The project's own programs.
    pub binaries: &'a Binaries,
    /// The project's modules, where they are to be installed.
    pub modules: Option<&'a Modules>,
    /// Files and folders of the host that appear below `/copy`.
    pub copies: &'a [PathBuf],
}

/// Builds an image.
///
/// # Errors
/// When a part of it cannot be read.
pub fn build(contents: &Contents<'_>) -> Result<Image> {
    let memory = rustix::fs::memfd_create("lab-image", MemfdFlags::CLOEXEC)
        .map_err(|error| Error::file("create in memory", "lab-image")(error.into()))?;
    let mut memory = File::from(memory);
    let modules = contents.tree.modules();
    let parts = [contents.userland, &modules];
    for part in parts.into_iter().chain(contents.later_tools) {
        let mut file = File::open(part).map_err(Error::file("read", part))?;
        io::copy(&mut file, &mut memory).map_err(Error::file("read", part))?;
    }
    let release = contents.tree.release();
    let mut archive = Archive::new(BufWriter::new(memory));
    add(&mut archive, "init", &contents.binaries.agent)?;
    for folder in ["usr/local", "usr/local/bin"] {
        archive
            .folder(folder, 0o755)
            .map_err(Error::file("add to the image", folder))?;
    }
    let binaries = contents.binaries;
    for program in [&binaries.cxlr, &binaries.fabric_manager, &binaries.walk] {
        add(
            &mut archive,
            &format!("usr/local/bin/{}", name(program)),
            program,
        )?;
    }
    if let Some(modules) = contents.modules {
        let folder = format!("usr/lib/modules/{release}/updates");
        archive
            .folder(&folder, 0o755)
            .map_err(Error::file("add to the image", &folder))?;
        for file in modules.files()? {
            add(&mut archive, &format!("{folder}/{}", name(&file)), &file)?;
        }
        for file in modules.index()? {
            add(
                &mut archive,
                &format!("usr/lib/modules/{release}/{}", name(&file)),
                &file,
            )?;
        }
    }
    for folder in ["copy", "root"] {
        archive
            .folder(folder, 0o755)
            .map_err(Error::file("add to the image", folder))?;
    }
    for copy in contents.copies {
        let whole = std::path::absolute(copy).map_err(Error::file("find", copy))?;
        add(&mut archive, &format!("copy/{}", name(&whole)), &whole)?;
    }
    let memory = archive
        .finish()
        .map_err(Error::file("finish", "the image"))?;
    let memory = memory
        .into_inner()
        .map_err(|error| Error::file("finish", "the image")(error.into_error()))?;
    Ok(Image(memory))
}

fn add(archive: &mut Archive<BufWriter<File>>, target: &str, source: &Path) -> Result<()> {
    archive
        .tree(target, source)
        .map_err(Error::file("add to the image", source))
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
