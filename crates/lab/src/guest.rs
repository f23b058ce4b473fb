// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running guest, as tests and people use it.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use lab_protocol::End;
use lab_protocol::KernelRecord;
use lab_protocol::Message;
use lab_protocol::Program;
use lab_protocol::Request;
use rustix::io::Errno;

use crate::error::Error;
use crate::error::Result;
use crate::event;
use crate::event::Event;
use crate::event::Events;
use crate::image::Image;
use crate::kernel_log;
use crate::link::Link;
use crate::link::State;
use crate::qemu::Qemu;
use crate::qmp::Monitor;
use crate::running::Output;
use crate::running::Running;
use crate::topology::Topology;

/// After so long without an end, something hangs. Deadlines are for that alone: nothing waits for one to pass.
pub const HANG: Duration = Duration::from_mins(5);

/// The name of the kernel in `/copy`, where the guest can start it anew.
pub(crate) const KERNEL: &str = "vmlinuz";

/// How many lines of the console an error shows.
const CONSOLE_LINES: usize = 60;

/// A running guest. It is turned off when this is dropped.
pub struct Guest {
    id: u64,
    topology: Topology,
    accelerator: &'static str,
    command_line: String,
    link: Arc<Link>,
    monitor: Monitor,
    child: Mutex<Child>,
    /// QEMU has read it once the agent runs; until then it must stay open.
    image: Mutex<Option<Image>>,
    events: Events,
    marks: AtomicU64,
}

impl Guest {
    /// Takes over a QEMU that was just started. The guest is not ready yet: see [`Self::wait_until_ready`].
    pub(crate) fn new(
        id: u64,
        topology: Topology,
        accelerator: &'static str,
        command_line: String,
        qemu: Qemu,
        image: Image,
        events: &Events,
    ) -> Result<Self> {
        let link = Link::new(qemu.agent, qemu.console, id, events)
            .map_err(Error::file("duplicate", "a socket"))?;
        Ok(Self {
            id,
            topology,
            accelerator,
            command_line,
            link,
            monitor: Monitor::new(qemu.qmp),
            child: Mutex::new(qemu.child),
            image: Mutex::new(Some(image)),
            events: events.clone(),
            marks: AtomicU64::new(0),
        })
    }

    /// Ties events to this guest.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The hardware.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// `kvm` or `tcg`: times are comparable only within one.
    #[must_use]
    pub fn accelerator(&self) -> &'static str {
        self.accelerator
    }

    /// Whether the guest has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.link.state().gone
    }

    /// Waits until the guest has ended by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_until_gone(&self) -> Result<()> {
        let gone = self.link.wait(HANG, |state| state.gone.then_some(()));
        gone.ok_or_else(|| self.broken("does not end"))
    }

    /// Whether `text` comes on the console before `deadline`.
    pub(crate) fn says_within(&self, deadline: Duration, text: &str) -> bool {
        let said = |state: &mut State| state.console().contains(text).then_some(());
        self.link.wait(deadline, said).is_some()
    }

    /// Waits until the agent runs.
    pub(crate) fn wait_for_agent(&self, deadline: Duration) -> Result<()> {
        self.link
            .wait(deadline, |state| state.hello.clone())
            .ok_or_else(|| self.broken("did not start its agent"))?
            .map_err(|errno| Error::GuestFile {
                action: "start another kernel".into(),
                errno: Errno::from_raw_os_error(errno),
            })?;
        *self.image.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Ends QEMU at once, for a guest that will not listen.
    pub(crate) fn kill(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child
            .kill()
            .and_then(|()| child.wait())
            .map(drop)
            .map_err(Error::file("kill", "QEMU"))
    }

    /// Waits until coldplug is over.
    pub(crate) fn wait_for_coldplug(&self) -> Result<()> {
        self.link
            .wait(HANG, |state| state.ready.clone())
            .ok_or_else(|| self.broken("did not finish its coldplug"))?
            .map_err(|reason| self.broken(&format!("failed in its coldplug: {reason}")))
    }

    /// Waits until every memory device of the topology has its driver and its endpoint.
    ///
    /// # Errors
    /// When they do not come so far.
    pub fn wait_for_hardware(&self) -> Result<()> {
        let expected = self.topology.memory_devices().count();
        if expected > 0 {
            let drivers =
                ["mem*", "endpoint*"].map(|name| format!("/sys/bus/cxl/devices/{name}/driver"));
            let drivers = drivers.each_ref().map(String::as_str);
            self.wait_for(
                "every memory device has its driver and its endpoint",
                || Ok(self.look(&drivers)?.len() == 2 * expected),
            )?;
            self.sh_ok("udevadm settle")?;
        }
        Ok(())
    }

    /// Loads the project's modules.
    ///
    /// # Errors
    /// When they are not installed, or refuse.
    pub fn load_modules(&self) -> Result<()> {
        self.sh_ok("modprobe -a kmem cxl_regions && udevadm settle")
            .map(drop)
    }

    /// Starts the guest's kernel anew, past the firmware and with the hardware as it is: decoders stay committed, as they
    /// do where firmware has committed them. Wants [`crate::Boot::with_kexec`].
    ///
    /// `arguments` are added to the command line of the boot. All programs end; the kernel's log goes on. Returns when
    /// coldplug is over. The project's modules are not loaded again.
    ///
    /// # Errors
    /// When the kernel cannot be loaded, or does not come up.
    pub fn kexec(&self, arguments: &str) -> Result<()> {
        self.sh_ok(&format!(
            "kexec -s -l /copy/{KERNEL} --initrd=/sys/firmware/initrd --command-line='{} {arguments}'",
            self.command_line
        ))?;
        self.link.state().hello = None;
        self.link
            .send(&Request::Restart)
            .map_err(|error| self.broken(&format!("took no request ({error})")))?;
        self.wait_for_agent(HANG)?;
        self.wait_for_coldplug()
    }

    /// Starts a program without waiting for its end.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn start(&self, program: Program) -> Result<Running<'_>> {
        let argv = program.argv.clone();
        let (id, messages) = self
            .link
            .request(|id| Request::Start(id, program))
            .map_err(|error| self.broken(&format!("took no command ({error})")))?;
        self.events.emit(&Event::CommandStarted {
            guest: self.id,
            command: id,
            argv: argv.clone(),
        });
        Ok(Running::new(self, id, argv, messages))
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When the guest is gone, or the program hangs. That it fails is no error here: see [`Output`].
    pub fn run(&self, argv: &[&str]) -> Result<Output> {
        self.start(program(argv))?.output(HANG)
    }

    /// Runs a script in bash to its end.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.run(&["bash", "-c", script])
    }

    /// Runs a script that must succeed, and returns what it printed on standard output.
    ///
    /// # Errors
    /// As [`Self::run`], and when it fails: then with all that it printed.
    pub fn sh_ok(&self, script: &str) -> Result<String> {
        self.sh(script)?.success()
    }

    /// Reads a file, without white space at its end.
    ///
    /// # Errors
    /// What the guest's kernel answers: see [`Error::errno`].
    pub fn read(&self, path: &str) -> Result<String> {
        let content = match self.answer(|id| Request::Read(id, path.to_owned()))? {
            Message::Content(_, content) => content,
            other => return Err(self.broken(&format!("answered a read with {other:?}"))),
        };
        let content = content.map_err(|errno| Error::GuestFile {
            action: format!("read {path}"),
            errno: Errno::from_raw_os_error(errno),
        })?;
        Ok(String::from_utf8_lossy(&content).trim_end().to_owned())
    }

    /// What there is that matches one of `patterns`, which are those of a shell without braces: with its content, without
    /// white space at its end, where that can be read. Much cheaper than a program that does it.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn look(&self, patterns: &[&str]) -> Result<BTreeMap<String, Option<String>>> {
        let patterns: Vec<String> = patterns.iter().copied().map(str::to_owned).collect();
        let seen = match self.answer(|id| Request::Look(id, patterns))? {
            Message::Seen(_, seen) => seen,
            other => return Err(self.broken(&format!("answered a look with {other:?}"))),
        };
        let text = |content: Vec<u8>| String::from_utf8_lossy(&content).trim_end().to_owned();
        Ok(seen
            .into_iter()
            .map(|(path, content)| (path, content.map(text)))
            .collect())
    }

    /// Writes a file in one `write` call, as sysfs wants it.
    ///
    /// # Errors
    /// What the guest's kernel answers: see [`Error::errno`].
    pub fn write(&self, path: &str, content: &str) -> Result<()> {
        let written = match self
            .answer(|id| Request::Write(id, path.to_owned(), content.as_bytes().to_vec()))?
        {
            Message::Written(_, written) => written,
            other => return Err(self.broken(&format!("answered a write with {other:?}"))),
        };
        written.map_err(|errno| Error::GuestFile {
            action: format!("write '{}' to {path}", content.trim_end()),
            errno: Errno::from_raw_os_error(errno),
        })
    }

    /// Writes a file, which the guest's kernel must refuse with `errno`.
    ///
    /// # Errors
    /// When it accepts it, or refuses it otherwise.
    pub fn write_refused(&self, path: &str, content: &str, errno: Errno) -> Result<()> {
        match self.write(path, content) {
            Err(error) if error.errno() == Some(errno) => Ok(()),
            Err(error) => Err(Error::test(format!("{error}, where {errno} was expected"))),
            Ok(()) => Err(Error::test(format!(
                "writing '{content}' to {path} was accepted, where {errno} was expected"
            ))),
        }
    }

    /// Waits until `condition` holds, looking again after every device event of the guest's kernel.
    ///
    /// # Errors
    /// What `condition` answers, and when it still does not hold after [`HANG`].
    pub fn wait_for(
        &self,
        description: &str,
        mut condition: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + HANG;
        loop {
            // The count comes first: an event during the look must lead to another look.
            let seen = self.link.state().uevents;
            if condition()? {
                return Ok(());
            }
            let remaining = deadline.saturating_duration_since(Instant::now());
            self.link
                .wait(remaining, |state| (state.uevents > seen).then_some(()))
                .ok_or_else(|| self.broken(&format!("never came so far that {description}")))?;
        }
    }

    /// The kernel's log up to now.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn kernel_log(&self) -> Result<Vec<KernelRecord>> {
        // A mark of our own tells that all that was logged before it has arrived.
        let mark = format!("{MARK}{}", self.marks.fetch_add(1, Ordering::Relaxed));
        // Without its end of line the kernel would keep the record open, and show it to nobody.
        self.write("/dev/kmsg", &format!("{mark}\n"))?;
        let records = self.link.wait(HANG, |state| {
            let arrived = state.kernel.iter().rev().any(|record| record.text == mark);
            arrived.then(|| state.kernel.clone())
        });
        let mut records = records.ok_or_else(|| self.broken("did not log our mark"))?;
        records.retain(|record| !is_mark(record));
        Ok(records)
    }

    /// Waits until the kernel logs a line with `text` in it, after the first `from` (a length of [`Self::kernel_log`]).
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_log(&self, from: usize, text: &str) -> Result<()> {
        let logged = self.link.wait(HANG, |state| {
            let mut records = state
                .kernel
                .iter()
                .filter(|record| !is_mark(record))
                .skip(from);
            records
                .any(|record| record.text.contains(text))
                .then_some(())
        });
        logged.ok_or_else(|| self.broken(&format!("never logged '{text}'")))
    }

    /// Checks that the kernel logged nothing since `from` (a length of [`Self::kernel_log`]) that a healthy one would not.
    ///
    /// # Errors
    /// When it did: with the log from there on.
    pub fn assert_clean_log(&self, from: usize) -> Result<()> {
        let records = self.kernel_log()?;
        let new = records.get(from..).unwrap_or_default();
        let trouble = kernel_log::trouble(new);
        if trouble.is_empty() {
            return Ok(());
        }
        let log: Vec<String> = new.iter().map(kernel_log::line).collect();
        Err(Error::test(format!(
            "the kernel logged '{}':\n{}",
            trouble[0].text,
            log.join("\n")
        )))
    }

    /// Executes a QMP command.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub fn qmp<C: qapi::Command>(&self, command: &C) -> Result<C::Ok> {
        self.monitor.execute(command)
    }

    /// Turns the guest off and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn poweroff(self) -> Result<()> {
        self.shut_down()
    }

    fn shut_down(&self) -> Result<()> {
        // A guest that is gone already takes no order, and needs none.
        let _ = self.link.send(&Request::PowerOff);
        let gone = self.wait_until_gone();
        self.link.close();
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if gone.is_err() {
            child.kill().map_err(Error::file("kill", "QEMU"))?;
        }
        child.wait().map_err(Error::file("wait for", "QEMU"))?;
        self.events.emit(&Event::GuestEnded { guest: self.id });
        gone
    }

    fn answer(&self, request: impl FnOnce(u64) -> Request) -> Result<Message> {
        let (_, messages) = self
            .link
            .request(request)
            .map_err(|error| self.broken(&format!("took no request ({error})")))?;
        messages
            .recv_timeout(HANG)
            .map_err(|_| self.broken("did not answer"))
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// An error about this guest, with the end of its console and what QEMU said.
    pub(crate) fn broken(&self, what: &str) -> Error {
        let gone = if self.link.state().gone {
            "ended: it "
        } else {
            ""
        };
        let mut console = self.link.console_tail(CONSOLE_LINES);
        if console.is_empty() {
            let state = self.link.state();
            let lines: Vec<String> = state.kernel.iter().map(kernel_log::line).collect();
            console = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
        }
        Error::Guest {
            topology: self.topology.name.to_owned(),
            what: format!("{gone}{what}"),
            console,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let ended = self
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_wait();
        if matches!(ended, Ok(None))
            && let Err(error) = self.shut_down()
        {
            self.events.notice(error.to_string());
        }
    }
}

/// How our marks in the kernel's log begin.
const MARK: &str = "lab: mark ";

fn is_mark(record: &KernelRecord) -> bool {
    record.text.starts_with(MARK)
}

/// A program without terminal, in `/copy`.
#[must_use]
pub fn program(argv: &[&str]) -> Program {
    Program {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: Vec::new(),
        directory: "/copy".into(),
        terminal: None,
    }
}

/// How long `started` is ago, as events carry it.
pub(crate) fn since(started: Instant) -> f64 {
    event::seconds(started.elapsed())
}

/// A program's end as an exit status: 128 and the signal's number where one killed it, 127 where it did not start.
#[must_use]
pub fn exit_status(end: &End) -> i32 {
    match end {
        End::Exited(status) => *status,
        End::Killed(signal) => 128 + signal,
        End::NotStarted(_) => 127,
    }
}
