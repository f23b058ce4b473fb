// SPDX-License-Identifier: MIT OR Apache-2.0
//! `pin FILE`: keeps the first page of a file in tmpfs where it is, until standard input is closed.
//!
//! The page is spliced into a pipe that nobody reads: the pipe refers to the page itself, and a page that somebody refers
//! to cannot be moved.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;

use rustix::pipe::SpliceFlags;

/// Says `pinned` once it is.
pub fn run(path: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let (_reader, writer) = rustix::pipe::pipe()?;
    let length = rustix::pipe::splice(&file, None, &writer, None, 4096, SpliceFlags::empty())?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    println!("pinned");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
