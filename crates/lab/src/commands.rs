// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that `lab` understands.

mod bench;
mod demo;
mod run;
mod shell;
mod walk;

use std::fmt::Display;
use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use clap::Subcommand;
use lab::Boot;
use lab::Error;
use lab::Events;
use lab::Install;
use lab::Lab;
use lab::Result;
use lab::cache::Cache;
use lab::event::Event;
use lab::image;
use lab::screen;
use lab::topology::catalogue;
use lab::tree::Kernel;

/// The exit status when the lab itself failed, not what ran in it.
const LAB_FAILED: u8 = 125;

/// The exit status when whoever read the output has gone: that of a program which `SIGPIPE` ended.
const UNREAD: u8 = 128 + 13;

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
        image::copies(&self.copy)?;
        let boot = self.append.into_iter().fold(boot, Boot::append);
        Ok(self.copy.into_iter().fold(boot, Boot::copy))
    }
}

/// Where commands say what they were asked for: on standard output for people, as events for programs.
struct Voice {
    json: bool,
    events: Events,
}

impl Voice {
    fn new(json: bool) -> Self {
        let sink = if json {
            screen::for_programs()
        } else {
            screen::for_people()
        };
        Self {
            json,
            events: Events::new(sink),
        }
    }

    /// Says `event` in the words `text`.
    fn say(&self, event: &Event, text: impl Display) -> Result<()> {
        if self.json {
            self.events.emit(event);
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .map_err(Error::output)
    }
}

/// Does what the command line says, and answers with the exit status.
pub fn run(arguments: Arguments) -> ExitCode {
    let voice = Voice::new(arguments.json);
    match execute(arguments.command, &voice) {
        Ok(status) => status,
        Err(Error::Unread) => ExitCode::from(UNREAD),
        Err(error) => {
            voice.events.emit(&Event::Failed {
                error: error.to_string(),
            });
            ExitCode::from(LAB_FAILED)
        }
    }
}

fn execute(command: Command, voice: &Voice) -> Result<ExitCode> {
    let Voice { json, ref events } = *voice;
    match command {
        Command::Prepare { kernel } => {
            let lab = kernel.open(events)?;
            events.notice(format!(
                "ready: {} with kernel {}",
                lab.cache().root().display(),
                lab.tree().release()
            ));
        }
        Command::Topologies => {
            for topology in catalogue::all() {
                let line = format!("{:18} {}", topology.name, topology.description);
                let topology = Box::new(topology);
                voice.say(&Event::Topology { topology }, line)?;
            }
        }
        Command::Run { guest, argv } => {
            let (boot, lab) = guest.boot_in(events)?;
            return run::run(&lab, boot, argv, json);
        }
        Command::Shell { guest } => {
            shell::check(json)?;
            let (boot, lab) = guest.boot_in(events)?;
            return shell::run(&lab, boot);
        }
        Command::Demo => {
            let started = Instant::now();
            return demo::run(&Lab::open(events)?, started, json);
        }
        Command::Bench(options) => {
            let topologies = options.topologies()?;
            return bench::run(&Lab::open(events)?, &options, &topologies, voice);
        }
        Command::Walk { kernel, options } => {
            return walk::run(&kernel.open(events)?, &options, voice);
        }
        Command::Modules { clippy, fmt_check } => {
            if clippy || fmt_check {
                lab::lab::lint_modules(events, clippy, fmt_check)?;
            } else if let Some(modules) = lab::lab::build_modules(events)? {
                for path in modules.files()? {
                    let line = path.display().to_string();
                    voice.say(&Event::Module { path }, line)?;
                }
            }
        }
        Command::Clean => Cache::open()?.clean(events)?,
    }
    Ok(ExitCode::SUCCESS)
}
