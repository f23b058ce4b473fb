// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seam between this project and the kernel: a tree of attributes that can be read, listed, followed and written.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::error::Error;
use crate::error::Result;
use crate::uevent;

/// The largest attribute: sysfs gives one page and no more.
const PAGE: usize = 4096;

/// Attributes below a root. Paths are absolute, as the running system names them (`/sys/bus/cxl/…`).
pub trait Tree {
    /// The text of an attribute.
    ///
    /// # Errors
    /// [`Error::Read`] when it is not there or the kernel refuses.
    fn read(&self, path: &Path) -> Result<String>;

    /// Writes an attribute with a single system call, as sysfs wants it.
    ///
    /// # Errors
    /// [`Error::Write`] with the kernel's answer. A signal during the call is such an answer (`EINTR`) and not retried.
    fn write(&self, path: &Path, value: &str) -> Result<()>;

    /// The names in a folder, in no particular order.
    ///
    /// # Errors
    /// [`Error::List`] when it is not there or cannot be listed.
    fn entries(&self, path: &Path) -> Result<Vec<String>>;

    /// What a symbolic link says, unresolved.
    ///
    /// # Errors
    /// [`Error::Link`] when there is no such link.
    fn link(&self, path: &Path) -> Result<PathBuf>;

    /// Whether something is there. Costs one system call and never fails: unreadable counts as absent.
    fn exists(&self, path: &Path) -> bool;

    /// Subscribes to what the kernel reports from now on.
    ///
    /// # Errors
    /// [`Error::Events`] when the kernel's event socket cannot be opened.
    fn events(&self) -> Result<Box<dyn Events>>;

    /// Keeps other transactions out until the guard is dropped; waits for those that run.
    ///
    /// # Errors
    /// [`Error::Lock`] when the tree has no CXL bus or the lock cannot be taken.
    fn lock(&self) -> Result<Guard>;

    /// Leaves a note for the next transaction, in place of the one before; it lasts until the machine is switched off,
    /// whatever becomes of this process. `None` takes it away. Only whoever holds the lock may do this.
    ///
    /// # Errors
    /// [`Error::Note`] when it cannot be written.
    fn leave_note(&self, note: Option<&str>) -> Result<()>;

    /// The note that an earlier transaction left.
    ///
    /// # Errors
    /// [`Error::Note`] when there is one that cannot be read.
    fn note(&self) -> Result<Option<String>>;
}

/// Something that tells when the tree may have changed.
pub trait Events {
    /// Waits for the next change of a CXL, dax or memory device. `false`: none came in time.
    ///
    /// # Errors
    /// [`Error::Events`] when the event socket fails.
    fn wait(&mut self, timeout: Duration) -> Result<bool>;
}

/// Holds the lock of [`Tree::lock`] until it is dropped.
#[derive(Debug)]
pub struct Guard {
    // Closing the file releases the lock.
    _file: Option<File>,
}

impl Guard {
    /// A guard for a tree that nobody else can reach.
    #[must_use]
    pub fn unshared() -> Self {
        Self { _file: None }
    }
}

/// The folder of [`Tree::leave_note`].
const NOTES: &str = "/run/cxlr";
const NOTE: &str = "/run/cxlr/note";

/// A tree on disk: `/` for the running system, or any other folder that has a `sys` below it.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::at("/")
    }
}

impl Sysfs {
    /// The tree below `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether this is the running kernel's own tree.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The path on disk.
    fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Tree for Sysfs {
    fn read(&self, path: &Path) -> Result<String> {
        let path = self.path(path);
        // One read is enough for an attribute, and a second one to see the end would only cost time.
        let mut page = vec![0; PAGE];
        let read = File::open(&path).and_then(|mut file| file.read(&mut page));
        match read {
            Ok(length) => {
                page.truncate(length);
                Ok(String::from_utf8_lossy(&page).into_owned())
            }
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    fn write(&self, path: &Path, value: &str) -> Result<()> {
        let path = self.path(path);
        tracing::debug!(target: "cxl_sysfs::write", path = %path.display(), value = value.trim_end(), "write");
        // Not write_all, which would repeat a write that a signal interrupted.
        let written = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write(value.as_bytes()));
        match written {
            Ok(_) => Ok(()),
            Err(source) => {
                tracing::debug!(target: "cxl_sysfs::write", path = %path.display(), error = %source, "refused");
                Err(Error::Write {
                    path,
                    value: value.to_owned(),
                    source,
                })
            }
        }
    }

    fn entries(&self, path: &Path) -> Result<Vec<String>> {
        let path = self.path(path);
        let names = fs::read_dir(&path).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect()
        });
        names.map_err(|source| Error::List { path, source })
    }

    fn link(&self, path: &Path) -> Result<PathBuf> {
        let path = self.path(path);
        fs::read_link(&path).map_err(|source| Error::Link { path, source })
    }

    fn exists(&self, path: &Path) -> bool {
        self.path(path).exists()
    }

    fn events(&self) -> Result<Box<dyn Events>> {
        if self.is_live() {
            Ok(Box::new(uevent::Socket::subscribe()?))
        } else {
            Ok(Box::new(uevent::Silence))
        }
    }

    fn lock(&self) -> Result<Guard> {
        let path = self.path(Path::new("/sys/bus/cxl"));
        let file = File::open(&path).and_then(|file| {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    tracing::warn!("waiting for another cxlr to end");
                    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
                }
                result => result?,
            }
            Ok(file)
        });
        match file {
            Ok(file) => Ok(Guard { _file: Some(file) }),
            Err(source) => Err(Error::Lock { path, source }),
        }
    }

    fn leave_note(&self, note: Option<&str>) -> Result<()> {
        let path = self.path(Path::new(NOTE));
        // Whole or not at all: a process may be killed while it writes.
        let draft = path.with_extension("draft");
        let written = match note {
            Some(note) => fs::create_dir_all(self.path(Path::new(NOTES)))
                .and_then(|()| fs::write(&draft, note))
                .and_then(|()| fs::rename(&draft, &path)),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                result => result,
            },
        };
        written.map_err(|source| Error::Note { path, source })
    }

    fn note(&self) -> Result<Option<String>> {
        let path = self.path(Path::new(NOTE));
        match fs::read_to_string(&path) {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Note { path, source }),
        }
    }
}

/// `Ok(None)` where the object is not there; every other failure stays one.
///
/// # Errors
/// Those of `result`, except for a missing object.
pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_attribute_names_its_path_on_disk() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = Sysfs::at(folder.path())
            .read(Path::new("/sys/bus/cxl/devices/mem0/serial"))
            .expect_err("nothing is there");
        assert!(error.is_missing());
        assert!(
            error
                .to_string()
                .contains(&*folder.path().to_string_lossy()),
            "{error}"
        );
    }

    #[test]
    fn what_is_absent_is_none_and_what_is_broken_stays_an_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tree = Sysfs::at(folder.path());
        assert!(matches!(
            optional(tree.read(Path::new("/absent"))),
            Ok(None)
        ));
        fs::create_dir(folder.path().join("folder")).expect("a folder");
        assert!(optional(tree.read(Path::new("/folder"))).is_err());
    }
}
