// SPDX-License-Identifier: GPL-2.0-only

//! Binds to DAX devices, and shows what their memory is.

use crate::{
    abstractions::{
        attribute::{
            Attribute,
            Groups,
            Page, //
        },
        dax_driver::{
            self,
            Device,
            DriverData, //
        },
        hotplug,
        text::Text, //
    },
    claims::{
        self,
        Terms, //
    },
    device_attributes,
    memory::Memory,
    registry, //
};
use core::{
    fmt::Write,
    pin::Pin, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use region_policy::{
    layout::Aligned,
    online_type::OnlineType,
    state::Vocabulary, //
};

/// The driver.
pub struct Kmem;

/// A bound device.
#[pin_data]
pub struct Bound {
    memory: Arc<Memory>,
}

impl dax_driver::Driver for Kmem {
    type Data = Bound;

    const ATTRIBUTES: &'static Groups = &ATTRIBUTES;

    fn probe(device: &Device) -> impl PinInit<Bound, Error> {
        // Memory moves only once there is room for what is known of it.
        try_pin_init!(Bound {
            memory: bind(device)?,
        })
    }

    fn leaving(bound: Pin<&Bound>) {
        bound.get_ref().memory.hurry();
    }

    fn unbind(device: &Device, bound: Pin<&Bound>) {
        let memory = &bound.get_ref().memory;
        let log = device.as_ref();

        memory.hurry_no_more();
        memory.detach();
        match memory.leave() {
            Ok(()) => {
                claims::unbound(device.owner(), memory);
                registry::forget(memory);
            }
            Err(error) => dev_warn!(
                log,
                "{} stays as it is without a driver ({}): {:?}; to get it back, bind the device again\n",
                memory.label(),
                Text(memory.counts()),
                error
            ),
        }
    }
}

/// Makes the memory of `device` system RAM, as its owner or else the system wants it.
fn bind(device: &Device) -> Result<Arc<Memory>> {
    let log = device.as_ref();
    let claim = match claims::terms(device.owner())? {
        None => None,
        Some(Terms::Policy(policy)) => Some(policy),
        Some(Terms::Refusal { region }) => {
            dev_err!(
                log,
                "refused: region{} is for applications that map its memory, which must not become System RAM\n",
                region
            );
            return Err(EOPNOTSUPP);
        }
    };

    let ranges = ranges(device)?;
    // What an earlier binding had to leave behind is taken up as it is.
    if let Some(memory) = registry::find_left_behind(&ranges, claim.map(|claim| claim.online_type))?
    {
        memory.attach(log);
        if let Err(error) = claims::admit(device.owner(), &memory) {
            memory.detach();
            return Err(error);
        }
        dev_info!(
            log,
            "memory left behind as {} is taken up again, and keeps that name in the log: {}\n",
            memory.label(),
            Text(memory.counts())
        );
        return Ok(memory);
    }

    let node = device.target_node().ok_or_else(|| {
        dev_warn!(log, "rejecting DAX region with invalid node\n");
        EINVAL
    })?;
    let memory = Memory::new(log.name(), node, device.memmap_on_memory(), claim, &ranges)?;
    memory.attach(log);
    registry::remember(&memory)?;

    let online_type = claim
        .map(|claim| claim.online_type)
        .or(OnlineType::from_mmop(hotplug::default_online_type()))
        .unwrap_or(OnlineType::Offline);
    let admitted = claims::admit(device.owner(), &memory);
    if let Err(error) = admitted.and_then(|()| memory.come_up(online_type)) {
        memory.detach();
        // What could not be rolled back stays known: binding again takes it up.
        if memory.is_absent() {
            claims::unbound(device.owner(), &memory);
            registry::forget(&memory);
        }
        return Err(error);
    }
    Ok(memory)
}

/// The memory blocks in the ranges of `device`.
fn ranges(device: &Device) -> Result<KVec<region_policy::blocks::Blocks>> {
    let log = device.as_ref();
    let block_size = hotplug::block_size();
    let mut list = KVec::with_capacity(device.range_count(), GFP_KERNEL)?;
    let mut lost: u64 = 0;

    for (index, range) in (0..device.range_count()).filter_map(|i| Some((i, device.range(i)?))) {
        let last = range.end.saturating_sub(1);
        match Aligned::within(range.start, last, block_size) {
            Some(aligned) => {
                lost = lost.saturating_add(aligned.truncated);
                list.push(aligned.blocks, GFP_KERNEL)?;
            }
            None => {
                lost = lost.saturating_add(range.end.saturating_sub(range.start));
                dev_info!(
                    log,
                    "mapping{}: {:#x}-{:#x} too small after alignment\n",
                    index,
                    range.start,
                    last
                );
            }
        }
    }
    if list.is_empty() {
        dev_warn!(
            log,
            "rejecting DAX region without any memory after alignment\n"
        );
        return Err(EINVAL);
    }
    if lost != 0 {
        dev_warn!(
            log,
            "DAX region truncated by {} KiB due to alignment\n",
            lost / 1024
        );
    }
    Ok(list)
}

device_attributes! {
    /// The two spellings of one machine.
    static ATTRIBUTES: DriverData<Kmem> = [State, Hotplug];
}

struct State;

impl Attribute<Bound> for State {
    const NAME: &'static CStr = c"state";

    fn show(bound: &Bound, page: &mut Page<'_>) -> Result {
        show(bound, Vocabulary::State, page)
    }

    fn store(bound: &Bound, text: &[u8]) -> Result {
        store(bound, Vocabulary::State, text)
    }
}

struct Hotplug;

impl Attribute<Bound> for Hotplug {
    const NAME: &'static CStr = c"hotplug";

    fn show(bound: &Bound, page: &mut Page<'_>) -> Result {
        show(bound, Vocabulary::Hotplug, page)
    }

    fn store(bound: &Bound, text: &[u8]) -> Result {
        store(bound, Vocabulary::Hotplug, text)
    }
}

fn show(bound: &Bound, vocabulary: Vocabulary, page: &mut Page<'_>) -> Result {
    writeln!(page, "{}", vocabulary.word(bound.memory.state()))?;
    Ok(())
}

fn store(bound: &Bound, vocabulary: Vocabulary, text: &[u8]) -> Result {
    let request = vocabulary
        .parse(text)
        .map_err(|invalid| Error::from_errno(invalid.errno().saturating_neg()))?;
    bound.memory.request(request)
}
