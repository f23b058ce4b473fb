// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `lab` says before it makes anything.

use std::process::Command;
use std::process::Output;

fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(arguments);
    command
}

/// What it says, with a cache that nothing may be made in.
fn said(arguments: &[&str]) -> Output {
    lab(arguments)
        .env("CXL_LAB_CACHE", "/proc/no-place-for-a-cache")
        .output()
        .unwrap()
}

#[track_caller]
fn assert_refused(arguments: &[&str], why: &str) {
    let output = said(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains(why), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn whoever_reads_no_further_ends_it_without_a_word() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = lab(&["topologies"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn programs_read_nothing_but_events() {
    for arguments in [
        &["topologies", "--json"][..],
        &["run", "--json", "--topology", "absent", "--", "true"],
        &["shell", "--json", "--topology", "one"],
    ] {
        let output = said(arguments);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_ne!(stdout, "", "{arguments:?}");
        for line in stdout.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(event["event"].is_string(), "{line}");
        }
    }
}

#[test]
fn what_cannot_be_copied_is_told_before_anything_is_made() {
    let run = |path| ["run", "--topology", "one", "--copy", path, "--", "true"];
    assert_refused(&run("/no/such/file"), "cannot copy /no/such/file");
    assert_refused(&run(".."), "'..' has no name");
}

#[test]
fn a_shell_needs_a_person() {
    assert_refused(&["shell", "--topology", "one"], "needs a terminal");
}
