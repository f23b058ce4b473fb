// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's monitor.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::PoisonError;

use qapi::ExecuteError;
use qapi::Qmp;
use qapi::Stream;

use crate::error::Error;
use crate::error::Result;

type Connection = Qmp<Stream<BufReader<UnixStream>, UnixStream>>;

/// The line to one QEMU's monitor; negotiated when it is first used, since most guests never need it.
pub struct Monitor(Mutex<State>);

enum State {
    New(UnixStream),
    Ready(Box<Connection>),
}

impl Monitor {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self(Mutex::new(State::New(socket)))
    }

    /// Executes a command.
    pub(crate) fn execute<C: qapi::Command>(&self, command: &C) -> Result<C::Ok> {
        let refused = |error: ExecuteError| Error::Qmp {
            command: C::NAME,
            reason: error.to_string(),
        };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::New(socket) = &*state {
            let reader = socket.try_clone().map_err(|error| refused(error.into()))?;
            let writer = socket.try_clone().map_err(|error| refused(error.into()))?;
            let mut connection = Qmp::new(Stream::new(BufReader::new(reader), writer));
            connection.handshake().map_err(refused)?;
            *state = State::Ready(Box::new(connection));
        }
        match &mut *state {
            State::Ready(connection) => connection.execute(command).map_err(refused),
            State::New(_) => unreachable!("negotiated above"),
        }
    }
}
