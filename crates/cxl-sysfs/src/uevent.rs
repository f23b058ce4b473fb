// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's own announcements (uevents): how to wait for a device without sleeping.

use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::netlink;

use crate::error::Error;
use crate::error::Result;
use crate::tree::Events;

/// The group to which the kernel sends; udev's own messages are in another one.
const KERNEL_GROUP: u32 = 1;

/// The largest message the kernel builds, with room to spare.
const MESSAGE: usize = 8192;

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `bind`, `unbind`, `change`, …
    pub action: String,
    /// The device below `/sys`.
    pub path: String,
    /// `cxl`, `dax`, `memory`, …
    pub subsystem: Option<String>,
}

impl Uevent {
    /// Reads a kernel message: a header `action@path` and `KEY=value` strings, each ended by a zero byte.
    ///
    /// ```
    /// use cxl_sysfs::uevent::Uevent;
    /// let event = Uevent::parse(b"add@/devices/x/dax0.0\0ACTION=add\0SUBSYSTEM=dax\0").unwrap();
    /// assert_eq!(event.subsystem.as_deref(), Some("dax"));
    /// assert_eq!(Uevent::parse(b"libudev\0..."), None);
    /// ```
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut strings = message
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy);
        let header = strings.next()?;
        let (action, path) = header.split_once('@')?;
        let subsystem =
            strings.find_map(|string| string.strip_prefix("SUBSYSTEM=").map(str::to_owned));
        Some(Self {
            action: action.to_owned(),
            path: path.to_owned(),
            subsystem,
        })
    }

    /// Whether the event is about memory, as a region driver's user understands it.
    #[must_use]
    pub fn concerns_memory(&self) -> bool {
        matches!(self.subsystem.as_deref(), Some("cxl" | "dax" | "memory"))
    }
}

/// The kernel's event socket. What happens after [`Socket::subscribe`] is not missed.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
}

impl Socket {
    /// Opens the socket and joins the kernel's group.
    ///
    /// # Errors
    /// [`Error::Events`] when the kernel refuses either.
    pub fn subscribe() -> Result<Self> {
        let failed = |attempt| {
            move |errno: rustix::io::Errno| Error::Events {
                attempt,
                source: errno.into(),
            }
        };
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::KOBJECT_UEVENT),
        )
        .map_err(failed("open"))?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, KERNEL_GROUP))
            .map_err(failed("join"))?;
        Ok(Self { socket })
    }
}

impl Events for Socket {
    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        let mut message = vec![0; MESSAGE];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: i64::MAX,
                tv_nsec: 0,
            });
            let mut poll = [PollFd::new(&self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut poll, Some(&left)) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                // The caller looks whether it was told to stop.
                Err(rustix::io::Errno::INTR) => return Ok(true),
                Err(errno) => {
                    return Err(Error::Events {
                        attempt: "wait for",
                        source: errno.into(),
                    });
                }
            }
            match rustix::net::recv(&self.socket, &mut message[..], RecvFlags::empty()) {
                Ok((length, _)) => {
                    let event = Uevent::parse(&message[..length]);
                    if event.is_some_and(|event| event.concerns_memory()) {
                        return Ok(true);
                    }
                }
                // Messages were lost, or a signal came: something happened, so look.
                Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => return Ok(true),
                Err(errno) => {
                    return Err(Error::Events {
                        attempt: "read",
                        source: errno.into(),
                    });
                }
            }
        }
    }
}

/// The events of a tree that no kernel drives: there are none, and nothing is worth waiting for.
#[derive(Debug)]
pub struct Silence;

impl Events for Silence {
    fn wait(&mut self, _timeout: Duration) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_wakes_the_waiter() {
        let event = |subsystem: &str| {
            Uevent::parse(format!("add@/devices/x\0ACTION=add\0SUBSYSTEM={subsystem}\0").as_bytes())
                .expect("an event")
        };
        assert!(event("dax").concerns_memory());
        assert!(event("cxl").concerns_memory());
        assert!(event("memory").concerns_memory());
        assert!(!event("block").concerns_memory());
    }

    #[test]
    fn udevs_own_messages_are_not_the_kernels() {
        assert_eq!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(Uevent::parse(b""), None);
    }
}
