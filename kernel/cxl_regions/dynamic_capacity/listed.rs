// SPDX-License-Identifier: GPL-2.0-only

//! What users see of the extents of a region: a device `extentN.M` for each.

use super::Mover;
use crate::{
    abstractions::{
        attribute::{
            Attribute,
            Page, //
        },
        cxl::subregion::{
            Kind,
            Object,
            Pending,
            Registered,
            Subregion, //
        },
        device::{
            announce_change,
            notify_attribute, //
        },
        worker::Worker, //
    },
    device_attributes, //
};
use core::fmt::Write;
use kernel::{
    device::Device,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    },
};
use region_policy::{
    dcd::admission,
    extent::{
        Extent,
        OrZeros, //
    },
};

/// What is shown of an extent.
pub struct Listed {
    /// Its number, which no other extent of the device has or had.
    pub arrival: u32,
    /// The extent.
    pub extent: Extent,
    /// The word for where it is.
    pub state: &'static str,
}

/// An `extentN.M`.
#[pin_data]
pub struct ListedExtent {
    arrival: u32,
    extent: Extent,
    /// From the beginning of the region, in bytes.
    offset: u64,
    #[pin]
    state: Mutex<&'static str>,
    mover: Arc<Worker<Mover>>,
}

impl ListedExtent {
    /// Shows `listed` below `parent`, in the region that `area` tells of.
    pub fn add(
        parent: &Device,
        area: &admission::Area,
        listed: Listed,
        mover: &Arc<Worker<Mover>>,
    ) -> Result<Registered<Self>> {
        let Listed {
            arrival,
            extent,
            state,
        } = listed;
        let prefix = CString::try_from_fmt(fmt!("extent{}.", area.region))?;
        let offset = extent.span.start().saturating_sub(area.span.start());
        let mover = mover.clone();
        Pending::new(
            parent,
            &prefix,
            c_int::try_from(arrival)?,
            try_pin_init!(Self {
                arrival,
                extent,
                offset,
                state <- new_mutex!(state),
                mover,
            }),
        )?
        .add()
    }

    /// Its number.
    pub fn arrival(&self) -> u32 {
        self.arrival
    }

    /// Shows that it is somewhere else now.
    pub fn set_state(this: &Subregion<Self>, state: &'static str) {
        let before = core::mem::replace(&mut *this.state.lock(), state);
        if before != state {
            notify_attribute(this.as_ref(), c"state");
            announce_change(this.as_ref());
        }
    }
}

static KIND: Kind<ListedExtent> = Kind::new(c"cxl_extent", Some(&ATTRIBUTES));

impl Object for ListedExtent {
    fn kind() -> &'static Kind<Self> {
        &KIND
    }
}

device_attributes! {
    /// What a user sees of it.
    static ATTRIBUTES: Subregion<ListedExtent> = [Offset, Length, Uuid, Sequence, State, Release];
}

struct Offset;

impl Attribute<ListedExtent> for Offset {
    const NAME: &'static CStr = c"offset";

    const MODE: u16 = 0o444;

    fn show(listed: &ListedExtent, page: &mut Page<'_>) -> Result {
        writeln!(page, "{:#x}", listed.offset)?;
        Ok(())
    }
}

struct Length;

impl Attribute<ListedExtent> for Length {
    const NAME: &'static CStr = c"length";

    const MODE: u16 = 0o444;

    fn show(listed: &ListedExtent, page: &mut Page<'_>) -> Result {
        writeln!(page, "{:#x}", listed.extent.span.length())?;
        Ok(())
    }
}

struct Uuid;

impl Attribute<ListedExtent> for Uuid {
    const NAME: &'static CStr = c"uuid";

    const MODE: u16 = 0o444;

    fn show(listed: &ListedExtent, page: &mut Page<'_>) -> Result {
        writeln!(page, "{}", OrZeros(listed.extent.tag))?;
        Ok(())
    }
}

struct Sequence;

impl Attribute<ListedExtent> for Sequence {
    const NAME: &'static CStr = c"sequence";

    const MODE: u16 = 0o444;

    fn show(listed: &ListedExtent, page: &mut Page<'_>) -> Result {
        writeln!(page, "{}", listed.extent.sequence)?;
        Ok(())
    }
}

struct State;

impl Attribute<ListedExtent> for State {
    const NAME: &'static CStr = c"state";

    const MODE: u16 = 0o444;

    fn show(listed: &ListedExtent, page: &mut Page<'_>) -> Result {
        let state = *listed.state.lock();
        writeln!(page, "{state}")?;
        Ok(())
    }
}

struct Release;

impl Attribute<ListedExtent> for Release {
    const NAME: &'static CStr = c"release";

    const MODE: u16 = 0o200;

    fn show(_listed: &ListedExtent, _page: &mut Page<'_>) -> Result {
        Err(EPERM)
    }

    fn store(listed: &ListedExtent, text: &[u8]) -> Result {
        if text.strip_suffix(b"\n").unwrap_or(text) != b"1" {
            return Err(EINVAL);
        }
        listed.mover.give_back(listed.arrival);
        listed.mover.hurry();
        Ok(())
    }
}
