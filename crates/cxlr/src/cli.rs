// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line. Parser, help, manual page and completions all come from here.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help text, where backticks are noise"
)]

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use clap_complete::Shell;
use cxl_sysfs::Goal;
use region_policy::dax_mode::DaxMode;
use region_policy::extent::Tag;
use region_policy::online_type::OnlineType;

use crate::problem::EXIT_STATUSES;
use crate::size::Size;

/// Regions of CXL memory, each under its own driver and policy
///
/// A region is a range of physical addresses with one or more CXL memory devices (memdevs) behind it. cxlr creates regions,
/// chooses how their memory comes online before the first page of it does, plugs and unplugs them as a whole, and takes
/// them down, each in one transaction: when a step fails, all steps before it are undone in reverse order.
///
/// On a kernel with the region drivers (cxl_sysram_region, cxl_devdax_region) the policy belongs to the region and the
/// kernel keeps it. On a stock kernel cxlr does the best that the kernel offers and says what it used: the attribute state
/// or hotplug of a dax device where there is one, single memory blocks with rollback where there is none.
#[derive(Debug, Parser)]
#[command(name = "cxlr", version, after_help = exit_statuses(), disable_help_subcommand = true)]
pub struct Cli {
    /// Print JSON, with the key names of cxl-list(1) and daxctl-list(1) where they have them
    #[arg(long, global = true)]
    pub json: bool,

    /// Say every step on standard error; twice: every write to sysfs
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Work on the tree below this folder instead of the running system's
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FOLDER",
        default_value = "/"
    )]
    pub sysfs_root: PathBuf,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show buses, decoders, memdevs, regions with their driver and policy, dax devices and memory blocks
    #[command(visible_alias = "ls")]
    List,

    /// Create a region and bring its memory under a driver and a policy
    ///
    /// Named memdevs are put into an order that the topology accepts, where there is one. Without -d the root decoder with
    /// most room is chosen; without -s the region takes all that its memdevs can share.
    CreateRegion(CreateRegion),

    /// Give a region to another driver, or to the same one under another policy
    ///
    /// For regions that are there already, as those of firmware are: the kernel gives them to cxl_region, and their memory
    /// comes online by the system's default. First all memory of the region is unplugged; where that fails nothing is
    /// changed. Where a later step fails, the region is back with its driver, and its memory as it was.
    ///
    /// With devdax on a region that is devdax already, all its dax devices go to the driver of the mode, those that were
    /// created since included, or none does: a device that is in use keeps them all.
    Bind(Bind),

    /// Plug or unplug all memory of a region or of a dax device
    ///
    /// The device ends in the wanted state as a whole, counted block by block, or is as it was before. Memory changes its
    /// zone by way of being unplugged. Where kmem has the attribute state or hotplug, the kernel does each change in one
    /// step; where it has neither, blocks are taken offline one by one, with rollback, and come online together when kmem
    /// takes the device.
    Hotplug(Hotplug),

    /// Unplug regions and destroy them
    ///
    /// Nothing is taken apart unless all memory of all named regions could be unplugged. Regions that share a memdev are
    /// destroyed latest first, as the hardware demands.
    DestroyRegion(DestroyRegion),

    /// Show what the host has of dynamic capacity
    ///
    /// A region over dynamic capacity starts empty. The fabric gives it memory, extent by extent, and asks for it back. Extents
    /// with a tag belong together.
    Extents(Extents),

    /// Give extents back to the fabric
    ///
    /// Extents with a tag go together. Memory in use is freed first; what cannot be freed stays, and is named.
    ReleaseExtents(ReleaseExtents),

    /// Show extents that are there, and then what becomes of them, as it happens, until it is stopped
    ///
    /// Offers that are refused are shown as well, with the reason.
    Monitor,

    /// Print the manual page
    #[command(hide = true)]
    Man,

    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Options of `create-region`.
#[derive(Debug, Args)]
pub struct CreateRegion {
    /// Memdevs, in any order: mem0, serial:0x100, 0x100 (a serial too) or 0000:0d:00.0
    #[arg(required = true, value_name = "MEMDEV")]
    pub targets: Vec<String>,

    /// Targets are memdevs (accepted for compatibility with cxl-create-region(1))
    #[arg(short, long)]
    pub memdevs: bool,

    /// The partition that the memdevs give from
    #[arg(short = 't', long = "type", value_enum, default_value_t = Type::Ram, value_name = "TYPE")]
    pub mode: Type,

    /// The root decoder in whose window the region is created [default: the one with most room]
    #[arg(short, long, value_name = "DECODER")]
    pub decoder: Option<String>,

    /// How many memdevs; a check, since it is the number of the named ones
    #[arg(short, long)]
    pub ways: Option<u32>,

    /// After how many bytes the next memdev follows [default: as the root decoder has it]
    #[arg(short, long, value_name = "BYTES")]
    pub granularity: Option<Size>,

    /// Size in bytes, or with K, M, G or T (powers of 1024), or in hexadecimal; a multiple of 256 MiB times the number
    /// of memdevs [default: all that there is]
    #[arg(short, long)]
    pub size: Option<Size>,

    /// The identity of a persistent region [default: a random one]
    #[arg(short = 'U', long, value_parser = uuid)]
    pub uuid: Option<String>,

    /// Who takes the region
    #[arg(long, value_enum, value_name = "DRIVER")]
    pub driver: Option<Driver>,

    /// What is wanted of the driver.
    #[command(flatten)]
    pub policy: Policy,

    /// Show the steps, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Options of `bind`.
#[derive(Debug, Args)]
pub struct Bind {
    /// A region
    #[arg(value_name = "REGION")]
    pub region: String,

    /// Who takes the region
    #[arg(long, value_enum, value_name = "DRIVER")]
    pub driver: Driver,

    /// What is wanted of the driver.
    #[command(flatten)]
    pub policy: Policy,

    /// Show the steps, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// What a region's driver is told before it has the memory.
#[derive(Debug, Clone, Copy, Args)]
pub struct Policy {
    /// How its memory comes online, decided before the first page does [default with sysram: online_movable, which can
    /// be unplugged again]
    #[arg(long, visible_alias = "auto-online", value_parser = online_type(), value_name = "ONLINE_TYPE")]
    pub online_type: Option<OnlineType>,

    /// Let dynamic capacity into a kernel zone (online, online_kernel), from which it may never come back
    #[arg(long)]
    pub allow_kernel_zones: bool,

    /// What applications find with devdax: decided before the first dax device is there [default: devdax]
    #[arg(long, value_parser = dax_mode(), value_name = "DAX_MODE")]
    pub dax_mode: Option<DaxMode>,
}

/// Options of `hotplug`.
#[derive(Debug, Args)]
pub struct Hotplug {
    /// A region (region0) or a dax device (dax0.0)
    #[arg(value_name = "REGION|DAX")]
    pub device: String,

    /// What all of its memory shall be
    #[arg(value_parser = goal())]
    pub state: Goal,
}

/// Options of `destroy-region`.
#[derive(Debug, Args)]
pub struct DestroyRegion {
    /// Regions
    #[arg(required = true, value_name = "REGION")]
    pub regions: Vec<String>,

    /// Show the steps, and do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Options of `extents`.
#[derive(Debug, Args)]
pub struct Extents {
    /// A region [default: all]
    #[arg(value_name = "REGION")]
    pub region: Option<String>,
}

/// Options of `release-extents`.
#[derive(Debug, Args)]
pub struct ReleaseExtents {
    /// A region
    #[arg(value_name = "REGION")]
    pub region: String,

    /// Only those with this tag
    #[arg(long, value_parser = tag, value_name = "UUID", conflicts_with = "id")]
    pub tag: Option<Tag>,

    /// Only the one with this number, and those that belong to it
    #[arg(long, value_name = "N")]
    pub id: Option<u32>,
}

/// The partition that memdevs give from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// Volatile memory
    Ram,
    /// Persistent memory
    Pmem,
    /// Dynamic capacity: the region starts empty, and the fabric gives it memory and takes it back
    Dc,
}

/// Who takes a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// cxl_sysram_region: system RAM under the region's own policy; the stock drivers under the same policy where it is
    /// not loaded [default for ram and dc]
    Sysram,
    /// cxl_devdax_region: applications map the memory themselves, and it never becomes system RAM; the stock drivers where
    /// it is not loaded, which do not promise the latter
    Devdax,
    /// cxl_region, the stock driver: the system default decides, unless --online-type does [default for pmem]
    Auto,
    /// Nobody: the region stays committed and unused
    None,
}

/// The end of the help.
fn exit_statuses() -> String {
    let lines = EXIT_STATUSES.map(|(status, meaning)| format!("\n  {status}  {meaning}"));
    format!("Exit status:{}", lines.concat())
}

fn tag(text: &str) -> Result<Tag, &'static str> {
    Tag::parse(text.as_bytes())
        .ok_or("a tag looks like 5be13bce-ae34-4a77-b6c3-16df975fcf1a, and is not all zeros")
}

/// Five groups of hexadecimal digits.
fn uuid(text: &str) -> Result<String, &'static str> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    let digits = groups
        .iter()
        .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if digits && lengths.eq([8, 4, 4, 4, 12]) {
        Ok(text.to_owned())
    } else {
        Err("a uuid looks like 6b2e9b1c-5d0a-4a70-9b63-2f3c1f0f7a11")
    }
}

fn online_type() -> impl clap::builder::TypedValueParser<Value = OnlineType> {
    use clap::builder::TypedValueParser as _;
    let words = OnlineType::ALL
        .map(|online_type| PossibleValue::new(online_type.as_str()).help(meaning(online_type)));
    clap::builder::PossibleValuesParser::new(words)
        .try_map(|word| OnlineType::parse(word.as_bytes()).ok_or("not an online type"))
}

fn dax_mode() -> impl clap::builder::TypedValueParser<Value = DaxMode> {
    use clap::builder::TypedValueParser as _;
    let words = DaxMode::ALL.map(|mode| {
        PossibleValue::new(mode.as_str()).help(match mode {
            DaxMode::Devdax => "A character device that is mapped (device_dax)",
            DaxMode::Fsdev => "A device for a file system such as famfs (fsdev_dax)",
        })
    });
    clap::builder::PossibleValuesParser::new(words)
        .try_map(|word| DaxMode::parse(word.as_bytes()).ok_or("not a mode"))
}

/// What an online type means, for the help.
fn meaning(online_type: OnlineType) -> &'static str {
    match online_type {
        OnlineType::Offline => "There, and not used",
        OnlineType::Online => "Online in the zone that the kernel chooses",
        OnlineType::OnlineKernel => {
            "Online in a kernel zone: usable for all, and may never come back"
        }
        OnlineType::OnlineMovable => "Online in the movable zone: can be unplugged again",
    }
}

fn goal() -> impl clap::builder::TypedValueParser<Value = Goal> {
    use clap::builder::TypedValueParser as _;
    let plugged = |online_type: OnlineType| {
        PossibleValue::new(online_type.as_str()).help(meaning(online_type))
    };
    let words = [
        PossibleValue::new("unplugged")
            .alias("unplug")
            .help("No block of it is there; takes blocks offline first"),
        plugged(OnlineType::Online),
        plugged(OnlineType::OnlineKernel),
        plugged(OnlineType::OnlineMovable),
    ];
    clap::builder::PossibleValuesParser::new(words).try_map(|word| word.parse::<Goal>())
}
