// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory at a region's addresses that none of its drivers has: somebody took the driver away, and the memory could not go.
//!
//! The region's decoders must not be reset under it, and it is nobody's to unplug. The region drivers take it up again; the
//! stock ones have forgotten it.

use cxl_sysfs::Snapshot;
use cxl_sysfs::Tree;
use cxl_sysfs::dax;
use cxl_sysfs::dax::DaxDevice;
use cxl_sysfs::memory;
use cxl_sysfs::memory::Census;
use cxl_sysfs::region;
use cxl_sysfs::region::Region;
use region_policy::matrix::RegionDriver;

use super::attach::DAX_KMEM;
use super::attach::Way;
use super::dax_driver;
use crate::problem::Problem;
use crate::problem::Refusal;

/// Memory that was left behind, and where.
struct Left {
    counted: Census,
    /// The dax device that it was plugged through, where that is still there.
    device: Option<String>,
}

/// Refuses a region with memory that was left behind.
///
/// # Errors
/// The refusal, or what could not be read.
pub(super) fn check(tree: &dyn Tree, snapshot: &Snapshot, region: &Region) -> Result<(), Problem> {
    match find(tree, region)? {
        None => Ok(()),
        Some(left) => Err(refusal(snapshot, region, &left).into()),
    }
}

/// Whether a region has memory that was left behind, which its way takes up; refuses the region where it does not.
///
/// # Errors
/// The refusal, or what could not be read.
pub(super) fn is_taken_up(
    tree: &dyn Tree,
    snapshot: &Snapshot,
    region: &Region,
    way: Way,
) -> Result<bool, Problem> {
    match find(tree, region)? {
        None => Ok(false),
        Some(left)
            if left.device.is_none() && way.driver() == Some(RegionDriver::Sysram.name()) =>
        {
            Ok(true)
        }
        Some(left) => Err(refusal(snapshot, region, &left).into()),
    }
}

fn find(tree: &dyn Tree, region: &Region) -> Result<Option<Left>, Problem> {
    let has_kmem = |driver: &Option<String>| driver.as_deref() == Some(DAX_KMEM);
    if region
        .sysram
        .as_ref()
        .is_some_and(|sysram| has_kmem(&sysram.driver))
    {
        // It has the memory of the region whatever becomes of a device, and the decoders are locked meanwhile.
        return Ok(None);
    }
    let counted = region::memory(tree, &region.name)?;
    if counted.present() == 0 {
        return Ok(None);
    }
    // Read after the memory was counted: a device is there before its memory is.
    let devices = dax::of_region(tree, &region.name)?;
    if !devices.iter().all(DaxDevice::is_complete) {
        // It is just coming, and so is its memory.
        return Ok(None);
    }
    let block_size = memory::block_size(tree)?;
    let (mut plugged, mut stranded) = (0, None);
    for device in devices {
        let present = device.census(tree, block_size)?.present();
        if device.is_system_ram() {
            plugged += present;
        } else if present > 0 {
            stranded = stranded.or(Some(device.name));
        }
    }
    Ok((counted.present() > plugged).then_some(Left {
        counted,
        device: stranded,
    }))
}

fn refusal(snapshot: &Snapshot, region: &Region, left: &Left) -> Refusal {
    let name = &region.name;
    let has = |driver: &str| snapshot.cxl_drivers.iter().any(|it| it == driver);
    let remedy = match &left.device {
        _ if !has(RegionDriver::Sysram.name()) || !has(DAX_KMEM) => {
            "restart the machine: the stock kmem does not take it up again".to_owned()
        }
        Some(device) => format!(
            "give it back to kmem: echo {device} > {}/bind",
            dax_driver("kmem").display()
        ),
        None => format!("take it up again, or away: cxlr bind {name} --driver sysram"),
    };
    Refusal::new(
        format!("memory of {name} was left behind: {}", left.counted),
        "it is in the system without a driver, and whoever uses it dies when its decoders are reset",
        remedy,
    )
    .at(format!("{}/{name}", cxl_sysfs::device::CXL_DEVICES))
}
