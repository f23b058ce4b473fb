// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts a boot's initramfs together, in memory.

use std::collections::BTreeMap;
use std::fs;
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

/// What the kernel starts.
const INIT: &str = "init";

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

/// Under which name below `/copy` each of these files and folders appears, and where it really is.
///
/// # Errors
/// When one is not there, has no name, or has that of another.
pub fn copies(paths: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut copies = BTreeMap::new();
    for path in paths {
        let source = fs::canonicalize(path).map_err(Error::file("copy", path))?;
        // The name that was typed: a link appears as what it is a link to, under its own name.
        let Some(name) = path.file_name() else {
            return Err(Error::Host {
                what: format!("'{}' has no name to appear under", path.display()),
                remedy: format!("name it: {}", source.display()),
            });
        };
        let name = name.to_string_lossy().into_owned();
        if let Some(other) = copies.insert(name.clone(), source) {
            return Err(Error::Host {
                what: format!("'{name}' is to be copied twice, {} first", other.display()),
                remedy: "give one of them another name".into(),
            });
        }
    }
    Ok(copies)
}

/// Builds an image with nothing but the agent in it, which can do no more than answer.
///
/// # Errors
/// When it cannot be read.
pub fn of_agent(agent: &Path) -> Result<Image> {
    let mut archive = Archive::new(BufWriter::new(in_memory()?));
    add(&mut archive, INIT, agent)?;
    finish(archive)
}

/// Builds an image.
///
/// # Errors
/// When a part of it cannot be read.
pub fn build(contents: &Contents<'_>) -> Result<Image> {
    let mut memory = in_memory()?;
    let modules = contents.tree.modules();
    let parts = [contents.userland, &modules];
    for part in parts.into_iter().chain(contents.later_tools) {
        let mut file = File::open(part).map_err(Error::file("read", part))?;
        io::copy(&mut file, &mut memory).map_err(Error::file("read", part))?;
    }
    let release = contents.tree.release();
    let mut archive = Archive::new(BufWriter::new(memory));
    add(&mut archive, INIT, &contents.binaries.agent)?;
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
    for (name, source) in copies(contents.copies)? {
        add(&mut archive, &format!("copy/{name}"), &source)?;
    }
    finish(archive)
}

fn in_memory() -> Result<File> {
    rustix::fs::memfd_create("lab-image", MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|error| Error::file("create in memory", "lab-image")(error.into()))
}

fn finish(archive: Archive<BufWriter<File>>) -> Result<Image> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(paths: &[PathBuf]) -> String {
        copies(paths).unwrap_err().to_string()
    }

    #[test]
    fn a_copy_has_the_name_that_was_typed_and_the_content_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", folder.join("link")).unwrap();
        let found = copies(&[folder.join("link"), folder.join("./file")]).unwrap();
        let file = folder.join("file");
        assert_eq!(found["link"], file);
        assert_eq!(found["file"], file);
    }

    #[test]
    fn what_cannot_be_copied_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir_all(folder.join("a/same")).unwrap();
        fs::create_dir_all(folder.join("b/same")).unwrap();
        assert!(said(&[folder.join("absent")]).starts_with("cannot copy "));
        assert!(said(&[folder.join("a/..")]).contains("has no name to appear under"));
        assert!(said(&["/".into()]).contains("has no name to appear under"));
        let same = [folder.join("a/same"), folder.join("b/same")];
        assert!(said(&same).contains("'same' is to be copied twice"));
    }
}
