// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan for giving a region that is committed to another driver, or to the same one under another policy.
//!
//! Most regions that are there before anybody asked for them were committed by firmware: the kernel finds the decoders as
//! they are, makes a region of them and gives it to the stock driver, whose memory comes online by the system's default. So
//! first all memory is unplugged, which may fail and changes nothing then; only after that the drivers change.
//!
//! A region for applications that goes from one mode to the other keeps its drivers: that is the kernel's to do.

use cxl_sysfs::Goal;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::dax::DaxDevice;
use cxl_sysfs::memory::Census;
use cxl_sysfs::region::Region;
use region_policy::matrix::PartitionMode;

use super::Action;
use super::Step;
use super::attach;
use super::attach::DAX_KMEM;
use super::attach::Wanted;
use super::attach::Way;
use super::destroy;
use super::hotplug;
use super::left_behind;
use crate::problem::Problem;
use crate::problem::Refusal;

/// What will be written, and the way to the region's memory on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The way.
    pub way: Way,
    /// The steps; none when all is as it shall be.
    pub steps: Vec<Step>,
}

/// Plans to give a region to a driver.
///
/// # Errors
/// When there is no such region, when it is not committed, when somebody maps its memory, or when the driver cannot have it or
/// what an earlier one left behind of it.
pub fn plan(
    tree: &dyn Tree,
    snapshot: &Snapshot,
    name: &str,
    wanted: Wanted,
) -> Result<Plan, Problem> {
    let region = destroy::find(snapshot, name)?;
    let mode = check(snapshot, region)?;
    let way = Way::choose(snapshot, wanted, mode)?;
    let steps = if is_there(tree, snapshot, region, way)? {
        Vec::new()
    } else if let Some(step) = attach::switch_mode(region, way) {
        vec![step]
    } else {
        check_unmapped(snapshot, region)?;
        let left_behind = left_behind::is_taken_up(tree, snapshot, region, way)?;
        let (mut steps, before) = destroy::unplug_steps(tree, snapshot, region)?;
        let release = destroy::release(snapshot, region, before);
        // Memory that was left behind before stays until the new driver has it.
        let stays = |step: &Step| left_behind && matches!(step.action, Action::Absent(_));
        steps.extend(release.into_iter().filter(|step| !stays(step)));
        steps.extend(way.steps(snapshot, name, mode, left_behind));
        steps
    };
    Ok(Plan { way, steps })
}

/// What the region gives its memory from, where a driver can take it.
fn check(snapshot: &Snapshot, region: &Region) -> Result<PartitionMode, Refusal> {
    let name = &region.name;
    let place = format!("{}/{name}", cxl_sysfs::device::CXL_DEVICES);
    if !region.committed {
        return Err(Refusal::new(
            format!("{name} is not committed"),
            "a driver takes a region whose decoders are programmed",
            format!("echo 1 > {place}/commit, or destroy {name} and create it anew"),
        )
        .at(place));
    }
    snapshot.partition_mode(region).ok_or_else(|| {
        Refusal::new(
            format!("the type of {name} is not known"),
            "each driver serves its own types of region",
            "leave it to the driver that has it",
        )
        .at(format!("{place}/mode"))
    })
}

/// What applications map they would lose, and it may be another host's as well.
fn check_unmapped(snapshot: &Snapshot, region: &Region) -> Result<(), Refusal> {
    let name = &region.name;
    let mapped = snapshot
        .dax_devices_of(name)
        .filter(|device| !device.is_system_ram())
        .find_map(|device| Some((device, device.driver.as_deref()?)));
    let Some((device, driver)) = mapped else {
        return Ok(());
    };
    Err(Refusal::new(
        format!("{} of {name} is for applications", device.name),
        format!("it is with {driver}, whose users map it themselves and would lose what is in it"),
        match region.devdax {
            Some(_) => {
                format!("close its users, destroy {name} and create it with another --driver")
            }
            None => format!(
                "close its users, then: daxctl disable-device {}",
                device.name
            ),
        },
    )
    .at(DaxDevice::folder(&device.name).display().to_string()))
}

/// Whether the region is with the driver already, and its memory as the policy says.
fn is_there(
    tree: &dyn Tree,
    snapshot: &Snapshot,
    region: &Region,
    way: Way,
) -> Result<bool, Problem> {
    if region.driver.as_deref() != way.driver() {
        return Ok(false);
    }
    Ok(match way {
        Way::Plain | Way::Unbound => true,
        Way::RegionDrivers(policy) | Way::Dynamic(policy) | Way::DynamicForGood(policy) => {
            region.sysram.as_ref().is_some_and(|sysram| {
                sysram.driver.as_deref() == Some(DAX_KMEM) && sysram.online_type == Some(policy)
            })
        }
        Way::DevdaxDrivers(mode) => {
            let devdax = region.devdax.as_ref();
            devdax.is_some_and(|devdax| devdax.driver.is_some() && devdax.dax_mode == Some(mode))
                && snapshot
                    .dax_devices_of(&region.name)
                    .filter(|device| device.size > 0)
                    .all(|device| device.driver.as_deref() == Some(mode.driver()))
        }
        Way::HeldDevdax(mode) => snapshot
            .dax_devices_of(&region.name)
            .any(|device| device.driver.as_deref() == Some(mode.driver())),
        Way::Held(policy) => {
            let block_size = hotplug::block_size(snapshot)?;
            let mut all = Census::default();
            let devices = || snapshot.dax_devices_of(&region.name);
            for device in devices() {
                all = all.plus(&device.census(tree, block_size)?);
            }
            devices().all(DaxDevice::is_system_ram)
                && all.total > 0
                && all.is(Goal::Plugged(policy))
        }
    })
}
