// SPDX-License-Identifier: MIT OR Apache-2.0
//! `map FILE` and `count FILE`: what an application does that maps the memory of a dax device.
//!
//! The kernel reads and writes the mapping for us, through `/proc/self/mem`, by way of the same page tables. So memory that
//! is gone is an error (`EIO`) and not the end of the process.

use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;

use memmap2::MmapOptions;
use memmap2::MmapRaw;

/// What is mapped: one huge page, the least that a dax device gives.
const LENGTH: usize = 2 << 20;

/// The longest text that is kept.
const TEXT: usize = 64;

/// The start of a dax device.
struct Mapping {
    start: u64,
    memory: File,
    _kept: MmapRaw,
}

impl Mapping {
    fn of(path: &str) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open(path)?;
        let mapping = MmapOptions::new().len(LENGTH).map_raw(&device)?;
        let start = u64::try_from(mapping.as_ptr().addr()).map_err(io::Error::other)?;
        let memory = File::options()
            .read(true)
            .write(true)
            .open("/proc/self/mem")?;
        Ok(Self {
            start,
            memory,
            _kept: mapping,
        })
    }

    fn put(&self, content: &[u8]) -> io::Result<()> {
        self.memory.write_all_at(content, self.start)
    }

    fn get(&self, content: &mut [u8]) -> io::Result<()> {
        self.memory.read_exact_at(content, self.start)
    }
}

/// Says `mapped`, and then, for each line of standard input: `put TEXT` writes to the memory, `get` shows what is there.
pub fn map(path: &str) -> io::Result<()> {
    let mapping = Mapping::of(path)?;
    say("mapped")?;
    for line in io::stdin().lines() {
        let line = line?;
        if let Some(text) = line.strip_prefix("put ") {
            let mut content = text.as_bytes().to_vec();
            content.resize(TEXT, 0);
            mapping.put(&content)?;
        }
        let mut content = [0; TEXT];
        mapping.get(&mut content)?;
        let text = content.split(|byte| *byte == 0).next().unwrap_or_default();
        say(&String::from_utf8_lossy(text))?;
    }
    Ok(())
}

/// Says `mapped`, writes 1, 2, 3… to the memory until it is gone, and says which number was the last that arrived.
pub fn count(path: &str) -> io::Result<()> {
    let mapping = Mapping::of(path)?;
    let mut last: u64 = 0;
    mapping.put(&last.to_ne_bytes())?;
    say("mapped")?;
    while mapping.put(&(last + 1).to_ne_bytes()).is_ok() {
        last += 1;
    }
    say(&last.to_string())
}

/// Says which number [`count`] left in the memory.
pub fn counted(path: &str) -> io::Result<()> {
    let mut number = [0; 8];
    Mapping::of(path)?.get(&mut number)?;
    say(&u64::from_ne_bytes(number).to_string())
}

fn say(line: &str) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{line}")?;
    output.flush()
}
