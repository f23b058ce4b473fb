// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab's end of the line to an agent: sends requests, sorts what comes back, and notices when the guest is gone.

use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use lab_protocol::Id;
use lab_protocol::KernelRecord;
use lab_protocol::Message;
use lab_protocol::Request;

use crate::event::Event;
use crate::event::Events;

/// How much of the console is kept, in bytes.
const CONSOLE_KEPT: usize = 256 << 10;

/// What has arrived from a guest so far.
#[derive(Default)]
pub struct State {
    /// The kernel's release, set when the agent runs; or why no other kernel could be started.
    pub hello: Option<Result<String, i32>>,
    /// Set when coldplug is over, well or not.
    pub ready: Option<Result<(), String>>,
    /// The kernel's log.
    pub kernel: Vec<KernelRecord>,
    /// How many device events there were.
    pub uevents: u64,
    /// The line is closed.
    pub gone: bool,
    console: Vec<u8>,
    waiting: HashMap<Id, Sender<Message>>,
    last_id: Id,
}

impl State {
    /// What came on the console.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }
}

/// The line to one guest.
pub struct Link {
    socket: Mutex<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Link {
    /// Listens to the agent and to the console, until both end.
    ///
    /// # Errors
    /// When the socket cannot be duplicated.
    pub fn new(
        socket: UnixStream,
        console: io::PipeReader,
        guest: u64,
        events: &Events,
    ) -> io::Result<Arc<Self>> {
        let reader = socket.try_clone()?;
        let link = Arc::new(Self {
            socket: Mutex::new(socket),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (listener, events) = (link.clone(), events.clone());
        thread::spawn(move || listener.listen(reader, guest, &events));
        let listener = link.clone();
        thread::spawn(move || listener.listen_to_console(console));
        Ok(link)
    }

    /// Sends a request to which nothing is answered.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn send(&self, request: &Request) -> io::Result<()> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        lab_protocol::send(&mut *socket, request)
    }

    /// Sends a request; its answers arrive at the receiver, which is disconnected when the guest is gone.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn request(
        &self,
        request: impl FnOnce(Id) -> Request,
    ) -> io::Result<(Id, Receiver<Message>)> {
        let (sender, receiver) = mpsc::channel();
        let id = {
            let mut state = self.state();
            if state.gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            state.last_id += 1;
            let id = state.last_id;
            state.waiting.insert(id, sender);
            id
        };
        self.send(&request(id))?;
        Ok((id, receiver))
    }

    /// What has arrived so far.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `condition` gives something, looking again whenever anything arrived; `None` after `deadline`, or when
    /// the guest is gone and the condition still gives nothing.
    pub fn wait<T>(
        &self,
        deadline: Duration,
        mut condition: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut found = None;
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, deadline, |state| {
            found = condition(state);
            found.is_none() && !state.gone
        });
        drop(waited);
        found
    }

    /// The end of the console's text.
    pub fn console_tail(&self, lines: usize) -> String {
        let text = self.state().console();
        let all: Vec<&str> = text.lines().map(str::trim_end).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Closes the line; the agent takes that as the order to power off.
    pub fn close(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // It may be closed already.
        let _ = socket.shutdown(Shutdown::Both);
    }

    fn listen(&self, mut socket: UnixStream, guest: u64, events: &Events) {
        while let Ok(Some(message)) = lab_protocol::receive::<Message>(&mut socket) {
            if let Message::Kernel(record) = &message {
                events.emit(&Event::Kernel {
                    guest,
                    record: record.clone(),
                });
            }
            self.take(message);
        }
        let mut state = self.state();
        state.gone = true;
        // Whoever waits for an answer learns that none will come.
        state.waiting.clear();
        self.changed.notify_all();
    }

    fn take(&self, message: Message) {
        let mut state = self.state();
        match message {
            Message::Hello(release) => {
                // What an earlier kernel was asked, the next one knows nothing of.
                state.waiting.clear();
                state.ready = None;
                state.hello = Some(Ok(release));
            }
            Message::NotRestarted(errno) => state.hello = Some(Err(errno)),
            Message::Ready => state.ready = Some(Ok(())),
            Message::Failed(reason) => state.ready = Some(Err(reason)),
            Message::Kernel(record) => state.kernel.push(record),
            Message::Uevent(_) => state.uevents += 1,
            Message::Output(id, ..) => {
                if let Some(waiting) = state.waiting.get(&id) {
                    // Nobody may listen any more; the program's output is then of no interest.
                    let _ = waiting.send(message);
                }
            }
            Message::Ended(id, _)
            | Message::Content(id, _)
            | Message::Seen(id, _)
            | Message::Written(id, _) => {
                if let Some(waiting) = state.waiting.remove(&id) {
                    let _ = waiting.send(message);
                }
            }
        }
        self.changed.notify_all();
    }

    fn listen_to_console(&self, mut console: io::PipeReader) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = console.read(&mut buffer) {
            let mut state = self.state();
            state.console.extend_from_slice(&buffer[..length]);
            let surplus = state.console.len().saturating_sub(CONSOLE_KEPT);
            state.console.drain(..surplus);
            self.changed.notify_all();
        }
    }
}
