// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's programs: Debian's own packages, unpacked without installing, as one archive for the initramfs.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use tar::EntryType;

use crate::cache;
use crate::cache::Cache;
use crate::cache::Maker;
use crate::cpio::Archive;
use crate::error::Error;
use crate::error::Result;
use crate::event::Events;
use crate::host;
use crate::program;
use crate::release::SUITE;
use crate::tree;

const KIND: &str = "userlands";

/// How many are kept, whatever recipe they are of: one to work with, and the one before.
const KEPT: usize = 2;

const PACKAGES: &[&str] = &[
    "base-passwd",
    "bash",
    "bc",
    "coreutils",
    "cxl",
    "dash",
    "daxctl",
    "findutils",
    "gawk",
    "grep",
    "jq",
    "kexec-tools",
    "kmod",
    "libc-bin",
    "mount",
    "ncurses-base",
    "ndctl",
    "numactl",
    "pciutils",
    "procps",
    "sed",
    "strace",
    "systemd",
    "udev",
    "util-linux",
];

/// Left out: nothing in a guest reads them, and every byte is unpacked at every boot.
const OMITTED: &[&str] = &[
    "usr/lib/udev/hwdb.d/",
    "usr/lib/x86_64-linux-gnu/gconv/",
    "usr/lib/x86_64-linux-gnu/perl-base/",
    "usr/share/bash-completion/",
    "usr/share/bug/",
    "usr/share/doc/",
    "usr/share/i18n/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/zoneinfo/",
    "usr/share/zsh/",
    "var/cache/",
    "var/lib/apt/",
    "var/lib/dpkg/",
];

/// Rules of udev that are left out: for hardware that no guest has, and for the seats at which nobody sits. It goes
/// through all of its rules for each event, which was a quarter of what a translated guest did under test.
const OMITTED_RULES: &[&str] = &[
    "60-autosuspend",
    "60-cdrom_id",
    "60-drm",
    "60-fido-id",
    "60-infiniband",
    "60-input-id",
    "60-persistent-alsa",
    "60-persistent-input",
    "60-persistent-storage-mtd",
    "60-persistent-storage-tape",
    "60-persistent-v4l",
    "60-sensor",
    "64-btrfs",
    "70-camera",
    "70-joystick",
    "70-mouse",
    "70-power-switch",
    "70-touchpad",
    "70-uaccess",
    "71-seat",
    "73-seat-late",
    "73-special-net-names",
    "75-net-description",
    "75-probe_mtd",
    "78-sound-card",
    "80-net-setup-link",
    "81-net-dhcp",
];

/// Links that the packages' installation scripts would have made.
const LINKS: &[(&str, &str)] = &[("usr/bin/awk", "gawk"), ("usr/bin/sh", "dash")];

/// Finds the archive in the cache.
#[must_use]
pub fn find(cache: &Cache) -> Option<PathBuf> {
    cache.find(KIND, &key()).map(|entry| archive(&entry))
}

/// Finds the archive in the cache, or makes it.
///
/// # Errors
/// When the registry cannot be reached, or a step fails.
pub fn ensure(maker: &Maker<'_>, events: &Events) -> Result<PathBuf> {
    let entry = maker.ensure(KIND, &key(), |folder| {
        let packed = folder.join("userland.tar");
        events.step("fetch the guest's programs", |step| {
            let mut command = tree::mmdebstrap("extract", PACKAGES, folder)?;
            command
                .arg(SUITE)
                .arg(&packed)
                .arg(tree::source_line(&host::mirror()?, SUITE));
            program::run(step, "fetching the guest's programs (mmdebstrap)", command)
        })?;
        let archive = archive(folder);
        convert(&packed, &archive).map_err(Error::file("write", &archive))?;
        fs::remove_file(&packed).map_err(Error::file("remove", &packed))
    })?;
    maker.keep_youngest(KIND, KEPT)?;
    Ok(archive(&entry))
}

fn archive(entry: &Path) -> PathBuf {
    entry.join("userland.cpio")
}

fn key() -> String {
    let links: Vec<String> = LINKS
        .iter()
        .map(|(name, target)| format!("{name} {target}"))
        .collect();
    cache::key([
        PACKAGES.join(" "),
        OMITTED.join(" "),
        OMITTED_RULES.join(" "),
        links.join(" "),
    ])
}

fn is_omitted(path: &str) -> bool {
    let rule = path
        .strip_prefix("usr/lib/udev/rules.d/")
        .and_then(|name| name.strip_suffix(".rules"));
    rule.is_some_and(|rule| OMITTED_RULES.contains(&rule))
        || OMITTED.iter().any(|omitted| path.starts_with(omitted))
}

fn convert(packed: &Path, target: &Path) -> io::Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(target)?));
    let mut packed = tar::Archive::new(io::BufReader::new(File::open(packed)?));
    let mut present = Vec::new();
    for entry in packed.entries()? {
        let mut entry = entry?;
        let path = entry
            .path()?
            .to_string_lossy()
            .trim_start_matches("./")
            .trim_end_matches('/')
            .to_owned();
        if path.is_empty() || is_omitted(&path) {
            continue;
        }
        let mode = entry.header().mode()? & 0o7777;
        match entry.header().entry_type() {
            EntryType::Directory => archive.folder(&path, mode)?,
            EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                archive.file(&path, mode, &content)?;
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().unwrap_or_default().into_owned();
                archive.symlink(&path, &link)?;
            }
            EntryType::Link => {
                let link = entry.link_name_bytes().unwrap_or_default().into_owned();
                let link = String::from_utf8_lossy(&link)
                    .trim_start_matches('.')
                    .to_owned();
                archive.symlink(
                    &path,
                    format!("/{}", link.trim_start_matches('/')).as_bytes(),
                )?;
            }
            // Device nodes: the guest's kernel makes its own.
            _ => {}
        }
        for (name, source) in [("passwd", "passwd.master"), ("group", "group.master")] {
            if path == format!("usr/share/base-passwd/{source}") {
                present.push((format!("etc/{name}"), path.clone()));
            }
        }
        if LINKS.iter().any(|(name, _)| *name == path) {
            present.push((path, String::new()));
        }
    }
    for (name, source) in &present {
        if !source.is_empty() {
            archive.symlink(name, format!("/{source}").as_bytes())?;
        }
    }
    for (name, target) in LINKS {
        if !present.iter().any(|(present, _)| present == name) {
            archive.symlink(name, target.as_bytes())?;
        }
    }
    archive.finish()?.into_inner()?.sync_all()
}
