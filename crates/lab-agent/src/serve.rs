// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's main loop.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use lab_protocol::End;
use lab_protocol::Id;
use lab_protocol::Message;
use lab_protocol::Request;
use rustix::io::Errno;
use rustix::system::RebootCommand;

use crate::coldplug;
use crate::kernel;
use crate::kernel::Uevents;
use crate::outbox::Outbox;
use crate::port;
use crate::program::Running;

/// Programs that have not ended yet. The thread that sees one end removes it.
pub type Programs = Arc<Mutex<HashMap<Id, Running>>>;

/// Serves the host until it says to power off or goes away.
pub fn run() -> io::Result<()> {
    let uevents = Uevents::open()?;
    let mut inbox = port::open(&uevents)?;
    let outbox = Outbox::new(inbox.try_clone()?);
    // The first write waits until the host's end is connected; a read before that would look like its end.
    outbox.send(&Message::Hello(
        rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
    ));
    let stream = outbox.clone();
    thread::spawn(move || kernel::stream_log(&stream));
    let stream = outbox.clone();
    thread::spawn(move || uevents.stream(&stream));
    let ready = outbox.clone();
    thread::spawn(move || {
        ready.send(&match coldplug::run() {
            Ok(()) => Message::Ready,
            Err(reason) => Message::Failed(reason),
        });
    });
    let programs = Programs::default();
    while let Some(request) = lab_protocol::receive(&mut inbox)? {
        if request == Request::PowerOff {
            break;
        }
        serve(request, &programs, &outbox);
    }
    Ok(())
}

fn serve(request: Request, programs: &Programs, outbox: &Outbox) {
    let with_program = |id: Id, action: &dyn Fn(&Running)| {
        // One that ended while the request was on its way needs nothing more.
        if let Some(program) = programs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
        {
            action(program);
        }
    };
    match request {
        Request::Start(id, program) => {
            let mut running = programs.lock().unwrap_or_else(PoisonError::into_inner);
            match Running::start(id, &program, programs.clone(), outbox.clone()) {
                Ok(program) => {
                    running.insert(id, program);
                }
                Err(error) => outbox.send(&Message::Ended(id, End::NotStarted(errno(&error)))),
            }
        }
        Request::Input(id, data) => with_program(id, &|program| program.input(data.clone())),
        Request::Resize(id, size) => with_program(id, &|program| program.resize(size)),
        Request::Signal(id, signal) => with_program(id, &|program| program.signal(signal)),
        // Files may block (an attribute that offlines memory does); nothing else should wait for them.
        Request::Read(id, path) => {
            let outbox = outbox.clone();
            thread::spawn(move || {
                outbox.send(&Message::Content(
                    id,
                    fs::read(path).map_err(|error| errno(&error)),
                ));
            });
        }
        Request::Look(id, patterns) => {
            let outbox = outbox.clone();
            thread::spawn(move || {
                outbox.send(&Message::Seen(id, look(&patterns)));
            });
        }
        Request::Write(id, path, data) => {
            let outbox = outbox.clone();
            thread::spawn(move || {
                outbox.send(&Message::Written(
                    id,
                    write_once(&path, &data).map_err(|error| errno(&error)),
                ));
            });
        }
        Request::Restart => {
            // While nobody else may write: the host must not be left with half a message.
            let failed = outbox.silence(|| rustix::system::reboot(RebootCommand::Kexec));
            if let Err(error) = failed {
                outbox.send(&Message::NotRestarted(error.raw_os_error()));
            }
        }
        Request::PowerOff => unreachable!("the main loop ends on it"),
    }
}

/// What there is that matches one of these patterns. What goes meanwhile is left out, or has no content.
fn look(patterns: &[String]) -> Vec<(String, Option<Vec<u8>>)> {
    patterns
        .iter()
        .filter_map(|pattern| glob::glob(pattern).ok())
        .flatten()
        .flatten()
        .map(|path| {
            let content = fs::read(&path).ok();
            (path.to_string_lossy().into_owned(), content)
        })
        .collect()
}

/// One `write` call for the whole of it: an attribute takes each call as a value of its own.
fn write_once(path: &str, data: &[u8]) -> io::Result<()> {
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?
        .write(data)?;
    if written == data.len() {
        Ok(())
    } else {
        Err(Errno::NOSPC.into())
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())
}
