// SPDX-License-Identifier: MIT OR Apache-2.0
//! One function per subcommand: read, plan, carry out, show.

use std::io;
use std::io::Write;
use std::path::Path;
use std::process;

use clap::CommandFactory;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Sysfs;
use cxl_sysfs::Tree;
use cxl_sysfs::device::DAX_AUTOPROBE;
use region_policy::dax_mode::DaxMode;
use region_policy::matrix::PartitionMode;
use region_policy::matrix::RegionDriver;
use region_policy::online_type::OnlineType;
use serde_json::json;

use crate::cli::Bind;
use crate::cli::Cli;
use crate::cli::Command;
use crate::cli::CreateRegion;
use crate::cli::DestroyRegion;
use crate::cli::Driver;
use crate::cli::Extents;
use crate::cli::Hotplug;
use crate::cli::Policy;
use crate::cli::ReleaseExtents;
use crate::cli::Type;
use crate::interrupt::Interrupt;
use crate::list;
use crate::plan;
use crate::plan::Step;
use crate::plan::attach::Wanted;
use crate::plan::attach::Way;
use crate::plan::create::Request;
use crate::problem::Failure;
use crate::problem::Problem;
use crate::problem::Refusal;
use crate::release;
use crate::release::Which;
use crate::settings;
use crate::transaction;

/// Does what the command line says.
///
/// # Errors
/// What stood in the way; [`Problem::exit_status`] tells it to the shell.
pub fn run(cli: &Cli) -> Result<(), Problem> {
    let tree = Sysfs::at(&cli.sysfs_root);
    match &cli.command {
        Command::List => print(cli, &list::Listing::read(&tree)?),
        Command::CreateRegion(options) => create_region(cli, &tree, options),
        Command::Bind(options) => bind(cli, &tree, options),
        Command::Hotplug(options) => hotplug(cli, &tree, options),
        Command::DestroyRegion(options) => destroy_region(cli, &tree, options),
        Command::Extents(options) => show_extents(cli, &tree, options),
        Command::ReleaseExtents(options) => release_extents(cli, &tree, options),
        Command::Monitor => {
            release::there_can_be_any(&Snapshot::read(&tree)?)?;
            let mut out = io::stdout().lock();
            crate::monitor::run(&tree, tree.is_live(), cli.json, &mut out)
        }
        Command::Man => output(|out| out.write_all(&manual_page()?)),
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "cxlr", &mut completions);
            output(|out| out.write_all(&completions))
        }
    }
}

fn create_region(cli: &Cli, tree: &Sysfs, options: &CreateRegion) -> Result<(), Problem> {
    let request = request(tree, options)?;
    let (_lock, interrupt) = begin(tree)?;
    let plan = plan_with_driver(tree, request.wanted, options.dry_run, |snapshot| {
        Ok(plan::create::plan(snapshot, &request)?)
    })?;
    if options.dry_run {
        return show_steps(cli, &plan.steps);
    }
    transaction::run(tree, &interrupt, &plan.steps)?;
    let done = format!("created {}", plan.region);
    shown(show_region(cli, tree, &done, &plan.region, plan.way));
    Ok(())
}

fn bind(cli: &Cli, tree: &Sysfs, options: &Bind) -> Result<(), Problem> {
    let wanted = wanted(options.driver, options.policy);
    let (_lock, interrupt) = begin(tree)?;
    let plan = plan_with_driver(tree, wanted, options.dry_run, |snapshot| {
        plan::bind::plan(tree, snapshot, &options.region, wanted)
    })?;
    if options.dry_run {
        return show_steps(cli, &plan.steps);
    }
    transaction::run(tree, &interrupt, &plan.steps)?;
    let changed = if plan.steps.is_empty() {
        "already"
    } else {
        "now"
    };
    let driver = plan.way.driver().unwrap_or("no driver");
    let done = format!("{} is {changed} with {driver}", options.region);
    shown(show_region(cli, tree, &done, &options.region, plan.way));
    Ok(())
}

/// What was done is done, whether it can be shown or not: only the latter is told, and the exit status is that of success.
fn shown(result: Result<(), Problem>) {
    if let Err(problem) = result {
        eprintln!("cxlr: done, but the result cannot be shown: {problem}");
    }
}

/// Shows what became of a region, and in which way.
fn show_region(cli: &Cli, tree: &Sysfs, done: &str, name: &str, way: Way) -> Result<(), Problem> {
    let listing = list::Listing::read(tree)?;
    let detected = detected(tree, &listing.snapshot, way);
    if cli.json {
        let mut region = list::json::region(&listing, name);
        region["detected"] = json!(detected);
        return print_json(&region);
    }
    let region = list::text::region(&listing, name);
    output(|out| write!(out, "{done}\n{region}detected: {detected}\n"))
}

/// How a way is told to the user, and what would be better where it is at hand.
fn detected(tree: &Sysfs, snapshot: &Snapshot, way: Way) -> String {
    let told = way.detected();
    let loaded = snapshot
        .cxl_drivers
        .iter()
        .any(|name| name == RegionDriver::Sysram.name());
    if matches!(way, Way::Held(_)) && !loaded && tree.is_live() && is_installed("cxl_regions") {
        format!(
            "{told}. Region drivers are installed: modprobe cxl_regions keeps the policy of the next region"
        )
    } else {
        told
    }
}

fn is_installed(module: &str) -> bool {
    let modinfo = process::Command::new("modinfo")
        .arg(module)
        .stdout(process::Stdio::null())
        .stderr(process::Stdio::null())
        .status();
    modinfo.is_ok_and(|status| status.success())
}

fn hotplug(cli: &Cli, tree: &Sysfs, options: &Hotplug) -> Result<(), Problem> {
    let (_lock, interrupt) = begin(tree)?;
    let plan = plan::hotplug::plan(tree, &Snapshot::read(tree)?, &options.device, options.state)?;
    transaction::run(tree, &interrupt, &plan.steps)?;
    shown(show_devices(cli, tree, options, &plan));
    Ok(())
}

/// Shows what became of dax devices, and in which way.
fn show_devices(
    cli: &Cli,
    tree: &Sysfs,
    options: &Hotplug,
    plan: &plan::hotplug::Plan,
) -> Result<(), Problem> {
    let listing = list::Listing::read(tree)?;
    let names: Vec<&str> = plan.devices.iter().map(|(name, _)| name.as_str()).collect();
    let detected = plan
        .devices
        .iter()
        .map(|(name, mechanism)| mechanism.detected(name));
    if cli.json {
        let devices = list::json::dax_devices(&listing, &names);
        return print_json(
            &json!({ "devices": devices, "detected": detected.collect::<Vec<_>>() }),
        );
    }
    let changed = if plan.steps.is_empty() {
        "already"
    } else {
        "now"
    };
    let devices = list::text::dax_devices(&listing, &names);
    output(|out| {
        writeln!(out, "{} is {changed} {}", options.device, options.state)?;
        out.write_all(devices.as_bytes())?;
        detected
            .into_iter()
            .try_for_each(|detected| writeln!(out, "detected: {detected}"))
    })
}

fn destroy_region(cli: &Cli, tree: &Sysfs, options: &DestroyRegion) -> Result<(), Problem> {
    let (_lock, interrupt) = begin(tree)?;
    let steps = plan::destroy::plan(tree, &Snapshot::read(tree)?, &options.regions)?;
    if options.dry_run {
        return show_steps(cli, &steps);
    }
    transaction::run(tree, &interrupt, &steps)?;
    shown(if cli.json {
        print_json(&json!({ "destroyed": options.regions }))
    } else {
        output(|out| writeln!(out, "destroyed {}", options.regions.join(" ")))
    });
    Ok(())
}

fn show_extents(cli: &Cli, tree: &Sysfs, options: &Extents) -> Result<(), Problem> {
    let snapshot = Snapshot::read(tree)?;
    let extents = if let Some(region) = &options.region {
        release::extents_of(&snapshot, region)?
    } else {
        release::there_can_be_any(&snapshot)?;
        snapshot.extents.iter().collect()
    };
    if cli.json {
        return print_json(&extents.into_iter().map(list::json::extent).collect());
    }
    output(|out| {
        extents
            .into_iter()
            .try_for_each(|extent| writeln!(out, "{}", list::text::extent_line(extent)))
    })
}

fn release_extents(cli: &Cli, tree: &Sysfs, options: &ReleaseExtents) -> Result<(), Problem> {
    let (_lock, interrupt) = begin(tree)?;
    let which = match (options.tag, options.id) {
        (Some(tag), _) => Which::Tagged(tag),
        (None, Some(number)) => Which::Numbered(number),
        (None, None) => Which::All,
    };
    let chosen = release::choose(&Snapshot::read(tree)?, &options.region, which)?;
    release::run(tree, &interrupt, &chosen)?;
    shown(if cli.json {
        print_json(&json!({ "released": chosen }))
    } else {
        output(|out| writeln!(out, "gave back {}", chosen.join(" ")))
    });
    Ok(())
}

/// Takes the lock before anything is read, so that the snapshot still holds when it is acted upon.
fn begin(tree: &Sysfs) -> Result<(cxl_sysfs::tree::Guard, Interrupt), Problem> {
    let lock = tree.lock().map_err(|error| match error {
        error if error.is_missing() => Problem::Refused(
            Refusal::new(
                "this machine has no CXL bus",
                "the kernel's CXL core creates it",
                "load it: modprobe -a cxl_acpi cxl_pci cxl_mem",
            )
            .at("/sys/bus/cxl"),
        ),
        error => Problem::Unreadable(error),
    })?;
    let interrupt = Interrupt::listen().map_err(Problem::Output)?;
    settings::put_back(tree).map_err(Problem::Unreadable)?;
    Ok((lock, interrupt))
}

/// The command line as a request; what contradicts itself is refused here.
fn request(tree: &dyn Tree, options: &CreateRegion) -> Result<Request, Problem> {
    let mode = match options.mode {
        Type::Ram => PartitionMode::Ram,
        Type::Pmem => PartitionMode::Pmem,
        Type::Dc => PartitionMode::DynamicCapacity,
    };
    let driver = options.driver.unwrap_or(match mode {
        PartitionMode::Ram | PartitionMode::DynamicCapacity => Driver::Sysram,
        PartitionMode::Pmem => Driver::Auto,
    });
    let wanted = wanted(driver, options.policy);
    let uuid = match (mode, &options.uuid) {
        (PartitionMode::Pmem, Some(uuid)) => Some(uuid.clone()),
        (PartitionMode::Pmem, None) => Some(
            tree.read(Path::new("/proc/sys/kernel/random/uuid"))?
                .trim()
                .to_owned(),
        ),
        (_, Some(_)) => {
            usage("--uuid is for persistent regions: volatile memory has no identity to keep")
        }
        (_, None) => None,
    };
    Ok(Request {
        memdevs: options.targets.clone(),
        mode,
        decoder: options.decoder.clone(),
        ways: options.ways,
        granularity: options.granularity.map(|granularity| granularity.0),
        size: options.size,
        uuid,
        wanted,
    })
}

fn wanted(driver: Driver, policy: Policy) -> Wanted {
    let Policy {
        online_type,
        allow_kernel_zones,
        dax_mode,
    } = policy;
    if allow_kernel_zones && driver != Driver::Sysram {
        usage("--allow-kernel-zones needs --driver sysram");
    }
    if dax_mode.is_some() && driver != Driver::Devdax {
        usage("--dax-mode needs --driver devdax");
    }
    match (driver, online_type) {
        (Driver::Sysram, online_type) => {
            let online_type = online_type.unwrap_or(OnlineType::OnlineMovable);
            if allow_kernel_zones {
                Wanted::SysramForGood(online_type)
            } else {
                Wanted::Sysram(online_type)
            }
        }
        (Driver::Auto, Some(online_type)) => Wanted::Stock(online_type),
        (Driver::Auto, None) => Wanted::StockDefault,
        (Driver::None, None) => Wanted::Nothing,
        (Driver::None, Some(_)) => usage(
            "--online-type needs a driver: memory of a region without one does not come online",
        ),
        (Driver::Devdax, None) => Wanted::Devdax(dax_mode.unwrap_or(DaxMode::Devdax)),
        (Driver::Devdax, Some(_)) => usage(
            "--online-type is for system RAM: memory that applications map does not come online",
        ),
    }
}

/// Ends as clap does when the command line is wrong.
fn usage(message: &str) -> ! {
    Cli::command()
        .error(clap::error::ErrorKind::ArgumentConflict, message)
        .exit()
}

/// The driver on the dax bus that is to have the region's memory, if the user said so.
fn dax_driver_of(wanted: Wanted) -> Option<&'static str> {
    match wanted {
        Wanted::Sysram(_) | Wanted::SysramForGood(_) | Wanted::Stock(_) => Some("kmem"),
        Wanted::Devdax(mode) => Some(mode.driver()),
        Wanted::StockDefault | Wanted::Nothing => None,
    }
}

/// Plans, with the driver loaded that is to have the region's memory.
///
/// No distribution loads it before the first dax device is there, which is too late to hold another back. But nothing is loaded
/// for what is refused anyway, and nothing for a dry run: so the first plan takes the driver for loaded.
fn plan_with_driver<P>(
    tree: &Sysfs,
    wanted: Wanted,
    dry_run: bool,
    plan: impl Fn(&Snapshot) -> Result<P, Problem>,
) -> Result<P, Problem> {
    let mut snapshot = Snapshot::read(tree)?;
    let is_loaded = |driver: &&str| snapshot.dax_drivers.iter().any(|name| name == driver);
    let Some(driver) = dax_driver_of(wanted).filter(|driver| !is_loaded(driver)) else {
        return plan(&snapshot);
    };
    snapshot.dax_drivers.push(driver.to_owned());
    let assumed = plan(&snapshot)?;
    if dry_run {
        return Ok(assumed);
    }
    load(tree, driver)?;
    plan(&Snapshot::read(tree)?)
}

/// Has a driver loaded, as daxctl does, without giving it the devices that nobody has. Whether it is there then is decided by
/// the plan.
fn load(tree: &Sysfs, driver: &str) -> Result<(), Problem> {
    if !tree.is_live() {
        return Ok(());
    }
    let modprobe = || {
        let status = process::Command::new("modprobe").arg(driver).status();
        tracing::info!("modprobe {driver}: {status:?}");
        Ok(())
    };
    settings::hold(tree, Path::new(DAX_AUTOPROBE), "0", modprobe).map_err(|trouble| {
        Problem::from(Failure {
            step: format!("load {driver}"),
            cause: trouble.cause,
            left: trouble.left,
        })
    })
}

/// The manual page, in roff.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn manual_page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    crate::man::render(&mut page)?;
    Ok(page)
}

fn show_steps(cli: &Cli, steps: &[Step]) -> Result<(), Problem> {
    let phrases: Vec<&str> = steps.iter().map(|step| step.what.as_str()).collect();
    if cli.json {
        return print_json(&json!({ "steps": phrases }));
    }
    output(|out| {
        phrases
            .iter()
            .try_for_each(|phrase| writeln!(out, "would {phrase}"))
    })
}

fn print(cli: &Cli, listing: &list::Listing) -> Result<(), Problem> {
    if cli.json {
        return print_json(&list::json::all(listing));
    }
    let text = list::text::all(listing);
    output(|out| out.write_all(text.as_bytes()))
}

fn print_json(value: &serde_json::Value) -> Result<(), Problem> {
    output(|out| writeln!(out, "{value:#}"))
}

/// Writes to standard output; a reader that went away early (head) is no failure.
fn output(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Problem::Output),
    }
}
