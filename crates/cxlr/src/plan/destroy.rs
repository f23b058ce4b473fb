// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plan for taking regions down.
//!
//! First all memory of all regions is unplugged; only when that succeeded is anything taken apart, and nothing is deleted
//! before everything else is done. So a failure anywhere can be undone.

use cxl_sysfs::Goal;
use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::decoder;
use cxl_sysfs::decoder::EndpointDecoder;
use cxl_sysfs::region::Region;
use region_policy::dax_mode::DaxMode;
use region_policy::matrix::PartitionMode;
use region_policy::matrix::RegionDriver;

use super::Action;
use super::Devices;
use super::Step;
use super::attach;
use super::attach::Before;
use super::create::detach;
use super::find_no_memory;
use super::hotplug;
use super::left_behind;
use super::write;
use crate::problem::Problem;
use crate::problem::Refusal;
use crate::size::Size;

/// Plans to destroy regions, the latest first.
///
/// # Errors
/// When a region is not there, is locked by firmware, has memory that no driver has, or has a later one above it on a memdev.
pub fn plan(tree: &dyn Tree, snapshot: &Snapshot, names: &[String]) -> Result<Vec<Step>, Problem> {
    let mut regions = find_all(snapshot, names)?;
    // Later regions have later decoders and higher addresses, and decoders are given back in reverse order.
    regions.sort_by_key(|region| std::cmp::Reverse(region.resource));
    let mut unplug = Vec::new();
    let mut take_apart = Vec::new();
    let mut delete = Vec::new();
    for region in regions {
        left_behind::check(tree, snapshot, region)?;
        check(snapshot, region, names)?;
        let (steps, before) = unplug_steps(tree, snapshot, region)?;
        unplug.extend(steps);
        take_apart.extend(release(snapshot, region, before));
        take_apart.extend(free(snapshot, region));
        delete.push(Step::new(
            format!("delete {}", region.name),
            write(&region.decoder, "delete_region", &region.name),
        ));
    }
    unplug.extend(take_apart);
    unplug.extend(delete);
    Ok(unplug)
}

fn find_all<'a>(snapshot: &'a Snapshot, names: &[String]) -> Result<Vec<&'a Region>, Refusal> {
    let mut regions: Vec<&Region> = Vec::new();
    for name in names {
        let region = find(snapshot, name)?;
        if !regions.iter().any(|other| other.name == region.name) {
            regions.push(region);
        }
    }
    Ok(regions)
}

/// The region of that name.
pub(crate) fn find<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Region, Refusal> {
    snapshot.region(name).ok_or_else(|| {
        let known: Vec<&str> = snapshot
            .regions
            .iter()
            .map(|region| region.name.as_str())
            .collect();
        let known = if known.is_empty() {
            "there is none".to_owned()
        } else {
            known.join(", ")
        };
        Refusal::new(
            format!("there is no region {name}"),
            "a region is named as cxlr list shows it",
            format!("choose one of: {known}"),
        )
    })
}

/// Whether a region's memory comes and goes as the fabric says.
pub(super) fn is_dynamic(snapshot: &Snapshot, region: &Region) -> bool {
    snapshot.partition_mode(region) == Some(PartitionMode::DynamicCapacity)
}

/// The region's endpoint decoders by position.
fn targets<'a>(
    snapshot: &'a Snapshot,
    region: &'a Region,
) -> impl Iterator<Item = (usize, &'a EndpointDecoder)> {
    let decoder = |(position, name): (usize, &Option<String>)| {
        Some((position, snapshot.endpoint_decoder(name.as_deref()?)?))
    };
    region.targets.iter().enumerate().filter_map(decoder)
}

fn check(snapshot: &Snapshot, region: &Region, also: &[String]) -> Result<(), Refusal> {
    if region.locked && region.driver.as_deref() == Some(RegionDriver::Stock.name()) {
        return Err(Refusal::new(
            format!("{} is locked", region.name),
            "its decoders were locked by firmware or by the driver of its memdev, and stay so until the next boot",
            "unplug its memory instead: cxlr hotplug",
        )
        .at(format!("/sys/bus/cxl/devices/{}/locked", region.name)));
    }
    for (_, target) in targets(snapshot, region) {
        let instance = decoder::instance(&target.name);
        let later = snapshot.decoders_of(&target.port).find(|other| {
            let remains = other
                .region
                .as_ref()
                .is_none_or(|region| !also.contains(region));
            decoder::instance(&other.name) > instance && other.dpa_size > 0 && remains
        });
        if let Some(later) = later {
            let memdev = snapshot
                .memdev_of(target)
                .map_or("its memdev", |memdev| memdev.name.as_str());
            return Err(Refusal::new(
                format!(
                    "{} cannot be destroyed before what came after it on {memdev}",
                    region.name
                ),
                format!(
                    "a memdev's decoders are given back in reverse order, and {} is behind {}",
                    later.name, target.name
                ),
                match &later.region {
                    Some(name) => {
                        format!("destroy both: cxlr destroy-region {} {name}", region.name)
                    }
                    None => format!(
                        "give it back: echo 0 > /sys/bus/cxl/devices/{}/dpa_size",
                        later.name
                    ),
                },
            )
            .at(format!("/sys/bus/cxl/devices/{}", later.name)));
        }
    }
    Ok(())
}

/// Unplugs all memory of a region; also tells what it was, `None` where no driver had it.
pub(super) fn unplug_steps(
    tree: &dyn Tree,
    snapshot: &Snapshot,
    region: &Region,
) -> Result<(Vec<Step>, Option<Before>), Problem> {
    let mut steps = Vec::new();
    let mut was = None;
    let policy = region.sysram.as_ref().and_then(|sysram| sysram.online_type);
    if let Some(policy) = policy.filter(|_| is_dynamic(snapshot, region)) {
        // Devices come and go with what the fabric gives, so that none has a name to go back to.
        let devices = Devices::OfRegion(region.name.clone());
        let reach = |goal| Action::Reach {
            devices: devices.clone(),
            goal,
        };
        steps.push(
            Step::new(
                format!("unplug all memory of {}", region.name),
                reach(Goal::Unplugged),
            )
            .undone_by(vec![reach(Goal::Plugged(policy))]),
        );
        return Ok((steps, None));
    }
    for device in snapshot.dax_devices_of(&region.name) {
        if !device.is_system_ram() {
            let mode = device.driver.as_deref().and_then(DaxMode::of_driver);
            was = was.or(mode.map(Before::Mappable));
            continue;
        }
        let census = device.census(tree, hotplug::block_size(snapshot)?)?;
        let before = hotplug::before(snapshot, device, &census);
        was = Some(Before::Memory(before));
        if census.present() == 0 {
            continue;
        }
        let devices = Devices::Named(device.name.clone());
        let reach = |goal| Action::Reach {
            devices: devices.clone(),
            goal,
        };
        steps.push(
            Step::new(format!("unplug {}", device.name), reach(Goal::Unplugged))
                .undone_by(vec![reach(before)]),
        );
        steps.push(Step::new(
            format!("find no memory of {} left", device.name),
            Action::Verify {
                devices: devices.clone(),
                goal: Goal::Unplugged,
            },
        ));
    }
    Ok((steps, was))
}

/// Takes the region from its drivers, the inner one first.
pub(super) fn release(snapshot: &Snapshot, region: &Region, before: Option<Before>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut policy = None;
    if let Some(sysram) = &region.sysram {
        policy = sysram.online_type;
        if let Some(driver) = &sysram.driver {
            steps.push(
                Step::new(
                    format!("take {} from {driver}", sysram.name),
                    attach::unbind(driver, &sysram.name),
                )
                .undone_by(attach::kmem_region_again(&region.name, before)),
            );
            // Here, where taking up what stayed behind is all that undoing needs.
            steps.push(find_no_memory(&region.name));
        }
    }
    let mut dax_mode = None;
    if let Some(devdax) = &region.devdax {
        dax_mode = devdax.dax_mode;
        if let Some(driver) = &devdax.driver {
            steps.push(
                Step::new(
                    format!("take {} from {driver}", devdax.name),
                    attach::unbind(driver, &devdax.name),
                )
                .undone_by(vec![attach::bind(driver, &devdax.name, None)]),
            );
        }
    }
    if let Some(driver) = &region.driver {
        let stock = driver == RegionDriver::Stock.name();
        let (take, mut undo) = if stock {
            (
                attach::take_from_stock(&region.name),
                attach::stock_again(&region.name, before),
            )
        } else {
            (
                attach::unbind(driver, &region.name),
                vec![attach::bind(driver, &region.name, None)],
            )
        };
        let sysram = region.sysram.as_ref();
        if is_dynamic(snapshot, region) && sysram.is_some_and(|sysram| sysram.allow_kernel_zones) {
            undo.push(attach::allow_kernel_zones(&region.name));
        }
        if let Some(policy) = policy {
            undo.push(write(
                &attach::sysram_region(&region.name),
                "online_type",
                policy.as_str(),
            ));
        }
        if let Some(dax_mode) = dax_mode {
            undo.push(write(
                &attach::dax_region(&region.name),
                "dax_mode",
                dax_mode.as_str(),
            ));
        }
        steps.push(Step::new(format!("take {} from {driver}", region.name), take).undone_by(undo));
        steps.extend(stock.then(|| find_no_memory(&region.name)));
    }
    steps
}

/// Decommits the region, detaches its targets and gives their capacity back.
fn free(snapshot: &Snapshot, region: &Region) -> Vec<Step> {
    let name = region.name.as_str();
    let mut steps = Vec::new();
    if region.committed {
        steps.push(find_no_memory(name));
        steps.push(
            Step::new(format!("decommit {name}"), write(name, "commit", "0"))
                .undone_by(vec![write(name, "commit", "1")]),
        );
    }
    let targets: Vec<_> = targets(snapshot, region).collect();
    for (position, target) in targets.iter().rev() {
        let attribute = format!("target{position}");
        steps.push(
            Step::new(
                format!("take {} out of {name}", target.name),
                detach(name, &attribute),
            )
            .undone_by(vec![write(name, &attribute, &target.name)]),
        );
    }
    for (_, target) in targets.iter().rev() {
        steps.push(
            Step::new(
                format!("give back {} of {}", Size(target.dpa_size), target.name),
                write(&target.name, "dpa_size", "0"),
            )
            .undone_by(vec![write(
                &target.name,
                "dpa_size",
                format!("{:#x}", target.dpa_size),
            )]),
        );
    }
    steps
}
