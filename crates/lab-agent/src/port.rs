// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds and opens the virtio-serial port.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::kernel::Uevents;

/// Opens the port named [`lab_protocol::PORT`], waiting for its device as long as it takes: the port's name arrives from
/// the host after the device, and the kernel announces both.
pub fn open(uevents: &Uevents) -> io::Result<File> {
    loop {
        if let Some(device) = find()? {
            return File::options()
                .read(true)
                .write(true)
                .open(Path::new("/dev").join(device));
        }
        uevents.next()?;
    }
}

fn find() -> io::Result<Option<String>> {
    let ports = match fs::read_dir("/sys/class/virtio-ports") {
        Ok(ports) => ports,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for port in ports {
        let port = port?;
        if fs::read_to_string(port.path().join("name"))
            .is_ok_and(|name| name.trim() == lab_protocol::PORT)
        {
            return Ok(Some(port.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}
