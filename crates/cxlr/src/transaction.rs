// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out a plan: all of it, or nothing.
//!
//! When a step fails, the steps before it are undone in reverse order. Undoing stops at the first step that cannot be
//! undone, because what comes before it stands on it: decoders are never taken from under memory that stayed online. What
//! is left is named. Settings that are held for a step are put back whatever happens.

use std::path::Path;
use std::time::Duration;

use cxl_sysfs::Goal;
use cxl_sysfs::Tree;
use cxl_sysfs::dax;
use cxl_sysfs::dax::DaxDevice;
use cxl_sysfs::device::Device;
use cxl_sysfs::memory;
use cxl_sysfs::memory::AUTO_ONLINE;
use cxl_sysfs::memory::Block;
use cxl_sysfs::memory::BlockState;
use cxl_sysfs::memory::Census;
use cxl_sysfs::region;
use cxl_sysfs::tree::Events;
use region_policy::dax_mode::DaxMode;
use region_policy::online_type::OnlineType;

use crate::interrupt::Interrupt;
use crate::plan::Action;
use crate::plan::Appears;
use crate::plan::Devices;
use crate::plan::Step;
use crate::plan::attach;
use crate::plan::cxl_attribute;
use crate::plan::cxl_driver;
use crate::plan::dax_driver;
use crate::plan::hotplug::Mechanism;
use crate::problem::Cause;
use crate::problem::Failure;
use crate::settings::hold;

/// How long the kernel may be silent before a device that it should create is given up. Any event of a CXL, dax or memory
/// device starts the time anew, so that large memory has all the time that it needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an action failed, and what it could not put back itself.
pub(crate) struct Trouble {
    pub(crate) cause: Cause,
    pub(crate) left: Vec<String>,
}

impl From<cxl_sysfs::Error> for Trouble {
    fn from(error: cxl_sysfs::Error) -> Self {
        Cause::Kernel(error).into()
    }
}

impl From<Cause> for Trouble {
    fn from(cause: Cause) -> Self {
        Self {
            cause,
            left: Vec::new(),
        }
    }
}

/// Carries out the steps, holding the lock of the tree so that transactions follow one another.
///
/// # Errors
/// The step that failed, why, and what could not be undone.
pub fn run(tree: &dyn Tree, interrupt: &Interrupt, steps: &[Step]) -> Result<(), Failure> {
    for (number, step) in steps.iter().enumerate() {
        tracing::info!("{}", step.what);
        let result = if interrupt.is_asked() {
            Err(Cause::Interrupted.into())
        } else {
            act(tree, interrupt, &step.action)
        };
        let Err(Trouble { cause, mut left }) = result else {
            continue;
        };
        tracing::info!("undoing");
        let done = if step.partial {
            &steps[..=number]
        } else {
            &steps[..number]
        };
        left.extend(undo(tree, done));
        return Err(Failure {
            step: step.what.clone(),
            cause,
            left,
        });
    }
    Ok(())
}

/// Undoes steps in reverse; tells what is left.
fn undo(tree: &dyn Tree, done: &[Step]) -> Vec<String> {
    let mut left = Vec::new();
    for (number, step) in done.iter().enumerate().rev() {
        for action in &step.undo {
            let Err(trouble) = act_to_the_end(tree, action) else {
                continue;
            };
            left.push(format!("undo \"{}\": {}", step.what, trouble.cause));
            left.extend(trouble.left);
            let beneath = done[..number]
                .iter()
                .rev()
                .filter(|step| !step.undo.is_empty());
            left.extend(beneath.map(|step| format!("undo \"{}\"", step.what)));
            return left;
        }
    }
    left
}

/// Undoing runs to its end, whoever asks to stop: what a signal interrupts in the kernel is done again.
fn act_to_the_end(tree: &dyn Tree, action: &Action) -> Result<(), Trouble> {
    let never = Interrupt::default();
    loop {
        match act(tree, &never, action) {
            Err(Trouble {
                cause: Cause::Kernel(error),
                left,
            }) if error.is_interrupted() && left.is_empty() => {}
            result => return result,
        }
    }
}

fn act(tree: &dyn Tree, interrupt: &Interrupt, action: &Action) -> Result<(), Trouble> {
    match action {
        Action::Write { path, value } => Ok(tree.write(path, value)?),
        Action::Hold {
            path,
            value,
            during,
        } => hold(tree, path, value, || {
            during
                .iter()
                .try_for_each(|action| act(tree, interrupt, action))
        }),
        Action::Bind {
            driver,
            device,
            appears,
        } => bind(tree, interrupt, driver, device, appears.as_ref()),
        Action::Unbind { driver, device } => unbind(tree, driver, device),
        Action::BindKmem(devices) => look_up(tree, devices)?
            .iter()
            .filter(|device| device.driver.is_none())
            .try_for_each(|device| bind_kmem(tree, &device.name)),
        Action::BindMode(devices, mode) => look_up(tree, devices)?
            .iter()
            .filter(|device| device.driver.is_none())
            .try_for_each(|device| bind_mode(tree, &device.name, *mode)),
        Action::Reach { devices, goal } => look_up(tree, devices)?
            .iter()
            .try_for_each(|device| reach(tree, device, *goal)),
        Action::Verify { devices, goal } => verify(tree, devices, *goal),
        Action::SetPolicy { region, policy } => set_policy(tree, region, *policy),
        Action::Settle(region) => settle(tree, interrupt, region),
        Action::Absent(region) => absent(tree, region),
    }
}

fn bind(
    tree: &dyn Tree,
    interrupt: &Interrupt,
    driver: &str,
    device: &str,
    appears: Option<&Appears>,
) -> Result<(), Trouble> {
    let attribute = cxl_driver(driver).join("bind");
    let Some(appears) = appears else {
        return Ok(tree.write(&attribute, device)?);
    };
    // Before the write, so that nothing that it brings about is missed.
    let mut events = tree.events()?;
    tree.write(&attribute, device)?;
    let what = if appears.with_kmem {
        "a dax device with kmem"
    } else {
        "a dax device of the region"
    };
    wait_for(tree, interrupt, &mut *events, what, &appears.region, || {
        let devices = dax::of_region(tree, &appears.region)?;
        let settled = |device: &DaxDevice| {
            device.is_complete() && (!appears.with_kmem || device.is_system_ram())
        };
        Ok(!devices.is_empty() && devices.iter().all(settled))
    })
}

/// Waits until no dax device of a region is half created.
fn settle(tree: &dyn Tree, interrupt: &Interrupt, region: &str) -> Result<(), Trouble> {
    let mut events = tree.events()?;
    let what = "all of a dax device";
    wait_for(tree, interrupt, &mut *events, what, region, || {
        let devices = dax::of_region(tree, region)?;
        Ok(devices.iter().all(DaxDevice::is_complete))
    })
}

/// Waits until something of a region is there; `events` began before whatever brings it about.
fn wait_for(
    tree: &dyn Tree,
    interrupt: &Interrupt,
    events: &mut dyn Events,
    what: &str,
    region: &str,
    mut is_there: impl FnMut() -> cxl_sysfs::Result<bool>,
) -> Result<(), Trouble> {
    while !is_there()? {
        if interrupt.is_asked() {
            return Err(Cause::Interrupted.into());
        }
        if !events.wait(PATIENCE)? {
            return Err(Cause::Silent {
                what: what.to_owned(),
                path: Device::new(tree, cxl_sysfs::device::CXL_DEVICES).attribute(region),
                silence: PATIENCE,
            }
            .into());
        }
    }
    Ok(())
}

/// A policy that was not set by us and cannot be changed is that of memory which was left behind.
fn set_policy(tree: &dyn Tree, region: &str, policy: OnlineType) -> Result<(), Trouble> {
    let attribute = cxl_attribute(&attach::sysram_region(region), "online_type");
    let Err(error) = tree.write(&attribute, policy.as_str()) else {
        return Ok(());
    };
    if error.is_busy() {
        let now = tree.read(&attribute)?;
        let was = OnlineType::parse(now.trim().as_bytes());
        if let Some(was) = was.filter(|was| *was != policy) {
            return Err(Cause::LeftBehind {
                region: region.to_owned(),
                was,
            }
            .into());
        }
    }
    Err(error.into())
}

fn unbind(tree: &dyn Tree, driver: &str, device: &str) -> Result<(), Trouble> {
    let folder = Device::new(tree, cxl_sysfs::device::CXL_DEVICES).below(device);
    if folder.driver()?.as_deref() == Some(driver) {
        tree.write(&cxl_driver(driver).join("unbind"), device)?;
    }
    Ok(())
}

fn look_up(tree: &dyn Tree, devices: &Devices) -> cxl_sysfs::Result<Vec<DaxDevice>> {
    match devices {
        Devices::OfRegion(region) => {
            let mut devices = dax::of_region(tree, region)?;
            // The dax bus keeps one without memory in a region whose memory comes and goes.
            devices.retain(|device| device.size > 0);
            Ok(devices)
        }
        Devices::Named(name) => Ok(vec![DaxDevice::read(tree, name)?]),
    }
}

/// Brings one device to a goal. Only one that is unplugged can be plugged.
fn reach(tree: &dyn Tree, device: &DaxDevice, goal: Goal) -> Result<(), Trouble> {
    let block_size = memory::block_size(tree)?;
    let census = device.census(tree, block_size)?;
    if census.is(goal) {
        return Ok(());
    }
    if let Mechanism::Whole(vocabulary) = Mechanism::of(device)
        && let Some(word) = goal.word(vocabulary)
    {
        return Ok(tree.write(
            &DaxDevice::folder(&device.name).join(vocabulary.attribute()),
            word,
        )?);
    }
    match goal {
        Goal::Unplugged => unplug_blocks(tree, device, block_size),
        Goal::Plugged(online_type) => plug_by_binding(tree, device, &census, online_type),
    }
}

/// Lets kmem take the device anew while the system default is what shall be.
fn plug_by_binding(
    tree: &dyn Tree,
    device: &DaxDevice,
    census: &Census,
    online_type: OnlineType,
) -> Result<(), Trouble> {
    // kmem strands memory that is online when it lets go.
    if census.online_blocks() > 0 || census.going_offline > 0 {
        return Err(Cause::Uncounted {
            place: DaxDevice::folder(&device.name).display().to_string(),
            wanted: "nothing online".to_owned(),
            counted: census.to_string(),
        }
        .into());
    }
    unbind_kmem(tree, &device.name)?;
    hold(tree, Path::new(AUTO_ONLINE), online_type.as_str(), || {
        bind_kmem(tree, &device.name)
    })
}

fn bind_kmem(tree: &dyn Tree, device: &str) -> Result<(), Trouble> {
    Ok(tree.write(&dax_driver("kmem").join("bind"), device)?)
}

/// Names the device to a driver that would not match it; the name is taken back, lest the driver grab whatever is called so
/// later.
fn bind_mode(tree: &dyn Tree, device: &str, mode: DaxMode) -> Result<(), Trouble> {
    let driver = dax_driver(mode.driver());
    // The driver takes the device at once, and says nothing if it does not.
    tree.write(&driver.join("new_id"), device)?;
    let taken = || -> Result<(), Trouble> {
        let now = Device::new(tree, DaxDevice::folder(device)).driver()?;
        if now.is_none() {
            tree.write(&driver.join("bind"), device)?;
        }
        Ok(())
    };
    let result = taken();
    let Err(error) = tree.write(&driver.join("remove_id"), device) else {
        return result;
    };
    let left = format!("echo {device} > {}/remove_id ({error})", driver.display());
    let mut trouble = result.err().unwrap_or_else(|| Cause::Kernel(error).into());
    trouble.left.push(left);
    Err(trouble)
}

fn unbind_kmem(tree: &dyn Tree, device: &str) -> Result<(), Trouble> {
    if Device::new(tree, DaxDevice::folder(device))
        .driver()?
        .as_deref()
        == Some("kmem")
    {
        tree.write(&dax_driver("kmem").join("unbind"), device)?;
    }
    Ok(())
}

/// Takes all blocks of a device offline and lets kmem remove them; when either fails, those that went offline come back into
/// their zones.
fn unplug_blocks(tree: &dyn Tree, device: &DaxDevice, block_size: u64) -> Result<(), Trouble> {
    let mut online = Vec::new();
    for number in device
        .ranges
        .iter()
        .flat_map(|range| memory::blocks_within(range, block_size))
    {
        let block = Block::read(tree, number)?;
        online.extend(block.filter(|block| matches!(block.state, BlockState::Online { .. })));
    }
    // The lowest block last: the kernel looks through a zone from its start for a hole after every block, and so it
    // never gets far while the one after the lowest is gone.
    if online.len() > 1 {
        online.rotate_left(1);
    }
    let mut done = 0;
    let result = online.iter().try_for_each(|block| {
        set_block(tree, block.number, OnlineType::Offline.as_str())?;
        done += 1;
        Ok(())
    });
    let Err(mut trouble) = result.and_then(|()| unbind_kmem(tree, &device.name)) else {
        return Ok(());
    };
    for block in online[..done].iter().rev() {
        let word = online_word(block);
        if let Err(error) = set_block(tree, block.number, word) {
            trouble.left.push(format!(
                "echo {word} > {}/state ({error})",
                memory::folder(block.number)
            ));
        }
    }
    Err(trouble)
}

fn set_block(tree: &dyn Tree, number: u64, word: &str) -> cxl_sysfs::Result<()> {
    tree.write(&Path::new(&memory::folder(number)).join("state"), word)
}

/// What brings a block back into the zone that it was in.
fn online_word(block: &Block) -> &'static str {
    match &block.state {
        BlockState::Online { zone } => memory::zone_kind(zone)
            .map_or(OnlineType::Online, OnlineType::in_zone)
            .as_str(),
        BlockState::Offline | BlockState::GoingOffline => OnlineType::Offline.as_str(),
    }
}

/// Counts. No device is no success, unless nothing was to be there.
fn verify(tree: &dyn Tree, devices: &Devices, goal: Goal) -> Result<(), Trouble> {
    let block_size = memory::block_size(tree)?;
    let mut all = Census::default();
    for device in look_up(tree, devices)? {
        all = all.plus(&device.census(tree, block_size)?);
    }
    if all.is(goal) && (all.total > 0 || goal == Goal::Unplugged) {
        return Ok(());
    }
    Err(Cause::Uncounted {
        place: devices.folder().display().to_string(),
        wanted: goal.to_string(),
        counted: all.to_string(),
    }
    .into())
}

/// Counts what is at a region's addresses. Nothing may be there, whoever has it.
fn absent(tree: &dyn Tree, region: &str) -> Result<(), Trouble> {
    let census = region::memory(tree, region)?;
    if census.present() == 0 {
        return Ok(());
    }
    Err(Cause::Present {
        region: region.to_owned(),
        counted: census.to_string(),
    }
    .into())
}
