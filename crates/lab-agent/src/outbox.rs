// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way to the host, shared by every thread of the agent.

use std::fs::File;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use lab_protocol::Message;

/// Sends whole messages, one at a time.
#[derive(Clone)]
pub struct Outbox(Arc<Mutex<File>>);

impl Outbox {
    /// Sends to the host through `port`.
    pub fn new(port: File) -> Self {
        Self(Arc::new(Mutex::new(port)))
    }

    /// Runs `action` while no message is under way: a write to the port returns when the host has taken it.
    pub fn silence<T>(&self, action: impl FnOnce() -> T) -> T {
        let _port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        action()
    }

    /// Sends `message`. When the host is gone nobody is left to tell: the agent ends, and with it the guest.
    pub fn send(&self, message: &Message) {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = lab_protocol::send(&mut *port, message) {
            eprintln!("lab-agent: the host is gone: {error}");
            std::process::exit(1);
        }
    }
}
