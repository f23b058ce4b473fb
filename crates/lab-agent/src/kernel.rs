// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel says by itself: its log and its device events.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;

use lab_protocol::KernelRecord;
use lab_protocol::Message;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::netlink;
use rustix::net::netlink::SocketAddrNetlink;

use crate::outbox::Outbox;

/// The kernel's device events.
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Listens from now on.
    pub fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::KOBJECT_UEVENT),
        )?;
        // A thousand memory blocks may come at once.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20)?;
        // Group 1 is the kernel's own events; group 2 would be udev's.
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(Self(socket))
    }

    /// Waits for the next event: `ACTION@DEVPATH`.
    pub fn next(&self) -> io::Result<String> {
        let mut buffer = [0_u8; 8192];
        let length = loop {
            match rustix::net::recv(&self.0, &mut buffer, RecvFlags::empty()) {
                Ok((_, length)) => break length,
                // Events were lost; whoever waits for one must look again.
                Err(rustix::io::Errno::NOBUFS) => return Ok("lost@".into()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let head = buffer[..length.min(buffer.len())]
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        Ok(String::from_utf8_lossy(head).into_owned())
    }

    /// Tells the host of every event, for ever.
    pub fn stream(self, outbox: &Outbox) -> io::Result<()> {
        loop {
            outbox.send(&Message::Uevent(self.next()?));
        }
    }
}

/// Tells the host of every record of the kernel's log, from the first on, for ever.
pub fn stream_log(outbox: &Outbox) -> io::Result<()> {
    let mut log = File::open("/dev/kmsg")?;
    let mut buffer = [0; 16 << 10];
    loop {
        match log.read(&mut buffer) {
            Ok(length) => {
                if let Some(record) = parse_record(&String::from_utf8_lossy(&buffer[..length])) {
                    outbox.send(&Message::Kernel(record));
                }
            }
            // Records were overwritten before they were read; go on with the oldest that is left.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Parses `priority,sequence,microseconds,flags[,...];text`; lines that follow carry device properties.
fn parse_record(record: &str) -> Option<KernelRecord> {
    let (head, text) = record.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let microseconds = fields.nth(1)?.parse().ok()?;
    Some(KernelRecord {
        level: u8::try_from(priority & 7).ok()?,
        microseconds,
        text: text.lines().next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_level_time_and_its_first_line() {
        let record = parse_record(
            "14,339,5140900,-;kmem dax0.0: mapped\n SUBSYSTEM=dax\n DEVICE=+dax:dax0.0\n",
        );
        let expected = KernelRecord {
            level: 6,
            microseconds: 5_140_900,
            text: "kmem dax0.0: mapped".into(),
        };
        assert_eq!(record, Some(expected));
    }

    #[test]
    fn what_is_no_record_is_ignored() {
        assert_eq!(parse_record("hello"), None);
        assert_eq!(parse_record("x,1,2,-;text"), None);
    }
}
