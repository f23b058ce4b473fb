// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that `lab` understands.

mod bench;
mod demo;
mod run;
mod shell;
mod walk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use clap::Subcommand;
use lab::Boot;
use lab::Events;
use lab::Install;
use lab::Lab;
use lab::Result;
use lab::cache::Cache;
use lab::screen;
use lab::topology::catalogue;
use lab::tree::Kernel;

/// The exit status when the lab itself failed, not what ran in it.
pub const LAB_FAILED: u8 = 125;

/// Real kernels with emulated CXL memory.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: that of the command that ran in the guest (128 and the signal's \
number where one killed it, 127 where it could not start); 125 where the lab itself failed.\n\n\
Environment: CXL_LAB_CACHE (the cache's folder), CXL_LAB_MIRROR (a Debian mirror), CXL_LAB_ACCEL (kvm or tcg)."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print events as JSON lines on standard output, instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make everything that guests need: tree, kernel modules, programs.
    Prepare {
        #[command(flatten)]
        kernel: KernelArguments,
    },
    /// List the topologies.
    Topologies,
    /// Run a command in a fresh guest, stream its output and exit with its status.
    Run {
        #[command(flatten)]
        guest: GuestArguments,
        /// The command and its arguments; it starts in /copy.
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Work in a fresh guest.
    Shell {
        #[command(flatten)]
        guest: GuestArguments,
    },
    /// Show the main job as a narrated tour, and the same steps on a stock kernel.
    Demo,
    /// Measure the stock drivers and ours side by side.
    Bench(bench::Options),
    /// Walk at random: ours, stock tools and hostile agents in any order, every promise checked after each step.
    Walk {
        #[command(flatten)]
        kernel: KernelArguments,
        #[command(flatten)]
        options: walk::Options,
    },
    /// Build the kernel modules.
    Modules {
        /// Check them with the kernel's clippy.
        #[arg(long)]
        clippy: bool,
        /// Check their format with the kernel's rustfmt.
        #[arg(long)]
        fmt_check: bool,
    },
    /// Remove everything that was made.
    Clean,
}

/// Which kernel the guests run.
#[derive(clap::Args)]
struct KernelArguments {
    /// The kernel.
    #[arg(long, value_enum, default_value_t)]
    kernel: Kernel,
}

impl KernelArguments {
    fn open(&self, events: &Events) -> Result<Lab> {
        Lab::open_with(self.kernel, events)
    }
}

/// What guest to boot.
#[derive(clap::Args)]
struct GuestArguments {
    /// The hardware; 'lab topologies' lists what there is.
    #[arg(long, value_name = "NAME")]
    topology: String,
    /// Load our kernel modules; otherwise they are installed, and loaded when something asks for them.
    #[arg(long, conflicts_with = "stock")]
    modules: bool,
    /// Leave our kernel modules out: a stock Debian.
    #[arg(long)]
    stock: bool,
    /// A file or folder to be found below /copy, under its own name.
    #[arg(long, value_name = "PATH")]
    copy: Vec<PathBuf>,
    #[command(flatten)]
    kernel: KernelArguments,
    /// Arguments to add to the kernel's command line.
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    append: Vec<String>,
}

impl GuestArguments {
    /// The command line is checked before anything is made.
    fn boot_in(self, events: &Events) -> Result<(Boot, Lab)> {
        let kernel = self.kernel.kernel;
        Ok((self.boot()?, Lab::open_with(kernel, events)?))
    }

    fn boot(self) -> Result<Boot> {
        let install = match (self.modules, self.stock) {
            (true, _) => Install::Loaded,
            (false, true) => Install::Stock,
            (false, false) => Install::Installed,
        };
        let boot = Boot::new(catalogue::find(&self.topology)?).modules(install);
        let boot = self.append.into_iter().fold(boot, Boot::append);
        Ok(self.copy.into_iter().fold(boot, Boot::copy))
    }
}

/// Does what the command line says.
///
/// # Errors
/// When the lab fails.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let json = arguments.json;
    let events = Events::new(if json {
        screen::for_programs()
    } else {
        screen::for_people()
    });
    match arguments.command {
        Command::Prepare { kernel } => {
            let lab = kernel.open(&events)?;
            events.notice(format!(
                "ready: {} with kernel {}",
                lab.cache().root().display(),
                lab.tree().release()
            ));
        }
        Command::Topologies => list_topologies(json),
        Command::Run { guest, argv } => {
            let (boot, lab) = guest.boot_in(&events)?;
            return run::run(&lab, boot, argv, json);
        }
        Command::Shell { guest } => {
            let (boot, lab) = guest.boot_in(&events)?;
            return shell::run(&lab, boot);
        }
        Command::Demo => {
            let started = Instant::now();
            return demo::run(&Lab::open(&events)?, started, json);
        }
        Command::Bench(options) => {
            let topologies = options.topologies()?;
            return bench::run(&Lab::open(&events)?, &options, &topologies, json);
        }
        Command::Walk { kernel, options } => return walk::run(&kernel.open(&events)?, &options),
        Command::Modules { clippy, fmt_check } => {
            if clippy || fmt_check {
                lab::lab::lint_modules(&events, clippy, fmt_check)?;
            } else if let Some(modules) = lab::lab::build_modules(&events)? {
                for file in modules.files()? {
                    println!("{}", file.display());
                }
            }
        }
        Command::Clean => Cache::open()?.clean(&events)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list_topologies(json: bool) {
    for topology in catalogue::all() {
        if json {
            println!("{}", serde_json::json!(topology));
        } else {
            println!("{:18} {}", topology.name, topology.description);
        }
    }
}
