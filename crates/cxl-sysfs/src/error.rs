// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type: what was tried, on which path, with what result.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use rustix::io::Errno;

/// The result of everything that touches the tree.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An attribute could not be read.
    #[error("cannot read {}: {}", path.display(), reason(source))]
    Read {
        /// The attribute.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A write was refused.
    #[error("cannot write {value:?} to {}: {}", path.display(), reason(source))]
    Write {
        /// The attribute.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A folder could not be listed.
    #[error("cannot list {}: {}", path.display(), reason(source))]
    List {
        /// The folder.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A symbolic link could not be followed.
    #[error("cannot follow the link {}: {}", path.display(), reason(source))]
    Link {
        /// The link.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The lock that makes one transaction follow another could not be taken.
    #[error("cannot lock {}: {}", path.display(), reason(source))]
    Lock {
        /// What was to be locked.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The note for the next transaction could not be written or read.
    #[error("cannot keep the note {}: {}", path.display(), reason(source))]
    Note {
        /// The note.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An attribute does not say what it should.
    #[error("{} says {text:?}, which is not {expected}", path.display())]
    Parse {
        /// The attribute.
        path: PathBuf,
        /// What it says.
        text: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The kernel's event socket failed.
    #[error("cannot {attempt} the kernel's event socket: {}", reason(source))]
    Events {
        /// What was tried on the socket.
        attempt: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The error number that the kernel answered with, where one did.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::List { source, .. }
            | Self::Link { source, .. }
            | Self::Lock { source, .. }
            | Self::Note { source, .. }
            | Self::Events { source, .. } => Errno::from_io_error(source),
            Self::Parse { .. } => None,
        }
    }

    /// Whether the object is not (or no longer) there, which for a reader is an answer and not a failure.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::NOENT | Errno::NODEV | Errno::NOTDIR)
        )
    }

    /// Whether only others may do it.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self.errno(), Some(Errno::ACCESS | Errno::PERM))
    }

    /// Whether a signal ended it, so that it may be tried again.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.errno() == Some(Errno::INTR)
    }

    /// Whether something is in use, or holds what was to be changed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.errno() == Some(Errno::BUSY)
    }

    /// The path that the error is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::List { path, .. }
            | Self::Link { path, .. }
            | Self::Lock { path, .. }
            | Self::Note { path, .. }
            | Self::Parse { path, .. } => Some(path),
            Self::Events { .. } => None,
        }
    }

    /// The kernel's rule behind the refusal, where the attribute and the error number tell it.
    #[must_use]
    pub fn rule(&self) -> Option<&'static str> {
        self.advice().map(|advice| advice.0)
    }

    /// What the user can do about it, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        self.advice().map(|advice| advice.1)
    }

    fn advice(&self) -> Option<(&'static str, &'static str)> {
        let errno = self.errno()?;
        if self.is_forbidden() && !matches!(self, Self::Write { .. }) {
            return Some(("only root may look here", "run it as root"));
        }
        let Self::Write { path, value, .. } = self else {
            return None;
        };
        if errno == Errno::ACCESS {
            return Some(("only root may configure memory", "run it as root"));
        }
        refusal(path, value.trim(), errno)
    }
}

/// What a refused write means, by attribute and error number.
fn refusal(path: &Path, value: &str, errno: Errno) -> Option<(&'static str, &'static str)> {
    let attribute = path.file_name()?.to_str()?;
    let parent = path
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let advice = match (attribute, errno) {
        (_, Errno::INTR) => ("the operation was interrupted by a signal", "run it again"),
        ("create_ram_region" | "create_pmem_region" | "create_dc_region", Errno::BUSY) => (
            "the kernel hands out region names one by one, and another program took this one first",
            "run it again when the other program is done",
        ),
        ("size", Errno::NXIO) => (
            "interleave ways and granularity come before the size",
            "the region was changed by another program: destroy it and create it again",
        ),
        ("size", Errno::INVAL) => (
            "a region's size is a multiple of 256 MiB times its interleave ways",
            "choose such a size",
        ),
        ("size", Errno::BUSY | Errno::RANGE | Errno::NOMEM) => (
            "the window has no free range of this size",
            "choose a smaller size, another root decoder, or destroy a region in this window",
        ),
        ("interleave_ways", Errno::INVAL) => (
            "the ways are 1, 2, 3, 4, 6, 8, 12 or 16, and a power of two times the ways of the root decoder",
            "choose other ways, or another root decoder",
        ),
        ("interleave_granularity", Errno::INVAL) => (
            "the granularity is a power of two from 256 to 16384, and that of the root decoder where it interleaves",
            "leave the granularity to the root decoder",
        ),
        ("dpa_size", Errno::BUSY) => (
            "a memdev's decoders are taken and given back in order, and none may be in a region",
            "destroy the later regions on this memdev first",
        ),
        ("dpa_size", Errno::NOSPC) => (
            "the memdev has less free capacity than that",
            "choose a smaller size, or destroy a region on this memdev",
        ),
        ("decoder", Errno::BUSY) => (
            "a decoder changes its partition only while it holds no capacity",
            "give its capacity back: echo 0 > /sys/bus/cxl/devices/decoderX.Y/dpa_size",
        ),
        ("decoder", Errno::OPNOTSUPP) => (
            "a device with two static partitions has no room for a third",
            "choose another memdev",
        ),
        ("mode", Errno::NXIO | Errno::INVAL) => (
            "the memdev has no partition of this type",
            "choose another memdev, or repartition this one",
        ),
        (target, Errno::NXIO) if target.starts_with("target") => (
            "the memdev cannot stand at this position: its host bridge or its port does not follow in the interleave here, \
             or a decoder on the way does not support these ways and this granularity",
            "let the targets be ordered (list the memdevs only once, and all below one root decoder)",
        ),
        (target, Errno::BUSY) if target.starts_with("target") => (
            "every port on the way needs a free decoder, regions of a port lie in ascending address order, \
             and decoders are used in order",
            "destroy the regions that were created after the gap, and create them again",
        ),
        (target, Errno::INVAL) if target.starts_with("target") => (
            "all targets give the same share, from a partition of the region's type",
            "choose a size that all memdevs can share",
        ),
        ("commit", Errno::PERM) => (
            "the region is locked: its memory is still online, or firmware owns it",
            "unplug the memory first: cxlr hotplug REGION unplugged",
        ),
        ("commit", Errno::NXIO) => (
            "all targets must be set, and the processor must be able to invalidate its caches",
            "inside a virtual machine, hide the hypervisor flag (-cpu max,-hypervisor)",
        ),
        ("online_type", Errno::PERM) => (
            "the fabric wants dynamic capacity back some day, and memory in a kernel zone may never come back",
            "choose online_movable, or insist: cxlr create-region --allow-kernel-zones",
        ),
        ("online_type" | "allow_kernel_zones", Errno::BUSY) => (
            "the policy is fixed while cxl_dax_kmem_region holds the region",
            "change it with: cxlr bind REGION --driver sysram --online-type POLICY, which unplugs the memory first",
        ),
        ("online_type" | "state" | "hotplug", Errno::INVAL) => (
            "the kernel does not know this word here",
            "use one of the words that cxlr --help lists",
        ),
        ("state" | "hotplug" | "online", Errno::BUSY)
            if value == "unplugged" || value == "unplug" || value == "offline" =>
        {
            (
                "memory goes offline only when every page of it can be moved away",
                "stop what uses this memory (numactl -H, /proc/*/numa_maps); memory in a kernel zone may never come back",
            )
        }
        ("state" | "hotplug", Errno::BUSY) => (
            "memory changes its zone only by being unplugged first",
            "unplug it first: cxlr hotplug REGION unplugged",
        ),
        ("state" | "hotplug", Errno::PERM) => (
            "the region's policy forbids this zone",
            "ask for the policy's own online type, or destroy the region and create it with another",
        ),
        ("bind", Errno::NXIO) => (
            "a region driver takes a region only when it is committed and configured, and none of its memdevs is on its way out",
            "commit it and set its policy first",
        ),
        ("bind", Errno::INVAL) => (
            "memory comes in whole memory blocks, and belongs to a NUMA node",
            "choose a larger size (/sys/devices/system/memory/block_size_bytes), or look at the kernel's log: dmesg",
        ),
        ("bind", Errno::OPNOTSUPP) => (
            "the driver does not serve this type of region",
            "choose another driver: --driver auto",
        ),
        ("bind", Errno::BUSY) => (
            "another driver holds the device, or a part of its range is System RAM already",
            "unbind the other driver first (cxlr list shows it)",
        ),
        ("bind" | "state" | "hotplug", Errno::IO) => (
            "the kernel said that all went well, and a memory block was not as asked for; its driver undid it all",
            "look at the kernel's log for the block: dmesg",
        ),
        ("bind" | "unbind", Errno::NODEV) if parent != "kmem" => (
            "the device is not there, or not with this driver",
            "look at cxlr list",
        ),
        ("delete_region", Errno::NODEV) => (
            "the region is not below this root decoder",
            "look at cxlr list",
        ),
        (_, Errno::PERM) => (
            "the kernel does not permit it here",
            "look at the kernel's log: dmesg",
        ),
        (_, Errno::ROFS) => (
            "the tree is mounted read-only",
            "run it where /sys can be written",
        ),
        _ => return None,
    };
    Some(advice)
}

/// The kernel's answer in its own name and in words: `ENXIO, No such device or address`.
fn reason(source: &io::Error) -> String {
    match Errno::from_io_error(source) {
        Some(errno) => match symbol(errno) {
            Some(symbol) => format!("{symbol}, {}", words(source)),
            None => words(source),
        },
        None => source.to_string(),
    }
}

/// The message without the number that the standard library appends.
fn words(source: &io::Error) -> String {
    let text = source.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The names of the error numbers that these attributes answer with.
fn symbol(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::INTR => "EINTR",
        Errno::IO => "EIO",
        Errno::NXIO => "ENXIO",
        Errno::AGAIN => "EAGAIN",
        Errno::NOMEM => "ENOMEM",
        Errno::ACCESS => "EACCES",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::NODEV => "ENODEV",
        Errno::NOTDIR => "ENOTDIR",
        Errno::INVAL => "EINVAL",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::RANGE => "ERANGE",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str, value: &str, errno: Errno) -> Error {
        Error::Write {
            path: path.into(),
            value: value.to_owned(),
            source: errno.into(),
        }
    }

    #[test]
    fn a_refused_write_says_what_where_why_and_what_to_do() {
        let error = refused(
            "/sys/bus/cxl/devices/region0/target1",
            "decoder4.0",
            Errno::NXIO,
        );
        insta::assert_snapshot!(
            format!("{error}\nrule: {}\nremedy: {}", error.rule().unwrap_or("-"), error.remedy().unwrap_or("-")),
            @r#"
        cannot write "decoder4.0" to /sys/bus/cxl/devices/region0/target1: ENXIO, No such device or address
        rule: the memdev cannot stand at this position: its host bridge or its port does not follow in the interleave here, or a decoder on the way does not support these ways and this granularity
        remedy: let the targets be ordered (list the memdevs only once, and all below one root decoder)
        "#
        );
    }

    #[test]
    fn busy_means_something_else_on_the_way_out_than_on_the_way_in() {
        let out = refused(
            "/sys/bus/dax/devices/dax0.0/state",
            "unplugged",
            Errno::BUSY,
        );
        let into = refused(
            "/sys/bus/dax/devices/dax0.0/state",
            "online_movable",
            Errno::BUSY,
        );
        assert_ne!(out.rule(), into.rule());
        assert!(
            out.remedy()
                .is_some_and(|remedy| remedy.contains("numa_maps"))
        );
    }

    #[test]
    fn an_error_that_nobody_knows_has_no_invented_advice() {
        assert_eq!(
            refused("/sys/bus/cxl/devices/region0/uuid", "x", Errno::IO).rule(),
            None
        );
    }
}
