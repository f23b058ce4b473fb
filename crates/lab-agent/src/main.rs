// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab's agent: a static program that is all of the guest's init.
//!
//! As process 1 it mounts the kernel's file systems, starts itself once more as the agent, reaps orphans and turns the
//! machine off when the agent ends ([`init`]). The agent speaks `lab-protocol` over a virtio-serial port: it streams the
//! kernel's log and device events ([`kernel`]), starts udev and replays the hardware's arrival to it ([`coldplug`]), and
//! serves the host's requests ([`serve`], [`program`]).

mod coldplug;
mod init;
mod kernel;
mod outbox;
mod port;
mod program;
mod serve;

fn main() {
    let result = if rustix::process::getpid().is_init() {
        init::run()
    } else {
        serve::run()
    };
    if let Err(error) = result {
        eprintln!("lab-agent: {error}");
        std::process::exit(1);
    }
}
