// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab as a whole: everything made, guests can be booted.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use rustix::fs::MemfdFlags;

use crate::accelerator;
use crate::binaries;
use crate::binaries::Binaries;
use crate::cache::Cache;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::event::Events;
use crate::guest;
use crate::guest::Guest;
use crate::host;
use crate::image;
use crate::image::Image;
use crate::later_tools;
use crate::modules;
use crate::modules::Found;
use crate::modules::Modules;
use crate::qemu;
use crate::qemu::Accelerator;
use crate::topology::MemoryDevice;
use crate::topology::Topology;
use crate::tree::Kernel;
use crate::tree::Tree;
use crate::userland;

/// Warnings reach the console, so that a guest that dies can still tell why; all else goes through the agent. A kernel
/// that stumbled is not worth talking to: it panics, and a panic ends QEMU.
const COMMAND_LINE: &[&str] = &[
    "console=ttyS0",
    "loglevel=5",
    "printk.devkmsg=on",
    "log_buf_len=4M",
    "oops=panic",
    "panic=-1",
    // On a busy host the guest's processor may pause for longer than these two checks of its clocks allow: the first
    // would panic, the second give the fast clock up.
    "no_timer_check",
    "tsc=nowatchdog",
];

/// The guest in which KVM is tried, before all that do something.
pub(crate) const PROBE: u64 = 0;

/// What becomes of the project's kernel modules in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Install {
    /// They are not there: a stock Debian.
    Stock,
    /// They are installed where modprobe prefers them, and loaded when something asks for them.
    Installed,
    /// They are installed and loaded.
    Loaded,
}

/// How to boot a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    topology: Topology,
    install: Install,
    append: Vec<String>,
    copies: Vec<PathBuf>,
    kexec: bool,
    later_tools: bool,
}

impl Boot {
    /// A stock guest on `topology`.
    #[must_use]
    pub fn new(topology: Topology) -> Self {
        Self {
            topology,
            install: Install::Stock,
            append: Vec::new(),
            copies: Vec::new(),
            kexec: false,
            later_tools: false,
        }
    }

    /// Says what becomes of the project's modules.
    #[must_use]
    pub fn modules(mut self, install: Install) -> Self {
        self.install = install;
        self
    }

    /// Has `cxl`, `daxctl` and `ndctl` as the next release of Debian will, in place of the guest's own.
    #[must_use]
    pub fn later_tools(mut self) -> Self {
        self.later_tools = true;
        self
    }

    /// Adds to the kernel's command line.
    #[must_use]
    pub fn append(mut self, arguments: impl Into<String>) -> Self {
        self.append.push(arguments.into());
        self
    }

    /// Adds a file or folder of the host, which appears below `/copy` under its own name.
    #[must_use]
    pub fn copy(mut self, path: impl Into<PathBuf>) -> Self {
        self.copies.push(path.into());
        self
    }

    /// Gives the guest what it needs to start its kernel anew: see [`Guest::kexec`].
    #[must_use]
    pub fn with_kexec(mut self) -> Self {
        self.kexec = true;
        self
    }
}

/// Everything that guests are made of.
pub struct Lab {
    cache: Cache,
    tree: Tree,
    userland: PathBuf,
    binaries: Binaries,
    modules: Option<Modules>,
    accelerator: Accelerator,
    events: Events,
    guests: AtomicU64,
}

impl Lab {
    /// Opens the lab, making whatever is not in the cache yet.
    ///
    /// # Errors
    /// One clear sentence when something cannot be made.
    pub fn open(events: &Events) -> Result<Self> {
        Self::open_with(Kernel::Stock, events)
    }

    /// The same, for guests that run that kernel.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(kernel: Kernel, events: &Events) -> Result<Self> {
        let cache = Cache::open()?;
        accelerator::asked_for()?;
        host::ensure_packages(events)?;
        let Made {
            tree,
            userland,
            modules,
            binaries,
            accelerator,
        } = match find(&cache, kernel, events)? {
            Some(made) => made,
            None => make(&cache, kernel, events)?,
        };
        Ok(Self {
            cache,
            tree,
            userland,
            binaries,
            modules,
            accelerator,
            events: events.clone(),
            guests: AtomicU64::new(PROBE + 1),
        })
    }

    /// The tree that guests and modules come from.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The project's modules, where their sources exist.
    #[must_use]
    pub fn modules(&self) -> Option<&Modules> {
        self.modules.as_ref()
    }

    /// Where the lab keeps what it made.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// How guests run on this machine.
    #[must_use]
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// The stream that this lab's events go to.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Boots a guest and waits until it is ready: all hardware enumerated, nothing pending.
    ///
    /// # Errors
    /// When it does not get there, with the end of its console.
    pub fn boot(&self, boot: Boot) -> Result<Guest> {
        let started = Instant::now();
        let install = boot.install;
        let guest = self.start(boot)?;
        self.events.emit(&Event::BootStarted {
            guest: guest.id(),
            topology: guest.topology().name.to_owned(),
            accelerator: guest.accelerator().to_owned(),
        });
        guest.wait_for_agent(guest::HANG)?;
        guest.wait_for_coldplug()?;
        guest.wait_for_hardware()?;
        if install == Install::Loaded {
            guest.load_modules()?;
        }
        self.events.emit(&Event::BootEnded {
            guest: guest.id(),
            seconds: guest::since(started),
        });
        Ok(guest)
    }

    /// Boots two guests at once whose memory devices are the same: each finds there what the other wrote.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn boot_pair(&self, mut boot: Boot) -> Result<(Guest, Guest)> {
        // In memory, and open until both QEMUs have opened them as well.
        let files: Vec<File> = boot
            .topology
            .memory_devices_mut()
            .map(share)
            .collect::<Result<_>>()?;
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(|| self.boot(boot.clone()));
            (self.boot(boot.clone()), join(other))
        });
        drop(files);
        Ok((one?, other?))
    }

    fn start(&self, mut boot: Boot) -> Result<Guest> {
        let modules = match (boot.install, &self.modules) {
            (Install::Stock, _) => None,
            (_, Some(modules)) => Some(modules),
            (_, None) => {
                return Err(Error::Host {
                    what: "the project's modules are to be installed, but kernel/Kbuild does not exist".into(),
                    remedy: "boot a stock guest".into(),
                });
            }
        };
        if boot.kexec {
            // The image is in memory already; so it stays there, and can be read.
            boot.append.push("retain_initrd".to_owned());
            boot.copies.push(self.tree.kernel());
        }
        let id = self.guests.fetch_add(1, Ordering::Relaxed);
        let later_tools = boot
            .later_tools
            .then(|| later_tools::ensure(&self.cache, &self.events))
            .transpose()?;
        let image = image::build(&image::Contents {
            userland: &self.userland,
            later_tools: later_tools.as_deref(),
            tree: &self.tree,
            binaries: &self.binaries,
            modules,
            copies: &boot.copies,
        })?;
        launch(
            id,
            &self.tree,
            boot.topology,
            self.accelerator,
            image,
            &boot.append,
            &self.events,
        )
    }
}

/// Starts a guest that holds `image`.
pub(crate) fn launch(
    id: u64,
    tree: &Tree,
    topology: Topology,
    accelerator: Accelerator,
    image: Image,
    append: &[String],
    events: &Events,
) -> Result<Guest> {
    let words = [COMMAND_LINE, accelerator.command_line()].concat();
    let append = append.iter().map(String::as_str);
    let command_line: Vec<&str> = words.into_iter().chain(append).collect();
    let command_line = command_line.join(" ");
    let qemu = qemu::start(tree, &topology, accelerator, &image.path(), &command_line)?;
    Guest::new(
        id,
        topology,
        accelerator.name(),
        command_line,
        qemu,
        image,
        events,
    )
}

/// Puts all memory of a device into a file that has no name.
fn share(device: &mut MemoryDevice) -> Result<File> {
    let failed =
        |error: rustix::io::Errno| Error::file("create in memory", "lab-shared")(error.into());
    let file = rustix::fs::memfd_create("lab-shared", MemfdFlags::CLOEXEC).map_err(failed)?;
    rustix::fs::ftruncate(&file, device.bytes()).map_err(failed)?;
    let file = File::from(file);
    device.file = Some(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        file.as_raw_fd()
    ));
    Ok(file)
}

/// What guests are made of.
struct Made {
    tree: Tree,
    userland: PathBuf,
    modules: Option<Modules>,
    binaries: Binaries,
    accelerator: Accelerator,
}

/// Finds everything in the cache, without its lock; nothing where something is missing.
fn find(cache: &Cache, kernel: Kernel, events: &Events) -> Result<Option<Made>> {
    let (Some(tree), Some(userland)) = (Tree::find(cache, kernel), userland::find(cache)) else {
        return Ok(None);
    };
    let modules = match Modules::find(cache, &tree, repository())? {
        Found::NoSources => None,
        Found::Built(modules) => Some(modules),
        Found::NotBuilt => return Ok(None),
    };
    let binaries = binaries::ensure(repository(), events)?;
    let accelerator = accelerator::choose(cache, &tree, &binaries.agent, events)?;
    Ok(Some(Made {
        tree,
        userland,
        modules,
        binaries,
        accelerator,
    }))
}

/// Makes what is missing, all that does not wait for another at once.
fn make(cache: &Cache, kernel: Kernel, events: &Events) -> Result<Made> {
    if kernel == Kernel::Debug {
        Tree::ensure(&cache.lock_apart(events)?, kernel, events)?;
    }
    let maker = cache.lock(events)?;
    thread::scope(|scope| {
        let userland = scope.spawn(|| userland::ensure(&maker, events));
        let binaries = scope.spawn(|| binaries::ensure(repository(), events));
        // It takes longest.
        let tree = Tree::ensure(&maker, kernel, events)?;
        let modules = scope.spawn({
            let (maker, tree) = (&maker, tree.clone());
            move || Modules::ensure(maker, &tree, repository(), events)
        });
        let binaries = join(binaries)?;
        let accelerator = accelerator::choose(cache, &tree, &binaries.agent, events)?;
        Ok(Made {
            tree,
            userland: join(userland)?,
            modules: join(modules)?,
            binaries,
            accelerator,
        })
    })
}

/// Builds the modules under clippy and checks their format, in the tree.
///
/// # Errors
/// What clippy or rustfmt says.
pub fn lint_modules(events: &Events, clippy: bool, format: bool) -> Result<()> {
    host::ensure_packages(events)?;
    let cache = Cache::open()?;
    let maker = cache.lock(events)?;
    let tree = Tree::ensure(&maker, Kernel::Stock, events)?;
    if format {
        modules::check_format(&maker, &tree, repository(), events)?;
    }
    if clippy {
        modules::clippy(&maker, &tree, repository(), events)?;
    }
    Ok(())
}

/// Builds the modules alone, for those who work on them.
///
/// # Errors
/// What the compiler says.
pub fn build_modules(events: &Events) -> Result<Option<Modules>> {
    host::ensure_packages(events)?;
    let cache = Cache::open()?;
    let maker = cache.lock(events)?;
    let tree = Tree::ensure(&maker, Kernel::Stock, events)?;
    Modules::ensure(&maker, &tree, repository(), events)
}

/// The repository that this lab was built from.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
