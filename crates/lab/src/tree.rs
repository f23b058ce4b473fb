// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree: one Debian in a folder that holds the compiler, the prepared kernel source, QEMU, and the kernel that the
//! guests run, so that the host's own distribution does not matter.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::cache;
use crate::cache::Cache;
use crate::cache::Maker;
use crate::cpio::Archive;
use crate::error::Error;
use crate::error::Result;
use crate::event::Events;
use crate::host;
use crate::program;
use crate::release;
use crate::release::BACKPORTS;
use crate::release::Offer;
use crate::release::PROVED;
use crate::release::SUITE;

/// How many trees of each kernel are kept, whatever recipe they are of: one to work with, and the one before.
const KEPT: usize = 2;

/// Packages besides the kernel's own: QEMU, and what builds Rust modules.
const PACKAGES: &[&str] = &[
    "bc",
    "bindgen",
    "bison",
    "ca-certificates",
    "flex",
    "gcc",
    "ipxe-qemu",
    "kmod",
    "libclang-19-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "python3-minimal",
    "qemu-system-x86",
    "rust-clippy",
    "rust-src",
    "rustc",
    "rustfmt",
    "seabios",
    "xz-utils",
];

/// Only these come from the backports: raising all of them would break libelf.
const PREFERENCES: &str = "Package: linux-* qemu-* seabios ipxe-qemu\nPin: release n=trixie-backports\nPin-Priority: 990\n";

/// What a debug kernel is built with besides: KASAN and Rust want the compiler of one family.
const DEBUG_PACKAGES: &[&str] = &["clang-19"];

/// What every make of that kernel and of its modules is told.
const DEBUG_MAKE: &[&str] = &["CC=clang-19"];

const KERNEL_SOURCE: &str = include_str!("scripts/kernel_source.sh");
const DEBUG_KERNEL: &str = include_str!("scripts/debug_kernel.sh");
const DEBUG_CONFIG: &str = include_str!("scripts/debug.config");
const IN_TREE: &str = include_str!("scripts/in_tree.sh");

/// The prepared kernel source, seen from inside the tree.
const SOURCE: &str = "/build/linux-source";

/// What a tree takes while it is made, in bytes.
const SPACE: u64 = 6 << 30;

/// Tests that the kernel's source package carries and guests run unmodified.
const SELFTESTS: &[&str] = &["dax", "kselftest", "memory-hotplug"];

/// The kernel that a tree's guests run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// The distribution's, unmodified.
    #[default]
    Stock,
    /// One of the same source that watches memory, locks and lifetimes: slow, and slow to make.
    Debug,
}

impl Kernel {
    /// The kernel that `CXL_LAB_KERNEL` names, for those who cannot name it on a command line.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn from_environment() -> Result<Self> {
        match std::env::var("CXL_LAB_KERNEL") {
            Err(_) => Ok(Self::default()),
            Ok(name) => Self::from_str(&name, false).map_err(|_| Error::Host {
                what: format!("CXL_LAB_KERNEL is '{name}', and the lab has no such kernel"),
                remedy: "set it to 'stock' or 'debug'".into(),
            }),
        }
    }
}

/// A complete tree.
#[derive(Debug, Clone)]
pub struct Tree {
    entry: PathBuf,
    key: String,
    release: String,
    kernel: Kernel,
}

impl Tree {
    /// Finds the tree in the cache, or makes it.
    ///
    /// # Errors
    /// When the registry cannot be reached, or a step fails.
    pub fn ensure(maker: &Maker<'_>, kernel: Kernel, events: &Events) -> Result<Self> {
        if let Some(tree) = Self::find(maker.cache(), kernel) {
            return Ok(tree);
        }
        host::ensure_space(maker.cache().root(), SPACE)?;
        let mirror = host::mirror()?;
        let offer = events.step("ask the package registry for its kernels", |step| {
            release::choose(step, &mirror, &maker.scratch("apt")?)
        })?;
        if PROVED.contains(&offer.release.as_str()) {
            events.notice(format!(
                "the kernel is {}, on which the lab was proved",
                offer.release
            ));
        } else {
            events.notice(format!(
                "the kernel is {}, the newest that {mirror} offers; the lab was proved on {}, which it no longer has",
                offer.release,
                PROVED.join(", ")
            ));
        }
        let key = format!("{}-{}", recipe(kernel), offer.release);
        let entry = maker.ensure(kind(kernel), &key, |folder| {
            make(folder, kernel, &offer, &mirror, events)
        })?;
        maker.keep_youngest(kind(kernel), KEPT)?;
        Ok(Self {
            entry,
            key,
            release: kernel_release(kernel, &offer.release),
            kernel,
        })
    }

    /// The tree that an earlier run made: the first proved one, else the newest.
    #[must_use]
    pub fn find(cache: &Cache, kernel: Kernel) -> Option<Self> {
        let recipe = recipe(kernel);
        let releases: Vec<String> = cache
            .entries(kind(kernel))
            .iter()
            .filter_map(|key| {
                key.strip_prefix(&recipe)?
                    .strip_prefix('-')
                    .map(str::to_owned)
            })
            .collect();
        let proved = PROVED
            .iter()
            .find(|proved| releases.iter().any(|release| release == *proved));
        let release = proved
            .map(ToString::to_string)
            .or_else(|| releases.last().cloned())?;
        let key = format!("{recipe}-{release}");
        Some(Self {
            entry: cache.find(kind(kernel), &key)?,
            key,
            release: kernel_release(kernel, &release),
            kernel,
        })
    }

    /// The kernel's release, as `uname -r` prints it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What make is told besides, to build modules for this kernel.
    #[must_use]
    pub fn make_words(&self) -> &'static [&'static str] {
        match self.kernel {
            Kernel::Stock => &[],
            Kernel::Debug => DEBUG_MAKE,
        }
    }

    /// What tells this tree from any other.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The tree's root folder on the host.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.entry.join("tree")
    }

    /// The prepared kernel source, seen from inside the tree.
    #[must_use]
    pub fn source(&self) -> &'static str {
        SOURCE
    }

    /// The kernel that guests boot, on the host.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.entry.join("vmlinuz")
    }

    /// The archive of the kernel's own modules and selftests, on the host.
    #[must_use]
    pub fn modules(&self) -> PathBuf {
        self.entry.join("modules.cpio")
    }

    /// The beginning of a command inside the tree, as root, in namespaces of its own; `work` is seen there as `/work`.
    ///
    /// # Errors
    /// When root is not to be had.
    pub fn command(&self, work: Option<&Path>) -> Result<Command> {
        command(&self.root(), work)
    }

    /// QEMU, without privileges: run by the tree's own dynamic linker with the tree's own libraries.
    #[must_use]
    pub fn qemu(&self) -> Vec<String> {
        let path = |path: &str| self.root().join(path).display().to_string();
        let libraries = path("usr/lib/x86_64-linux-gnu");
        vec![
            path("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
            "--library-path".into(),
            format!("{libraries}:{libraries}/pulseaudio"),
            path("usr/bin/qemu-system-x86_64"),
            "-L".into(),
            path("usr/share/qemu"),
            "-L".into(),
            path("usr/share/seabios"),
            "-L".into(),
            path("usr/lib/ipxe/qemu"),
        ]
    }

    /// The folder of QEMU's own modules.
    #[must_use]
    pub fn qemu_modules(&self) -> PathBuf {
        self.root().join("usr/lib/x86_64-linux-gnu/qemu")
    }
}

fn kind(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Stock => "trees",
        Kernel::Debug => "debug-trees",
    }
}

fn recipe(kernel: Kernel) -> String {
    let packages = PACKAGES.join(" ");
    let selftests = SELFTESTS.join(" ");
    let debug = [
        &DEBUG_PACKAGES.join(" "),
        &DEBUG_MAKE.join(" "),
        DEBUG_KERNEL,
        DEBUG_CONFIG,
    ];
    let mut parts = vec![
        packages.as_str(),
        PREFERENCES,
        KERNEL_SOURCE,
        IN_TREE,
        SOURCE,
        &selftests,
    ];
    if kernel == Kernel::Debug {
        parts.extend(debug);
    }
    cache::key(parts)
}

fn kernel_release(kernel: Kernel, distribution: &str) -> String {
    match kernel {
        Kernel::Stock => distribution.to_owned(),
        Kernel::Debug => format!("{distribution}-debug"),
    }
}

fn command(root: &Path, work: Option<&Path>) -> Result<Command> {
    let mut command = host::confined()?;
    command.args(["bash", "-c", IN_TREE, "in-tree"]).arg(root);
    command.arg(work.unwrap_or(Path::new("")));
    Ok(command)
}

fn make(folder: &Path, kernel: Kernel, offer: &Offer, mirror: &str, events: &Events) -> Result<()> {
    let extra = match kernel {
        Kernel::Stock => &[],
        Kernel::Debug => DEBUG_PACKAGES,
    };
    let root = folder.join("tree");
    let preferences = folder.join("preferences");
    fs::write(&preferences, PREFERENCES).map_err(Error::file("write", &preferences))?;
    events.step(
        format!("install {SUITE} with compiler, kernel source and QEMU"),
        |step| {
            let hook = format!(
                "mkdir -p \"$1/etc/apt/preferences.d\" && cp '{}' \"$1/etc/apt/preferences.d/lab\"",
                preferences.display()
            );
            let packages: Vec<&str> = PACKAGES
                .iter()
                .chain(extra)
                .copied()
                .chain(offer.packages.iter().map(String::as_str))
                .collect();
            let mut command = mmdebstrap("apt", &packages, folder)?;
            command
                .arg(format!("--setup-hook={hook}"))
                .arg(SUITE)
                .arg(&root);
            command.args([source_line(mirror, SUITE), source_line(mirror, BACKPORTS)]);
            program::run(step, "making the tree (mmdebstrap)", command)
        },
    )?;
    let archive = offer
        .packages
        .iter()
        .find(|package| package.starts_with("linux-source-"))
        .map(|package| format!("/usr/src/{package}.tar.xz"))
        .unwrap_or_default();
    let release = kernel_release(kernel, &offer.release);
    let (what, script) = match kernel {
        Kernel::Stock => (
            "prepare the kernel source with its Rust metadata",
            KERNEL_SOURCE,
        ),
        Kernel::Debug => (
            "build the debug kernel (a quarter of an hour)",
            DEBUG_KERNEL,
        ),
    };
    events.step(what, |step| {
        let mut command = command(&root, None)?;
        command.args(["sh", "-c", script, "kernel", &release, &archive, SOURCE]);
        if kernel == Kernel::Debug {
            command.arg(DEBUG_CONFIG).args(DEBUG_MAKE);
        }
        program::run(step, "making the kernel", command)
    })?;
    let image = find_image(&root, &release)?;
    let kernel = folder.join("vmlinuz");
    fs::copy(&image, &kernel).map_err(Error::file("copy", &image))?;
    let modules = folder.join("modules.cpio");
    archive_modules(&root, &release, &modules).map_err(Error::file("write", &modules))
}

/// How dpkg installs into the tree: what only people read is left out, and nothing waits for the disk, since a tree that
/// was interrupted is thrown away.
const DPKG_OPTIONS: &[&str] = &[
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
];

/// The beginning of an mmdebstrap command; what it keeps for itself meanwhile lies in `scratch`.
///
/// # Errors
/// When root is not to be had.
pub fn mmdebstrap(variant: &str, packages: &[&str], scratch: &Path) -> Result<Command> {
    let mut command = host::confined()?;
    command
        .arg("env")
        .arg(format!("TMPDIR={}", scratch.display()));
    command.args(["mmdebstrap", "--mode=root", "--architectures=amd64"]);
    command.arg(format!("--variant={variant}"));
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    for option in host::acquire_options() {
        command.arg(format!("--aptopt={option}"));
    }
    for option in DPKG_OPTIONS {
        command.arg(format!("--dpkgopt={option}"));
    }
    command.arg(format!("--include={}", packages.join(",")));
    Ok(command)
}

/// One line of apt's sources.
#[must_use]
pub fn source_line(mirror: &str, suite: &str) -> String {
    format!("deb [signed-by={}] {mirror} {suite} main", host::KEYRING)
}

/// Packagings differ in where they put the kernel's image.
fn find_image(root: &Path, release: &str) -> Result<PathBuf> {
    let candidates = [
        root.join(format!("usr/lib/modules/{release}/vmlinuz.unsigned")),
        root.join(format!("usr/lib/modules/{release}/vmlinuz")),
        root.join(format!("boot/vmlinuz-{release}")),
    ];
    candidates
        .iter()
        .find(|path| path.exists())
        .cloned()
        .ok_or_else(|| {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            Error::file("find the kernel's image", &candidates[0])(error)
        })
}

/// All of the kernel's modules, as a real machine has them, and the selftests.
fn archive_modules(root: &Path, release: &str, target: &Path) -> std::io::Result<()> {
    let mut archive = Archive::new(std::io::BufWriter::new(fs::File::create(target)?));
    for folder in ["usr", "usr/lib", "usr/lib/modules", "usr/lib/kselftest"] {
        archive.folder(folder, 0o755)?;
    }
    let modules = format!("usr/lib/modules/{release}");
    archive.folder(&modules, 0o755)?;
    archive.tree(
        &format!("{modules}/kernel"),
        &root.join(&modules).join("kernel"),
    )?;
    for entry in fs::read_dir(root.join(&modules))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("modules.") {
            archive.tree(
                &format!("{modules}/{name}"),
                &root.join(&modules).join(&name),
            )?;
        }
    }
    for test in SELFTESTS {
        let folder = root
            .join(SOURCE.trim_start_matches('/'))
            .join("tools/testing/selftests")
            .join(test);
        archive.tree(&format!("usr/lib/kselftest/{test}"), &folder)?;
    }
    archive.finish()?.into_inner()?.sync_all()
}
