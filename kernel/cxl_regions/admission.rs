// SPDX-License-Identifier: GPL-2.0-only

//! Whether a region may be bound to a driver of ours.

use crate::{
    abstractions::{
        cxl::{
            memdev::Memdev,
            region::Region, //
        },
        dax_region,
        hmem,
        text::Text, //
    },
    holds, //
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};
use region_policy::{
    extent::Span,
    matrix::{
        PartitionMode,
        RegionDriver, //
    },
    online_type::OnlineType, //
};

/// Where a region's memory comes from, as [`Region::dynamic_capacity`] tells.
pub type Capacity = (ARef<Memdev>, Span);

/// A region that may be taken.
pub struct Admitted {
    /// The policy of memory that the region had to leave behind before, and that has to stay.
    pub left: Option<OnlineType>,
    /// Where its memory comes from, if the fabric gives and takes it.
    pub capacity: Option<Capacity>,
}

/// Checks that `driver` may take `region`, and takes away what the region had to leave behind before.
///
/// # Errors
///
/// `ENXIO`: the region is not committed. `EINTR`: a signal came meanwhile. `EOPNOTSUPP`: the driver does
/// not serve its mode, or dynamic capacity is interleaved. `EBUSY`: a memdev is set aside, or some of the region's memory is in the system or
/// for `dax_hmem`.
pub fn admit(region: &Region, driver: RegionDriver) -> Result<Admitted> {
    let log = region.as_ref();

    if !region.is_committed()? {
        return Err(ENXIO);
    }
    let mode = PartitionMode::from_number(region.mode()).ok_or(EOPNOTSUPP)?;
    driver.admits(mode).map_err(|unserved| {
        dev_err!(log, "{}\n", Text(&unserved));
        Error::from_errno(unserved.errno().saturating_neg())
    })?;
    if region.is_set_aside() {
        dev_err!(
            log,
            "a memdev of this region is set aside by its own driver\n"
        );
        return Err(EBUSY);
    }
    let capacity = match mode {
        PartitionMode::DynamicCapacity => Some(region.dynamic_capacity()?),
        PartitionMode::Ram | PartitionMode::Pmem => None,
    };
    let range = region.range()?;
    // A region that is refused keeps what it had to leave behind as it is.
    hmem::leaves(log, &range)?;
    let left = match holds::reclaim(&range) {
        Ok(()) => None,
        Err(error) if error == EINTR => return Err(error),
        // What came extent by extent is not to be taken up as a whole.
        Err(_) if capacity.is_some() => None,
        Err(_) => holds::policy_left_in(&range)?,
    };
    if left.is_none() && dax_region::is_system_ram(&range) {
        dev_err!(
            log,
            "[{:#x}-{:#x}] is System RAM in part: offline its blocks or unbind its driver first\n",
            range.start,
            range.end.saturating_sub(1)
        );
        return Err(EBUSY);
    }
    Ok(Admitted { left, capacity })
}
