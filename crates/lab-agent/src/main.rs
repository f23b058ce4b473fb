// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab's agent: a static program that is all of the guest's init.
//!
//! As process 1 it mounts the kernel's file systems, starts itself once more as the agent, reaps orphans and turns the
//! machine off when the agent ends ([`init`]). The agent speaks `lab-protocol` over a virtio-serial port: it streams the
//! kernel's log and device events ([`kernel`]), starts udev and replays the hardware's arrival to it ([`coldplug`]), and
//! serves the host's requests ([`serve`], [`program`]).
//!
//! To tests in the guest it lends what no shell can do ([`poll`], [`pin`], [`map`]) or does too coarsely ([`time`]): `/init poll
//! FILE`, `/init pin FILE`, `/init map FILE`, `/init count FILE`, `/init counted FILE`, `/init time write FILE VALUE`, `/init time
//! run PROGRAM…`.

mod coldplug;
mod init;
mod kernel;
mod map;
mod outbox;
mod pin;
mod poll;
mod port;
mod program;
mod serve;
mod time;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        // The kernel passes process 1 the words of its command line that it does not know.
        _ if rustix::process::getpid().is_init() => init::run(),
        ["poll", file] => poll::run(file),
        ["pin", file] => pin::run(file),
        ["map", file] => map::map(file),
        ["count", file] => map::count(file),
        ["counted", file] => map::counted(file),
        ["time", "write", file, value] => time::write(file, value),
        ["time", "run", ref argv @ ..] => time::run(argv),
        [] => serve::run(),
        _ => Err(std::io::Error::other(
            "what I can do beside is: poll FILE, pin FILE, map FILE, count FILE, counted FILE, time write FILE VALUE, time run PROGRAM...",
        )),
    };
    if let Err(error) = result {
        eprintln!("lab-agent: {error}");
        std::process::exit(1);
    }
}
