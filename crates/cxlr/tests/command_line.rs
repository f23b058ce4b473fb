// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program itself, on trees in folders: what it prints, with which status it ends, and that bad input changes nothing.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use common::*;
use cxl_sysfs::fixture::Machine;
use cxl_sysfs::fixture::Topology;
use cxlr::plan::attach::Wanted;
use cxlr::plan::create::Request;
use cxlr::size::Size;
use region_policy::online_type::OnlineType;

/// A machine as a user meets it: two host bridges, three regions under different drivers and policies, one memdev unused.
fn machine() -> Machine {
    let machine = Topology::new()
        .host_bridge("pci0000:0c")
        .host_bridge("pci0000:2c")
        .memdev("pci0000:0c", GIB)
        .memdev("pci0000:2c", GIB)
        .memdev_with("pci0000:0c", 2 * GIB, GIB)
        .memdev("pci0000:2c", GIB)
        .window(4 * GIB, 8192, &["pci0000:0c", "pci0000:2c"])
        .window(4 * GIB, 256, &["pci0000:0c"])
        .region_drivers()
        .build();
    create(
        &machine,
        &request(&["mem0", "mem1"], Wanted::Sysram(OnlineType::OnlineMovable)),
    );
    let half = Request {
        size: Some(Size(GIB / 2)),
        ..request(&["mem2"], Wanted::Stock(OnlineType::Online))
    };
    create(&machine, &half);
    create(
        &machine,
        &Request {
            wanted: Wanted::Nothing,
            ..half
        },
    );
    machine
}

/// A tree in a folder, and the program on it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        machine()
            .looks()
            .write_to(folder.path())
            .expect("a tree on disk");
        Self { folder }
    }

    fn cxlr(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cxlr"))
            .arg("--sysfs-root")
            .arg(self.folder.path())
            .args(arguments)
            .output()
            .expect("the program runs")
    }

    /// All files with their content.
    fn contents(&self) -> BTreeMap<PathBuf, String> {
        let mut contents = BTreeMap::new();
        collect(self.folder.path(), &mut contents);
        contents
    }
}

fn collect(folder: &Path, contents: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let kind = path.symlink_metadata().expect("a kind").file_type();
        if kind.is_dir() {
            collect(&path, contents);
        } else if kind.is_file() {
            contents.insert(path.clone(), fs::read_to_string(&path).expect("a text"));
        }
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn the_list_is_a_tree() {
    let output = Bench::new().cxlr(&["list"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn the_list_is_json_with_the_names_of_cxl_list() {
    let output = Bench::new().cxlr(&["--json", "list"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let value: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    insta::assert_snapshot!(format!("{value:#}"));
}

#[test]
fn a_machine_without_cxl_has_nothing_to_list() {
    let bench = Bench {
        folder: tempfile::tempdir().expect("a temporary folder"),
    };
    let output = bench.cxlr(&["list"]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(stdout(&output), @"no CXL bus here (are cxl_acpi, cxl_pci and cxl_mem loaded?)");
    let output = bench.cxlr(&["create-region", "mem0"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("modprobe"), "{}", stderr(&output));
}

#[test]
fn bad_input_changes_nothing() {
    let bench = Bench::new();
    let before = bench.contents();
    for (status, arguments) in [
        (2, &["create-region"][..]),
        (2, &["create-region", "mem3", "-t", "tape"]),
        (2, &["create-region", "mem3", "-s", "1.5G"]),
        (2, &["create-region", "mem3", "-s", "0"]),
        (2, &["create-region", "mem3", "-w", "many"]),
        (2, &["create-region", "mem3", "--online-type", "invalid"]),
        (
            2,
            &[
                "create-region",
                "mem3",
                "--driver",
                "none",
                "--online-type",
                "online",
            ],
        ),
        (
            2,
            &[
                "create-region",
                "mem3",
                "--uuid",
                "6b2e9b1c-5d0a-4a70-9b63-2f3c1f0f7a11",
            ],
        ),
        (
            2,
            &["create-region", "-t", "pmem", "mem2", "--uuid", "6b2e9b1c"],
        ),
        (2, &["hotplug", "region0"]),
        (2, &["hotplug", "region0", "offline"]),
        (2, &["hotplug", "region0", "sideways"]),
        (2, &["destroy-region"]),
        (2, &["frobnicate"]),
        (4, &["create-region", "mem9"]),
        (4, &["create-region", "mem3"]),
        (
            4,
            &["create-region", "-t", "pmem", "mem3", "-d", "decoder0.0"],
        ),
        (4, &["create-region", "mem2", "mem3", "-s", "64G"]),
        (4, &["create-region", "mem2", "-d", "decoder7.7"]),
        (4, &["hotplug", "region9", "online"]),
        (4, &["hotplug", "dax9.0", "online"]),
        (4, &["destroy-region", "region9"]),
        (4, &["destroy-region", "region0", "region9"]),
        (0, &["create-region", "-n", "mem2", "-s", "256M"]),
        (0, &["destroy-region", "-n", "region0"]),
        (0, &["hotplug", "region0", "online_movable"]),
    ] {
        let output = bench.cxlr(arguments);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {}{}",
            stdout(&output),
            stderr(&output)
        );
        assert!(
            status == 0 || !output.stderr.is_empty(),
            "{arguments:?} fails without a word"
        );
        assert_eq!(bench.contents(), before, "{arguments:?}");
    }
}

#[test]
fn a_kernel_that_does_not_answer_is_told_and_undone() {
    // Files in a folder take every write and do nothing, so the first one that expects an answer fails.
    let bench = Bench::new();
    let output = bench.cxlr(&["-vv", "create-region", "mem2", "-s", "256M"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = stderr(&output).replace(&bench.folder.path().display().to_string(), "");
    insta::assert_snapshot!(told);
}

#[test]
fn a_dry_run_tells_the_steps() {
    let output = Bench::new().cxlr(&["create-region", "--dry-run", "mem2", "-s", "256M"]);
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn the_help_tells_the_exit_statuses() {
    let output = Bench::new().cxlr(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn completions_know_the_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Bench::new().cxlr(&["completions", shell]);
        assert!(stdout(&output).contains("create-region"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::process::Stdio;
    let bench = Bench::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cxlr"))
        .arg("--sysfs-root")
        .arg(bench.folder.path())
        .args(["--json", "list"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_is_done_and_cannot_be_shown_is_done() {
    let bench = Bench::new();
    let full = fs::File::create("/dev/full").expect("a full device");
    let output = Command::new(env!("CARGO_BIN_EXE_cxlr"))
        .arg("--sysfs-root")
        .arg(bench.folder.path())
        .args(["hotplug", "region0", "online_movable"])
        .stdout(full)
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("done, but the result cannot be shown"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_dry_run_and_a_refusal_need_no_driver_loaded() {
    let bench = Bench::new();
    fs::remove_dir_all(bench.folder.path().join("sys/bus/dax/drivers/kmem")).expect("a driver");
    for (status, arguments, words) in [
        (0, &["create-region", "-n", "mem2", "-s", "256M"][..], ""),
        (0, &["bind", "-n", "region1", "--driver", "sysram"], ""),
        (4, &["create-region", "mem9"], "mem9"),
        (
            4,
            &["create-region", "mem2", "-s", "256M"],
            "kmem is not loaded",
        ),
    ] {
        let output = bench.cxlr(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn who_has_to_wait_is_told_for_what() {
    use std::io::BufRead;
    use std::process::Stdio;
    let bench = Bench::new();
    let bus = fs::File::open(bench.folder.path().join("sys/bus/cxl")).expect("a bus");
    rustix::fs::flock(&bus, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let mut child = Command::new(env!("CARGO_BIN_EXE_cxlr"))
        .arg("--sysfs-root")
        .arg(bench.folder.path())
        .args(["destroy-region", "-n", "region0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut line = String::new();
    let said = child.stderr.take().expect("standard error");
    let mut said = std::io::BufReader::new(said);
    said.read_line(&mut line).expect("a line");
    assert!(line.contains("waiting for another cxlr"), "{line}");
    drop(bus);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_manual_page_is_that_of_the_options() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man/cxlr.1");
    let written = fs::read_to_string(&page).unwrap_or_default();
    let rendered = String::from_utf8(cxlr::command::manual_page().expect("a page")).expect("UTF-8");
    assert!(
        written == rendered,
        "docs/man/cxlr.1 is out of date; renew it: cargo run -q -p cxlr -- man > docs/man/cxlr.1"
    );
}
