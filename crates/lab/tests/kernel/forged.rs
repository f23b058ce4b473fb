// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dynamic capacity from a device that is broken, or a fabric that means harm: events that QEMU's devices never write are
//! put into the log before the drivers read it (`kernel/testing/event_forger.c`).

use std::fmt::Write;

use lab::Guest;
use lab::Result;
use lab::fabric::DcRegion;
use lab::fabric::Extent;
use lab::suite::Test;
use lab::topology::MIB;

use crate::capacity_in_use::give_back_behind_the_back;
use crate::devdax::Application;
use crate::dynamic_capacity::SERIAL;
use crate::dynamic_capacity::destroy;
use crate::dynamic_capacity::devdax;
use crate::dynamic_capacity::extent;
use crate::dynamic_capacity::only_device;
use crate::dynamic_capacity::sysram;
use crate::dynamic_capacity::wait_until_held;
use crate::dynamic_capacity::wait_until_in_use;
use crate::support::CXL;
use crate::support::Log;
use crate::support::loaded;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "dynamic_capacity: groups that stall, mix tags or make no sense are refused as a whole",
            loaded("dc"),
            refused,
        ),
        Test::new(
            "dynamic_capacity: what the fabric says that it took without asking is out of use",
            loaded("dc"),
            forced,
        ),
        Test::new(
            "dynamic_capacity: what the fabric says that it took without asking is gone for applications that map it",
            loaded("dc"),
            forced_from_applications,
        ),
    ]
}

/// The types of event.
const ADD: u8 = 0;
const RELEASE: u8 = 1;
const FORCED_RELEASE: u8 = 2;

/// An event record (CXL 3.1, 8.2.9.2.1.6, table 8-50).
#[derive(Clone, Copy)]
struct Record {
    kind: u8,
    more: bool,
    extent: Extent,
    tag: u8,
    sequence: u16,
}

impl Record {
    fn new(kind: u8, extent: Extent) -> Self {
        Self {
            kind,
            more: false,
            extent,
            tag: 0,
            sequence: 0,
        }
    }

    /// The next record belongs to the same group.
    fn more(self) -> Self {
        Self { more: true, ..self }
    }

    /// With a tag that is this byte, repeated.
    fn tag(self, tag: u8) -> Self {
        Self { tag, ..self }
    }

    fn sequence(self, sequence: u16) -> Self {
        Self { sequence, ..self }
    }

    fn hexadecimal(&self) -> String {
        let mut bytes = [0; 0x80];
        let mut put = |offset: usize, field: &[u8]| {
            bytes[offset..offset + field.len()].copy_from_slice(field);
        };
        let identifier: u128 = 0xca95_afa7_f183_4018_8c2f_9526_8e10_1a2a;
        put(0, &identifier.to_be_bytes());
        put(0x10, &[0x80]);
        put(0x30, &[self.kind]);
        put(0x35, &[u8::from(self.more)]);
        put(0x38, &self.extent.offset.to_le_bytes());
        put(0x40, &self.extent.length.to_le_bytes());
        put(0x48, &[self.tag; 16]);
        put(0x58, &self.sequence.to_le_bytes());
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Has these be read before what the device writes, until `then` is through.
fn forge(guest: &Guest, records: &[Record], then: impl FnOnce() -> Result<()>) -> Result<()> {
    let records: String = records.iter().map(Record::hexadecimal).collect();
    guest.sh_ok(&format!(
        "modprobe event_forger memdev=$(basename {CXL}/mem?) records={records}"
    ))?;
    then()?;
    guest.sh_ok("rmmod event_forger").map(drop)
}

fn refused(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(9)])?;
    wait_until_held(guest, &region, &[extent(9)])?;

    let add = |number| Record::new(ADD, extent(number));
    let nothing = Extent {
        offset: 0,
        length: 0,
    };
    let far = Extent {
        offset: 1 << 40,
        length: 128 * MIB,
    };
    let wraps = Extent {
        offset: u64::MAX - 128 * MIB + 1,
        length: 256 * MIB,
    };
    let cases: [(&[Record], &str); 10] = [
        (
            &[add(1).more()],
            "the end of the group did not come in time",
        ),
        (
            &[add(1).more().tag(1), add(2).tag(2)],
            "the group has several tags",
        ),
        (
            &[add(1).more().tag(1), add(2)],
            "the group has several tags",
        ),
        (
            &[add(1).more().tag(1).sequence(7), add(2).tag(1).sequence(7)],
            "have sequence number 7",
        ),
        (
            &[add(1).more(), Record::new(ADD, nothing)],
            "a record of the group cannot be understood",
        ),
        (
            &[add(1).more(), Record::new(ADD, wraps)],
            "a record of the group cannot be understood",
        ),
        (&[add(1).more(), add(1)], "overlaps"),
        (&[add(9)], "overlaps"),
        (
            &[Record::new(ADD, far)],
            "no region over dynamic capacity holds",
        ),
        (
            &[add(1).more(), Record::new(9, extent(2))],
            "the end of the group did not come in time",
        ),
    ];
    for (records, reason) in cases {
        let log = Log::from_now(guest)?;
        forge(guest, records, || {
            // Binding it has the log read.
            region.unbind_kmem()?;
            region.bind_kmem()?;
            log.wait_for(reason)
        })?;
        log.assert_none("with 1 extents")?;
        log.assert_none("with 2 extents")?;
        wait_until_held(guest, &region, &[extent(9)])?;
    }

    // Of what nobody has, nothing can be asked back.
    forge(
        guest,
        &[
            Record::new(RELEASE, extent(3)),
            Record::new(RELEASE, nothing),
            Record::new(FORCED_RELEASE, far),
        ],
        || {
            fabric
                .release(&[extent(9)])
                .and_then(|()| wait_until_held(guest, &region, &[]))
        },
    )?;
    // All of it can be offered in earnest.
    fabric.add(&[extent(1), extent(2), extent(3)])?;
    wait_until_held(guest, &region, &[extent(1), extent(2), extent(3)])?;
    fabric.release(&[extent(1), extent(2), extent(3)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

fn forced(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = sysram(guest)?;
    fabric.add(&[extent(0), extent(1), extent(2)])?;
    wait_until_held(guest, &region, &[extent(0), extent(1), extent(2)])?;
    let log = Log::from_now(guest)?;
    give_back_behind_the_back(guest, extent(0))?;
    forge(guest, &[Record::new(FORCED_RELEASE, extent(0))], || {
        // It has the log read.
        fabric.release(&[extent(1)])?;
        wait_until_held(guest, &region, &[extent(2)])
    })?;
    log.assert_line(&[
        "dpa 0x0-0x7ffffff",
        "was taken without asking while it was in use",
    ])?;
    fabric.add(&[extent(0)])?;
    wait_until_held(guest, &region, &[extent(0), extent(2)])?;
    fabric.release(&[extent(0), extent(2)])?;
    wait_until_held(guest, &region, &[])?;
    destroy(guest, &region)
}

fn forced_from_applications(guest: &Guest) -> Result<()> {
    let fabric = DcRegion::new(guest, SERIAL, 0);
    let region = devdax(guest)?;
    fabric.add(&[extent(0)])?;
    wait_until_in_use(guest, &region, &[extent(0)])?;
    let device = only_device(guest)?;
    let application = Application::start(guest, "map", &format!("/dev/{device}"))?;
    application.tell("put mine")?;
    fabric.add(&[extent(1)])?;
    wait_until_in_use(guest, &region, &[extent(0), extent(1)])?;
    let log = Log::from_now(guest)?;
    give_back_behind_the_back(guest, extent(0))?;
    forge(guest, &[Record::new(FORCED_RELEASE, extent(0))], || {
        // It has the log read.
        fabric.release(&[extent(1)])?;
        wait_until_in_use(guest, &region, &[])
    })?;
    log.assert_line(&["was taken without asking while it was in use"])?;
    application.assert_memory_is_gone()?;
    // The same addresses can come again.
    fabric.add(&[extent(0)])?;
    wait_until_in_use(guest, &region, &[extent(0)])?;
    fabric.release(&[extent(0)])?;
    wait_until_in_use(guest, &region, &[])?;
    destroy(guest, &region)
}
