// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program that the host started: its input, its output, its end.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::sync::mpsc::Sender;
use std::thread;

use lab_protocol::CHUNK;
use lab_protocol::End;
use lab_protocol::Id;
use lab_protocol::Message;
use lab_protocol::Program;
use lab_protocol::Stream;
use lab_protocol::TerminalSize;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::outbox::Outbox;
use crate::serve::Programs;

/// The host's hold on a program that runs.
pub struct Running {
    pid: Pid,
    input: Sender<Vec<u8>>,
    terminal: Option<OwnedFd>,
}

impl Running {
    /// Starts `program`; its output and its end go to `outbox`, and its end removes it from `programs`.
    pub fn start(
        id: Id,
        program: &Program,
        programs: Programs,
        outbox: Outbox,
    ) -> io::Result<Self> {
        let (child, pipes, terminal) = match program.terminal {
            Some(size) => spawn_on_terminal(program, size)?,
            None => spawn_on_pipes(program)?,
        };
        let Pipes { input, outputs } = pipes;
        let pid = Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        for (_, output) in &outputs {
            let flags = rustix::fs::fcntl_getfl(output)?;
            rustix::fs::fcntl_setfl(output, flags | OFlags::NONBLOCK)?;
        }
        thread::spawn(move || {
            let end = watch(id, child, &pidfd, outputs, &outbox);
            programs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            outbox.send(&Message::Ended(id, end));
        });
        Ok(Self {
            pid,
            input: feed(input),
            terminal,
        })
    }

    /// Queues a piece of standard input; an empty one closes it.
    pub fn input(&self, data: Vec<u8>) {
        // The feeding thread ends when the program closed its input; what comes after that goes nowhere, as in a pipe.
        let _ = self.input.send(data);
    }

    /// Sends `signal` to the program's process group.
    pub fn signal(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            // It may have ended this moment, which is what signals are for.
            let _ = rustix::process::kill_process_group(self.pid, signal);
        }
    }

    /// Tells the program's terminal its new size.
    pub fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &self.terminal {
            let _ = rustix::termios::tcsetwinsize(terminal, winsize(size));
        }
    }
}

struct Pipes {
    input: File,
    outputs: Vec<(Stream, File)>,
}

type Spawned = (Child, Pipes, Option<OwnedFd>);

fn command(program: &Program, argv: &[String]) -> io::Result<Command> {
    let (name, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&program.directory);
    Ok(command)
}

fn spawn_on_pipes(program: &Program) -> io::Result<Spawned> {
    let mut child = command(program, &program.argv)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let missing = || io::Error::other("a pipe was asked for and is not there");
    let pipes = Pipes {
        input: OwnedFd::from(child.stdin.take().ok_or_else(missing)?).into(),
        outputs: vec![
            (
                Stream::Stdout,
                OwnedFd::from(child.stdout.take().ok_or_else(missing)?).into(),
            ),
            (
                Stream::Stderr,
                OwnedFd::from(child.stderr.take().ok_or_else(missing)?).into(),
            ),
        ],
    };
    Ok((child, pipes, None))
}

fn spawn_on_terminal(program: &Program, size: TerminalSize) -> io::Result<Spawned> {
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    rustix::termios::tcsetwinsize(&master, winsize(size))?;
    let name = rustix::pty::ptsname(&master, Vec::new())?;
    let slave = rustix::fs::open(
        &name,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    // setsid makes the session, the process group and the controlling terminal, and becomes the program.
    let mut argv: Vec<String> = vec!["setsid".into(), "--ctty".into(), "--".into()];
    argv.extend(program.argv.iter().cloned());
    let child = command(program, &argv)?
        .stdin(slave.try_clone()?)
        .stdout(slave.try_clone()?)
        .stderr(slave)
        .spawn()?;
    let pipes = Pipes {
        input: master.try_clone()?.into(),
        outputs: vec![(Stream::Stdout, master.try_clone()?.into())],
    };
    Ok((child, pipes, Some(master)))
}

fn winsize(size: TerminalSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// A thread of its own writes the input: a program that does not read must not hold up the agent.
fn feed(mut input: File) -> Sender<Vec<u8>> {
    let (sender, pieces) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for piece in pieces {
            if piece.is_empty() || input.write_all(&piece).is_err() {
                break;
            }
        }
    });
    sender
}

/// Forwards output until the program itself has ended and what it wrote is out. Descendants that keep the pipes open do
/// not prolong it: a test may well leave something running in the background.
fn watch(
    id: Id,
    mut child: Child,
    pidfd: &OwnedFd,
    mut outputs: Vec<(Stream, File)>,
    outbox: &Outbox,
) -> End {
    loop {
        let waiting: Vec<BorrowedFd<'_>> = outputs
            .iter()
            .map(|(_, output)| output.as_fd())
            .chain([pidfd.as_fd()])
            .collect();
        let mut polled: Vec<PollFd<'_>> = waiting
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return End::NotStarted(error.raw_os_error()),
        }
        let ended = polled
            .last()
            .is_some_and(|program| !program.revents().is_empty());
        outputs.retain_mut(|(stream, output)| forward(id, *stream, output, outbox));
        if ended {
            return child.wait().map_or_else(
                |error| End::NotStarted(error.raw_os_error().unwrap_or(0)),
                end,
            );
        }
    }
}

/// Sends all that can be read now. False when there is nothing more to come.
fn forward(id: Id, stream: Stream, output: &mut File, outbox: &Outbox) -> bool {
    let mut buffer = vec![0; CHUNK];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => outbox.send(&Message::Output(id, stream, buffer[..length].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal whose last user closed it answers EIO.
            Err(_) => return false,
        }
    }
}

fn end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Killed(signal.unwrap_or_default()),
    }
}
