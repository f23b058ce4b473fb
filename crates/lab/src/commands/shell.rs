// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab shell`: a terminal on a fresh guest.

use std::io;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;

use lab::Boot;
use lab::Error;
use lab::Lab;
use lab::Result;
use lab::guest;
use lab::running::Control;
use lab::running::Step;
use lab_protocol::CHUNK;
use lab_protocol::Program;
use lab_protocol::TerminalSize;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;

/// Tells before anything is made that nobody could work in the guest.
pub fn check(json: bool) -> Result<()> {
    let what = if json {
        "'lab shell' is for people, and --json for programs"
    } else if !io::stdin().is_terminal() {
        "'lab shell' needs a terminal on its standard input"
    } else {
        return Ok(());
    };
    Err(Error::Host {
        what: what.into(),
        remedy: "use 'lab run' to run commands".into(),
    })
}

/// Boots, and gives the user a login shell until it ends.
pub fn run(lab: &Lab, boot: Boot) -> Result<ExitCode> {
    let guest = lab.boot(boot)?;
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "linux".into());
    let running = guest.start(Program {
        env: vec![("TERM".into(), terminal)],
        terminal: Some(size()?),
        ..guest::program(&["bash", "--login"])
    })?;
    let (typing, resizing) = (running.control(), running.control());
    let mut resizes =
        Signals::new([SIGWINCH]).map_err(Error::file("watch", "the terminal's size"))?;
    let end = {
        let _raw = Raw::enter()?;
        thread::spawn(move || forward_input(&typing));
        thread::spawn(move || {
            resizes
                .forever()
                .try_for_each(|_| size().ok().and_then(|size| resizing.resize(size).ok()))
        });
        loop {
            match running.next(None)? {
                Step::Output(_, data) => {
                    let mut stdout = io::stdout();
                    stdout
                        .write_all(&data)
                        .and_then(|()| stdout.flush())
                        .map_err(Error::output)?;
                }
                Step::Ended(end) => break end,
            }
        }
    };
    guest.poweroff()?;
    Ok(ExitCode::from(
        u8::try_from(guest::exit_status(&end) & 0xff).unwrap_or(u8::MAX),
    ))
}

fn forward_input(control: &Control) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while let length @ 1.. = io::stdin().read(&mut buffer)? {
        control.input(&buffer[..length])?;
    }
    control.close_input()
}

fn size() -> Result<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(io::stdin().as_fd())
        .map_err(|error| Error::file("ask the size of", "the terminal")(error.into()))?;
    Ok(TerminalSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// The terminal passes every key on as it is, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Result<Self> {
        let failed = |error: rustix::io::Errno| Error::file("change", "the terminal")(error.into());
        let before = rustix::termios::tcgetattr(io::stdin().as_fd()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &raw)
            .map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _ = rustix::termios::tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}
