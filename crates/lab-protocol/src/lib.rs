// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the lab on the host and its agent in the guest say to each other.
//!
//! One virtio-serial port carries everything. The host sends [`Request`]s, the agent answers with [`Message`]s; both
//! travel as frames (see [`send`] and [`receive`]). Requests carry an identity chosen by the host, so any number of
//! programs run at once and their output interleaves.

use std::io;
use std::io::Read;
use std::io::Write;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The name of the virtio-serial port, as the guest sees it in `/sys/class/virtio-ports/*/name`.
pub const PORT: &str = "lab.agent";

/// The largest frame that either side accepts, in bytes: far above any message, far below what would hurt a guest.
pub const FRAME_LIMIT: u32 = 16 << 20;

/// The largest piece of output or input that one message carries, in bytes.
pub const CHUNK: usize = 64 << 10;

/// What ties an answer to its request; chosen by the host, never reused in a guest's life.
pub type Id = u64;

/// A program to start in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program (looked up in `PATH`) and its arguments.
    pub argv: Vec<String>,
    /// Environment on top of the agent's own.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub directory: String,
    /// A terminal of this size instead of pipes; its output arrives as [`Stream::Stdout`].
    pub terminal: Option<TerminalSize>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What the host asks of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Starts a program; answered by [`Message::Output`] as it comes and one [`Message::Ended`].
    Start(Id, Program),
    /// Bytes for the standard input of a started program; an empty piece closes it.
    Input(Id, Vec<u8>),
    /// Changes the size of a started program's terminal.
    Resize(Id, TerminalSize),
    /// Sends a signal to a started program and to what it started in turn (its process group).
    Signal(Id, i32),
    /// Reads a whole file; answered by [`Message::Content`].
    Read(Id, String),
    /// Reads all files that match one of these patterns, which are those of a shell without braces; answered by
    /// [`Message::Seen`].
    Look(Id, Vec<String>),
    /// Writes a file in one `write` call, as sysfs wants it, creating it where that is possible; answered by
    /// [`Message::Written`].
    Write(Id, String, Vec<u8>),
    /// Starts the kernel that was loaded with `kexec -l`, as a reboot would, but past the firmware and with the hardware
    /// as it is. Answered by the next kernel's [`Message::Hello`], or by [`Message::NotRestarted`].
    Restart,
    /// Turns the guest off.
    PowerOff,
}

/// Which of a program's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// It could not be started: the operating system's error number.
    NotStarted(i32),
}

/// One record of the guest's kernel log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRecord {
    /// The severity, 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Microseconds since the guest's kernel started.
    pub microseconds: u64,
    /// The text, without time and severity.
    pub text: String,
}

/// What the agent tells the host. Operating system errors are error numbers (`errno`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The agent runs; the kernel's release, as `uname -r` prints it.
    Hello(String),
    /// Coldplug is over: udev has loaded what the hardware asked for and its queue is empty.
    Ready,
    /// The agent could not get the guest ready, and why.
    Failed(String),
    /// A piece of a program's output.
    Output(Id, Stream, Vec<u8>),
    /// A program ended; nothing else comes for this request.
    Ended(Id, End),
    /// The answer to [`Request::Read`].
    Content(Id, Result<Vec<u8>, i32>),
    /// The answer to [`Request::Look`]: what there is, with its content where that can be read.
    Seen(Id, Vec<(String, Option<Vec<u8>>)>),
    /// The answer to [`Request::Write`].
    Written(Id, Result<(), i32>),
    /// The answer to [`Request::Restart`] where no kernel was loaded: the operating system's error number.
    NotRestarted(i32),
    /// The kernel logged something.
    Kernel(KernelRecord),
    /// The kernel announced a change of a device: `ACTION@DEVPATH`, as in `add@/devices/...`.
    Uevent(String),
}

/// Writes one frame: the length of the message (4 bytes, little endian) and the message in postcard's format.
///
/// # Errors
/// What the writer answers.
pub fn send<T: Serialize>(writer: &mut impl Write, message: &T) -> io::Result<()> {
    let body = postcard::to_allocvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    writer.write_all(&frame)?;
    writer.flush()
}

/// Reads one frame; `None` where the other side closed between two frames.
///
/// # Errors
/// What the reader answers, a frame cut short, one longer than [`FRAME_LIMIT`], or one that is not a message.
pub fn receive<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    if reader.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut length[1..])?;
    let length = u32::from_le_bytes(length);
    if length > FRAME_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes: the limit is {FRAME_LIMIT}"),
        ));
    }
    let mut body = vec![0; length as usize];
    reader.read_exact(&mut body)?;
    postcard::from_bytes(&body)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_in_order_and_end_with_the_stream() {
        let messages = [
            Message::Hello("7.3.4".into()),
            Message::Output(7, Stream::Stderr, vec![0, 255, b'\n']),
            Message::Written(8, Err(16)),
        ];
        let mut wire = Vec::new();
        for message in &messages {
            send(&mut wire, message).unwrap();
        }
        let mut wire = wire.as_slice();
        for message in messages {
            assert_eq!(receive::<Message>(&mut wire).unwrap(), Some(message));
        }
        assert_eq!(receive::<Message>(&mut wire).unwrap(), None);
    }

    #[test]
    fn a_frame_cut_short_is_an_error() {
        let mut wire = Vec::new();
        send(&mut wire, &Request::PowerOff).unwrap();
        wire.pop();
        assert!(receive::<Request>(&mut wire.as_slice()).is_err());
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let wire = (FRAME_LIMIT + 1).to_le_bytes();
        let error = receive::<Request>(&mut wire.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
