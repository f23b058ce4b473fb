// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts QEMU. It runs without privileges, touches no file outside the cache, and dies with the lab.
//!
//! Everything between QEMU and the lab goes over descriptors that it inherits: QMP over standard input, the agent's port
//! over standard output (both are sockets), console and complaints over standard error. The image comes from a file in
//! memory. So an interrupted run has nothing to clean up.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::sync::mpsc::Sender;
use std::thread;

use serde::Serialize;

use crate::error::Error;
use crate::error::Result;
use crate::topology::Topology;
use crate::tree::Tree;

/// How the guest's processors are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the host's own.
    Kvm,
    /// By translation.
    Tcg,
}

impl Accelerator {
    /// As QEMU and people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi,tb-size=512",
        }
    }

    /// What the kernel is told for this alone. A translated processor does not speculate: what guards against that is a
    /// tenth of all that a guest does, and guards nothing. That it computes ciphers as the hardware would is for QEMU's
    /// tests to find out, and not for each boot.
    pub(crate) fn command_line(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &[],
            Self::Tcg => &["mitigations=off", "cryptomgr.notests=1"],
        }
    }

    /// A guest that knows itself to be one is refused cache invalidation, and with it the commit of a region. Translated
    /// string instructions take a turn for each byte where ERMS and FSRM promise them to be fast; without these the kernel
    /// clears and copies eight bytes a turn.
    fn processor(self) -> &'static str {
        match self {
            Self::Kvm => "max,-hypervisor,-svm",
            Self::Tcg => "max,-hypervisor,-svm,-erms,-fsrm",
        }
    }
}

/// A running QEMU and the lab's ends of the lines to it.
pub struct Qemu {
    /// The process.
    pub child: Child,
    /// QMP.
    pub qmp: UnixStream,
    /// The agent's port.
    pub agent: UnixStream,
    /// Console and complaints.
    pub console: io::PipeReader,
}

/// QEMU's arguments, machine and devices apart.
fn arguments(
    accelerator: Accelerator,
    kernel: &str,
    image: &str,
    command_line: &str,
) -> Vec<String> {
    [
        ["-accel", accelerator.argument()],
        ["-cpu", accelerator.processor()],
        ["-smp", "2"],
        ["-display", "none"],
        ["-chardev", "socket,id=qmp,fd=0"],
        ["-object", "monitor-qmp,id=monitor,chardev=qmp"],
        ["-chardev", "socket,id=agent,fd=1"],
        ["-device", "virtio-serial-pci,bus=pcie.0"],
        ["-device", "virtserialport,chardev=agent,name=lab.agent"],
        ["-chardev", "file,id=console,path=/dev/fd/2"],
        ["-serial", "chardev:console"],
        ["-kernel", kernel],
        ["-initrd", image],
        ["-append", command_line],
    ]
    .into_iter()
    .flatten()
    .chain(["-nodefaults", "-no-user-config", "-no-reboot"])
    .map(str::to_owned)
    .collect()
}

/// Starts QEMU on `topology`, with the initramfs in `image`.
///
/// # Errors
/// When it cannot be started. What it says later is on the console.
pub fn start(
    tree: &Tree,
    topology: &Topology,
    accelerator: Accelerator,
    image: &str,
    command_line: &str,
) -> Result<Qemu> {
    let failed = |error: io::Error| Error::Program {
        what: "starting QEMU".into(),
        status: error.to_string(),
        log: String::new(),
    };
    let (qmp, qmp_end) = UnixStream::pair().map_err(failed)?;
    let (agent, agent_end) = UnixStream::pair().map_err(failed)?;
    let (console, console_end) = io::pipe().map_err(failed)?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .args(tree.qemu())
        .args(topology.arguments())
        .args(arguments(
            accelerator,
            &tree.kernel().display().to_string(),
            image,
            command_line,
        ))
        .env("QEMU_MODULE_DIR", tree.qemu_modules())
        .stdin(OwnedFd::from(qmp_end))
        .stdout(OwnedFd::from(agent_end))
        .stderr(console_end);
    let child = spawn(command).map_err(failed)?;
    Ok(Qemu {
        child,
        qmp,
        agent,
        console,
    })
}

/// Starts `command` from a thread that lives as long as the lab: the kernel delivers the death signal when the thread
/// that started a process ends, not when the process does.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let child = command.spawn();
                // The command holds QEMU's ends of the lines; they must close when QEMU ends.
                drop(command);
                let _ = answer.send(child);
            }
        });
        sender
    });
    let gone = |_| io::Error::other("the thread that starts QEMU is gone");
    let (answer, child) = mpsc::channel();
    starter
        .send((command, answer))
        .map_err(|_| gone(mpsc::RecvError))?;
    child.recv().map_err(gone)?
}
