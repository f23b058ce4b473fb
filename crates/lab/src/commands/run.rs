// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab run`: a command in a fresh guest.

use std::io;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
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
use lab_protocol::End;
use lab_protocol::Program;
use lab_protocol::Stream;

/// Boots, runs, streams, and answers with the command's status.
pub fn run(lab: &Lab, boot: Boot, argv: Vec<String>, json: bool) -> Result<ExitCode> {
    let guest = lab.boot(boot)?;
    let name = argv.first().cloned().unwrap_or_default();
    let running = guest.start(Program {
        argv,
        ..guest::program(&[])
    })?;
    let control = running.control();
    thread::spawn(move || feed(&control));
    let end = loop {
        match running.next(None)? {
            Step::Output(_, _) if json => {}
            Step::Output(Stream::Stdout, data) => show(&mut io::stdout(), &data)?,
            Step::Output(Stream::Stderr, data) => show(&mut io::stderr(), &data)?,
            Step::Ended(end) => break end,
        }
    };
    if let End::NotStarted(errno) = end {
        let reason = io::Error::from_raw_os_error(errno);
        lab.events()
            .notice(format!("the guest cannot start '{name}': {reason}"));
    }
    guest.poweroff()?;
    Ok(ExitCode::from(
        u8::try_from(guest::exit_status(&end) & 0xff).unwrap_or(u8::MAX),
    ))
}

fn show(stream: &mut impl Write, data: &[u8]) -> Result<()> {
    stream
        .write_all(data)
        .and_then(|()| stream.flush())
        .map_err(Error::output)
}

/// Passes our standard input on. A terminal is not: whoever wants to type takes `lab shell`.
fn feed(control: &Control) -> io::Result<()> {
    let mut input = io::stdin();
    if !input.is_terminal() {
        let mut buffer = vec![0; CHUNK];
        while let length @ 1.. = input.read(&mut buffer)? {
            control.input(&buffer[..length])?;
        }
    }
    control.close_input()
}
