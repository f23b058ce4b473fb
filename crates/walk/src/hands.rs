// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does what an operation says.

use std::fs;
use std::fs::File as Open;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use rustix::mount::MountFlags;
use walk::Operation;
use walk::operation::Answer;
use walk::operation::Driver;
use walk::operation::File;
use walk::operation::Place;
use walk::operation::Program;

use crate::eyes::Eyes;

/// Where one memory device of every topology has its memory, and with it all of the same window.
const NODE: &str = "1";

/// How much is stored at a time. Memory behind an emulated device is slow.
const STORED: usize = 64 << 10;

/// Where it is stored.
const STORE: &str = "/run/walk";

/// `memory-notifier-error-inject`.
const FAULTS: &str = "/sys/kernel/debug/notifier-error-inject/memory/actions";

/// The one device of `cxl_acpi`.
const ROOT: &str = "ACPI0017:00";

/// What is held meanwhile.
pub struct Hands {
    processes: Vec<Child>,
    stored: Vec<PathBuf>,
    opened: Vec<Open>,
}

impl Hands {
    /// Empty ones.
    pub fn new() -> io::Result<Self> {
        let status = Command::new("modprobe")
            .arg("memory-notifier-error-inject")
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("modprobe: {status}")));
        }
        Ok(Self {
            processes: Vec::new(),
            stored: Vec::new(),
            opened: Vec::new(),
        })
    }

    /// Does it.
    pub fn perform(&mut self, operation: &Operation, eyes: &Eyes) -> io::Result<Answer> {
        match operation {
            Operation::Write(file, word) => {
                let Some((path, text)) = resolve(*file, word, eyes) else {
                    return Ok(Answer::Absent);
                };
                let answer = write(&path, &text);
                if matches!(file, File::Bind(Driver::Pci | Driver::Acpi, _)) {
                    // The memdevs follow in their own time.
                    write(Path::new("/sys/bus/cxl/flush"), "1");
                }
                Ok(answer)
            }
            Operation::Run(program) => match command(program, eyes) {
                Some(argv) => run(&argv),
                None => Ok(Answer::Absent),
            },
            Operation::Occupy => self.occupy(),
            Operation::Store => self.store(),
            Operation::Open(place) => Ok(self.open(*place, eyes)),
            Operation::Vacate | Operation::GoHome => self.vacate(),
            Operation::Reload => reload(),
        }
    }

    fn occupy(&mut self) -> io::Result<Answer> {
        let child = Command::new("numactl")
            .args(["--preferred", NODE, "sleep", "infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.processes.push(child);
        Ok(Answer::Done)
    }

    fn open(&mut self, place: Place, eyes: &Eyes) -> Answer {
        let Some(name) = dax_device(place, eyes) else {
            return Answer::Absent;
        };
        match Open::open(Path::new("/dev").join(name)) {
            Ok(device) => {
                self.opened.push(device);
                Answer::Done
            }
            Err(error) => refusal(&error),
        }
    }

    /// In a file system whose pages are of that node, if it has any now.
    fn store(&mut self) -> io::Result<Answer> {
        let folder = PathBuf::from(format!("{STORE}/{}", self.stored.len()));
        fs::create_dir_all(&folder)?;
        let options = std::ffi::CString::new(format!("mpol=prefer:{NODE}"))?;
        let mounted = rustix::mount::mount(
            "tmpfs",
            &folder,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        );
        if let Err(errno) = mounted {
            return Ok(Answer::Refused(errno.raw_os_error()));
        }
        fs::write(folder.join("data"), pattern(self.stored.len()))?;
        self.stored.push(folder);
        Ok(Answer::Done)
    }

    /// Whether everything is as it was stored.
    pub fn data_is_intact(&mut self) -> io::Result<bool> {
        for (number, folder) in self.stored.iter().enumerate() {
            if fs::read(folder.join("data"))? != pattern(number) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets go of everything.
    pub fn vacate(&mut self) -> io::Result<Answer> {
        self.opened.clear();
        for mut process in self.processes.drain(..) {
            process.kill()?;
            process.wait()?;
        }
        for folder in self.stored.drain(..) {
            rustix::mount::unmount(&folder, rustix::mount::UnmountFlags::empty())?;
        }
        Ok(Answer::Done)
    }
}

fn pattern(number: usize) -> Vec<u8> {
    (0..STORED)
        .map(|position| {
            let word = position / 8 * 0x9e37_79b9 + number;
            word.to_le_bytes()[position % 8]
        })
        .collect()
}

/// Writes in one call.
pub fn write(path: &Path, text: &str) -> Answer {
    let written = Open::options()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write(text.as_bytes()));
    match written {
        Ok(_) => Answer::Done,
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &io::Error) -> Answer {
    match error.raw_os_error() {
        Some(errno) if errno == rustix::io::Errno::NOENT.raw_os_error() => Answer::Absent,
        errno => Answer::Refused(errno.unwrap_or_default()),
    }
}

/// Runs a program to its end.
pub fn run(argv: &[String]) -> io::Result<Answer> {
    let output = Command::new(&argv[0]).args(&argv[1..]).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    for line in text.lines().filter(|line| !line.is_empty()) {
        println!("    {}: {line}", argv[0]);
    }
    Ok(match output.status.code() {
        Some(0) => Answer::Done,
        status => Answer::Failed(status.unwrap_or(-1)),
    })
}

/// Out and in again; what cannot be removed stays.
fn reload() -> io::Result<Answer> {
    for module in ["cxl_regions", "kmem"] {
        run(&["rmmod".to_owned(), module.to_owned()])?;
    }
    run(&["modprobe", "-a", "kmem", "cxl_regions"].map(str::to_owned))
}

fn resolve(file: File, word: &str, eyes: &Eyes) -> Option<(PathBuf, String)> {
    let cxl = Path::new("/sys/bus/cxl/devices");
    let dax = Path::new("/sys/bus/dax/devices");
    let bus = Path::new("/sys/bus");
    let memory = Path::new(cxl_sysfs::memory::MEMORY);
    let said = |otherwise: String| {
        if word.is_empty() {
            otherwise
        } else {
            word.to_owned()
        }
    };
    let word_alone = || word.to_owned();
    Some(match file {
        File::Bind(driver, place) => (
            bus.join(driver.folder()).join("bind"),
            said(device(driver, place, eyes, false)?),
        ),
        File::Unbind(driver, place) => (
            bus.join(driver.folder()).join("unbind"),
            said(device(driver, place, eyes, true)?),
        ),
        File::OnlineType(place) => {
            let region = eyes.region(place)?;
            let sysram = region.sysram.as_ref()?;
            let folder = cxl.join(&region.name).join(&sysram.name);
            (folder.join("online_type"), word_alone())
        }
        File::DaxMode(place) => {
            let region = eyes.region(place)?;
            let devdax = region.devdax.as_ref()?;
            let folder = cxl.join(&region.name).join(&devdax.name);
            (folder.join("dax_mode"), word_alone())
        }
        File::State(place) => (
            dax.join(dax_device(place, eyes)?).join("state"),
            word_alone(),
        ),
        File::Hotplug(place) => (
            dax.join(dax_device(place, eyes)?).join("hotplug"),
            word_alone(),
        ),
        File::Block(place, block) => {
            let number = eyes.block(place, block)?;
            (memory.join(format!("memory{number}/state")), word_alone())
        }
        File::Commit(place) => (
            cxl.join(&eyes.region(place)?.name).join("commit"),
            word_alone(),
        ),
        File::Delete(place) => {
            let region = eyes.region(place)?;
            (
                cxl.join(&region.decoder).join("delete_region"),
                said(region.name.clone()),
            )
        }
        File::SystemDefault => (memory.join("auto_online_blocks"), word_alone()),
        File::OnlineFault => (
            Path::new(FAULTS).join("MEM_GOING_ONLINE/error"),
            word_alone(),
        ),
        File::OfflineFault => (
            Path::new(FAULTS).join("MEM_GOING_OFFLINE/error"),
            word_alone(),
        ),
    })
}

/// The device that a driver is for; of several, one that is `bound` to it or not.
fn device(driver: Driver, place: Place, eyes: &Eyes, bound: bool) -> Option<String> {
    match driver {
        Driver::Sysram | Driver::Devdax | Driver::Stock => Some(eyes.region(place)?.name.clone()),
        Driver::DaxKmem => Some(eyes.region(place)?.sysram.as_ref()?.name.clone()),
        Driver::DaxDevice => Some(eyes.region(place)?.devdax.as_ref()?.name.clone()),
        Driver::Kmem | Driver::DeviceDax | Driver::FsdevDax => dax_device(place, eyes),
        Driver::Memdev => {
            let mut memdevs = eyes.memdevs(place);
            let memdev = memdevs.find(|memdev| memdev.enabled == bound)?;
            Some(memdev.name.clone())
        }
        Driver::Pci => {
            let folder = Path::new("/sys/bus").join(driver.folder());
            let mut functions = eyes.functions(place);
            let function = functions.find(|function| folder.join(function).exists() == bound)?;
            Some(function.to_owned())
        }
        Driver::Acpi => Some(ROOT.to_owned()),
    }
}

fn dax_device(place: Place, eyes: &Eyes) -> Option<String> {
    let region = eyes.region(place)?;
    let mut devices = eyes.snapshot().dax_devices_of(&region.name);
    devices.next().map(|device| device.name.clone())
}

/// The program and its arguments; `None` where what it is about is not there.
fn command(program: &Program, eyes: &Eyes) -> Option<Vec<String>> {
    const CREATE: &[&str] = &["cxlr", "create-region", "-t", "ram"];
    const BIND: &[&str] = &["cxlr", "bind"];

    let place = program.place();
    let region = || Some(vec![eyes.region(place)?.name.clone()]);
    let dax = || Some(vec![dax_device(place, eyes)?]);
    let memdevs = || {
        let names: Vec<String> = eyes.memdevs(place).map(|one| one.name.clone()).collect();
        Some(names).filter(|names| !names.is_empty())
    };
    let sysram = |online_type| ["--driver", "sysram", "--online-type", online_type];
    let devdax = |mode| ["--driver", "devdax", "--dax-mode", mode];
    let (start, objects, end): (&[&str], _, &[&str]) = match program {
        Program::Create(_, online_type) => (CREATE, memdevs()?, &sysram(online_type)),
        Program::CreateDevdax(_, mode) => (CREATE, memdevs()?, &devdax(mode)),
        Program::Commit(_) => (CREATE, memdevs()?, &["--driver", "none"]),
        Program::CreateStock(_) => (CREATE, memdevs()?, &["--driver", "auto"]),
        Program::HandToSysram(_, online_type) => (BIND, region()?, &sysram(online_type)),
        Program::HandToDevdax(_, mode) => (BIND, region()?, &devdax(mode)),
        Program::HandBack(_) => (BIND, region()?, &["--driver", "auto"]),
        Program::Plug(_, word) => (&["cxlr", "hotplug"], region()?, &[word]),
        Program::Destroy(_) => (&["cxlr", "destroy-region"], region()?, &[]),
        Program::CxlCreate(_) => (
            &["cxl", "create-region", "-t", "ram", "-m"],
            memdevs()?,
            &[],
        ),
        Program::CxlDisable(_) => (&["cxl", "disable-region"], region()?, &[]),
        Program::CxlEnable(_) => (&["cxl", "enable-region"], region()?, &[]),
        Program::CxlDestroy(_) => (&["cxl", "destroy-region", "-f"], region()?, &[]),
        Program::DaxctlOffline(_) => (&["daxctl", "offline-memory"], dax()?, &[]),
        Program::DaxctlOnline(_, true) => (&["daxctl", "online-memory"], dax()?, &[]),
        Program::DaxctlOnline(_, false) => {
            (&["daxctl", "online-memory", "--no-movable"], dax()?, &[])
        }
        Program::DaxctlMode(_, mode) => (
            &["daxctl", "reconfigure-device", "-f", "-m", mode],
            dax()?,
            &[],
        ),
    };
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    Some([owned(start), objects, owned(end)].concat())
}
