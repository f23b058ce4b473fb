// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes archives in the format of an initramfs ("newc"). The kernel unpacks archives one after the other, a later file
//! replacing an earlier one, so an image is the concatenation of what is cached and what one boot adds.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An archive being written.
pub struct Archive<W: Write> {
    writer: W,
    inode: u32,
}

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

impl<W: Write> Archive<W> {
    /// Begins an archive.
    pub fn new(writer: W) -> Self {
        Self { writer, inode: 0 }
    }

    /// Adds a folder; `mode` is its permissions.
    ///
    /// # Errors
    /// What the writer answers.
    pub fn folder(&mut self, name: &str, mode: u32) -> io::Result<()> {
        self.entry(name, FOLDER | mode, &[])
    }

    /// Adds a file; `mode` is its permissions.
    ///
    /// # Errors
    /// What the writer answers.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, REGULAR | mode, content)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// What the writer answers.
    pub fn symlink(&mut self, name: &str, target: &[u8]) -> io::Result<()> {
        self.entry(name, SYMLINK | 0o777, target)
    }

    /// Adds a file, or a folder and all that it holds, from the host as `name`.
    ///
    /// # Errors
    /// What reading or the writer answers.
    pub fn tree(&mut self, name: &str, source: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(source)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            self.symlink(name, fs::read_link(source)?.as_os_str().as_bytes())
        } else if metadata.is_dir() {
            self.folder(name, mode)?;
            let mut entries = fs::read_dir(source)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                self.tree(
                    &format!("{name}/{}", entry.file_name().to_string_lossy()),
                    &entry.path(),
                )?;
            }
            Ok(())
        } else if metadata.is_file() {
            self.file(name, mode, &fs::read(source)?)
        } else {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{} is no file, folder or link", source.display()),
            ))
        }
    }

    /// Ends the archive; the next one may follow directly.
    ///
    /// # Errors
    /// What the writer answers.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let name = name.trim_start_matches('/');
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        // Fields: magic, inode, mode, user, group, links, time, size, device (2), special device (2), name size, check.
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            self.inode,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            name.len() + 1,
            0
        );
        self.writer.write_all(header.as_bytes())?;
        self.writer.write_all(name.as_bytes())?;
        self.writer.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.writer.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.writer
            .write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_contents_are_aligned_to_four_bytes() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("a", 0o755).unwrap();
        archive.file("a/file", 0o644, b"hello").unwrap();
        archive.symlink("a/link", b"file").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let mut offsets: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, window)| window == b"070701")
            .map(|(offset, _)| offset)
            .collect();
        assert_eq!(offsets.len(), 4);
        offsets.retain(|offset| offset % 4 != 0);
        assert_eq!(offsets, Vec::<usize>::new());
    }

    #[test]
    fn a_folder_of_the_host_arrives_whole() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir(host.path().join("inner")).unwrap();
        fs::write(host.path().join("inner/script"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(
            host.path().join("inner/script"),
            fs::Permissions::from_mode(0o750),
        )
        .unwrap();
        let mut archive = Archive::new(Vec::new());
        archive.tree("copy/x", host.path()).unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        assert!(text.contains("copy/x/inner/script\0"));
        assert!(text.contains("000081e8"), "mode 0750 of a regular file");
    }
}
