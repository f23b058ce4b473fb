// SPDX-License-Identifier: MIT OR Apache-2.0
//! Process 1: mounts, one child, orphans, power.

use std::fs;
use std::io;
use std::process::Command;
use std::process::Stdio;

use rustix::mount::MountFlags;
use rustix::process::WaitOptions;
use rustix::system::RebootCommand;

/// Where, what, and with which options; in this order, since some lie inside others.
const MOUNTS: &[(&str, &str, &str)] = &[
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/dev", "devtmpfs", "mode=0755"),
    ("/dev/pts", "devpts", "mode=0620,ptmxmode=0666"),
    ("/dev/shm", "tmpfs", "mode=1777"),
    ("/run", "tmpfs", "mode=0755"),
    ("/tmp", "tmpfs", "mode=1777"),
    ("/sys/fs/cgroup", "cgroup2", ""),
    ("/sys/kernel/debug", "debugfs", ""),
    ("/sys/kernel/tracing", "tracefs", ""),
];

/// Runs the agent until it ends, then turns the machine off. Process 1 must never return, or the kernel panics.
pub fn run() -> io::Result<()> {
    for (target, kind, options) in MOUNTS {
        fs::create_dir_all(target)?;
        let options = std::ffi::CString::new(*options)?;
        match rustix::mount::mount(
            *kind,
            *target,
            *kind,
            MountFlags::empty(),
            options.as_c_str(),
        ) {
            // The kernel mounts devtmpfs by itself where it is configured so.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => eprintln!("lab-agent: mount {kind} on {target}: {error}"),
        }
    }
    rustix::system::sethostname(b"lab")?;
    let agent = Command::new("/proc/self/exe")
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .spawn()?;
    let agent = rustix::process::Pid::from_child(&agent);
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid == agent => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                eprintln!("lab-agent: wait: {error}");
                break;
            }
        }
    }
    rustix::system::reboot(RebootCommand::PowerOff)?;
    Ok(())
}
