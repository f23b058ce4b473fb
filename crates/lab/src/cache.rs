// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the lab keeps what is expensive to make.
//!
//! An entry is a folder named after its kind and a hash of all that went into it. It is made under a temporary name and
//! renamed when it is complete, so an entry that exists is complete, and never changes.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::fs::FlockOperation;
use sha2::Digest;
use sha2::Sha256;

use crate::error::Error;
use crate::error::Result;
use crate::event::Events;
use crate::host;

/// The cache's folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Finds the cache, making its folder where needed: `CXL_LAB_CACHE`, else `cxl-region-drivers` in the user's cache.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn open() -> Result<Self> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = variable("CXL_LAB_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("cxl-region-drivers")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/cxl-region-drivers")))
            .ok_or_else(|| Error::Host {
                what: "there is no place for the lab's cache".into(),
                remedy: "set CXL_LAB_CACHE to a folder".into(),
            })?;
        Self::at(&root)
    }

    /// The cache in this folder, which is made where needed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn at(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root).map_err(Error::file("find", root))?;
        fs::create_dir_all(&root).map_err(Error::file("create", &root))?;
        Ok(Self { root })
    }

    /// The cache's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of an entry, whether it is there or not.
    #[must_use]
    pub fn path(&self, kind: &str, key: &str) -> PathBuf {
        self.root.join(kind).join(key)
    }

    /// The entry, if it is complete.
    #[must_use]
    pub fn find(&self, kind: &str, key: &str) -> Option<PathBuf> {
        let path = self.path(kind, key);
        path.is_dir().then_some(path)
    }

    /// Complete entries of a kind, by key.
    #[must_use]
    pub fn entries(&self, kind: &str) -> Vec<String> {
        let Ok(folder) = fs::read_dir(self.root.join(kind)) else {
            return Vec::new();
        };
        let mut keys: Vec<String> = folder
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        keys.sort();
        keys
    }

    /// Locks the cache against other labs that make something, and sweeps up what an interrupted one left.
    ///
    /// # Errors
    /// When the lock's file cannot be made.
    pub fn lock(&self, events: &Events) -> Result<Maker<'_>> {
        self.lock_room("lock", "scratch", events)
    }

    /// The same for what takes so long that other labs cannot wait for it: they go on making things meanwhile.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn lock_apart(&self, events: &Events) -> Result<Maker<'_>> {
        self.lock_room("lock-apart", "scratch-apart", events)
    }

    fn lock_room(&self, lock: &str, scratch: &str, events: &Events) -> Result<Maker<'_>> {
        let path = self.root.join(lock);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        if locked.is_err() {
            events
                .step("wait for another lab that uses the cache", |_| {
                    rustix::fs::flock(&file, FlockOperation::LockExclusive)
                })
                .map_err(|error| Error::file("lock", &path)(error.into()))?;
        }
        let scratch = self.root.join(scratch);
        host::remove_folder(&scratch)?;
        fs::create_dir_all(&scratch).map_err(Error::file("create", &scratch))?;
        Ok(Maker {
            cache: self,
            scratch,
            _lock: file,
        })
    }

    /// Removes everything.
    ///
    /// # Errors
    /// When something stays.
    pub fn clean(&self, events: &Events) -> Result<()> {
        let makers = [self.lock(events)?, self.lock_apart(events)?];
        for kind in fs::read_dir(&self.root)
            .map_err(Error::file("read", &self.root))?
            .flatten()
        {
            if kind.path().is_dir() {
                host::remove_folder(&kind.path())?;
            }
        }
        drop(makers);
        Ok(())
    }
}

/// The right to make entries: one lab at a time.
pub struct Maker<'cache> {
    cache: &'cache Cache,
    scratch: PathBuf,
    _lock: File,
}

impl Maker<'_> {
    /// The cache it is for.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        self.cache
    }

    /// Finds the entry, or makes it: `make` fills an empty folder, which then becomes the entry.
    ///
    /// # Errors
    /// What `make` answers; the entry does not exist then.
    pub fn ensure(
        &self,
        kind: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(entry) = self.cache.find(kind, key) {
            return Ok(entry);
        }
        let folder = self.scratch(&format!("{kind}-{key}"))?;
        make(&folder)?;
        let entry = self.cache.path(kind, key);
        let parent = self.cache.root.join(kind);
        fs::create_dir_all(&parent).map_err(Error::file("create", &parent))?;
        fs::rename(&folder, &entry).map_err(Error::file("rename a folder to", &entry))?;
        Ok(entry)
    }

    /// A new empty folder that the next lab sweeps up.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.join(name);
        host::remove_folder(&folder)?;
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        Ok(folder)
    }

    /// Keeps the `count` youngest entries of a kind.
    ///
    /// # Errors
    /// When one of the others cannot be removed.
    pub fn keep_youngest(&self, kind: &str, count: usize) -> Result<()> {
        let mut entries: Vec<(SystemTime, PathBuf)> = self
            .cache
            .entries(kind)
            .into_iter()
            .map(|key| self.cache.path(kind, &key))
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .collect();
        entries.sort();
        let surplus = entries.len().saturating_sub(count);
        entries
            .iter()
            .take(surplus)
            .try_for_each(|(_, path)| host::remove_folder(path))
    }
}

/// The hash of all that an entry is made from.
#[must_use]
pub fn key<Part: AsRef<[u8]>>(parts: impl IntoIterator<Item = Part>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .take(8)
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_part_and_on_where_parts_end() {
        assert_eq!(key(["ab", "c"]), key(["ab", "c"]));
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
        assert_ne!(key(["ab"]), key(["ab", ""]));
    }
}
