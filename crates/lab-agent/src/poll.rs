// SPDX-License-Identifier: MIT OR Apache-2.0
//! `poll FILE`: what a sysfs attribute reads, one line now and one after each notification of its change.

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;

use rustix::event::PollFd;
use rustix::event::PollFlags;

/// Never returns unless something fails.
pub fn run(path: &str) -> io::Result<()> {
    let attribute = File::open(path)?;
    let mut output = io::stdout();
    let mut text = [0; 4096];
    loop {
        // A read from the start is what makes the next notification count as new.
        let length = attribute.read_at(&mut text, 0)?;
        output.write_all(&text[..length])?;
        output.flush()?;
        // sysfs answers a change as an exceptional condition.
        let mut notified = [PollFd::new(&attribute, PollFlags::PRI)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut notified, None))?;
    }
}
