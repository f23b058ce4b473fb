// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab's own promises: what tests rely on.

use std::time::Duration;

use lab::Boot;
use lab::Error;
use lab::Guest;
use lab::Result;
use lab::guest;
use lab::suite::Test;
use lab::topology::catalogue;
use lab_protocol::End;
use rustix::io::Errno;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    let one = || Boot::new(catalogue::find("one").expect("it is in the catalogue"));
    vec![
        Test::new(
            "lab: a program's outputs and exit status arrive",
            one(),
            outputs_and_status,
        ),
        Test::new(
            "lab: output of any size arrives whole and in order",
            one(),
            large_output,
        ),
        Test::new(
            "lab: programs run side by side and can be signalled",
            one(),
            side_by_side,
        ),
        Test::new(
            "lab: a refused write carries the kernel's errno",
            one(),
            refused_write,
        ),
        Test::new(
            "lab: the guest runs a real udev with nothing in its queue",
            one(),
            udev_is_idle,
        ),
        Test::new("lab: QEMU answers on its monitor", one(), monitor_answers),
        Test::new(
            "lab: a warning in the kernel's log fails the test",
            one(),
            warning_is_noticed,
        )
        .last(),
        Test::new(
            "lab: a panic ends the command with the console as evidence",
            one(),
            panic_is_noticed,
        )
        .last(),
    ]
}

fn ensure(condition: bool, sentence: &str) -> Result<()> {
    if condition {
        Ok(())
    } else {
        Err(Error::test(sentence))
    }
}

fn outputs_and_status(guest: &Guest) -> Result<()> {
    let output = guest.sh("echo out; echo err >&2; exit 7")?;
    ensure(output.end == End::Exited(7), "exit 7 is status 7")?;
    ensure(
        output.stdout == "out\n" && output.stderr == "err\n",
        "each output arrives as what it is",
    )?;
    let output = guest.sh("kill -TERM $$")?;
    ensure(
        output.end == End::Killed(15),
        "a signal is told from a status",
    )?;
    let output = guest.run(&["/no/such/program"])?;
    ensure(
        output.end == End::NotStarted(Errno::NOENT.raw_os_error()),
        "what cannot start says why",
    )
}

fn large_output(guest: &Guest) -> Result<()> {
    let output = guest.sh_ok("seq 1 200000")?;
    let mut lines = output.lines();
    let in_order =
        (1..=200_000).all(|number: u32| lines.next() == Some(number.to_string().as_str()));
    ensure(
        in_order && lines.next().is_none(),
        "200000 numbers arrive in order",
    )
}

fn side_by_side(guest: &Guest) -> Result<()> {
    let reader = guest.start(guest::program(&["cat"]))?;
    let sleeper = guest.start(guest::program(&["sleep", "infinity"]))?;
    // Both run while a third begins and ends.
    guest.sh_ok("true")?;
    let gone = |error| Error::test(format!("the guest is gone: {error}"));
    reader.control().input(b"through the pipe").map_err(gone)?;
    reader.control().close_input().map_err(gone)?;
    sleeper.control().signal(9).map_err(gone)?;
    let deadline = Duration::from_mins(1);
    ensure(
        reader.output(deadline)?.stdout == "through the pipe",
        "input arrives",
    )?;
    ensure(
        sleeper.output(deadline)?.end == End::Killed(9),
        "a signal ends a program",
    )
}

fn refused_write(guest: &Guest) -> Result<()> {
    guest.write_refused(
        "/sys/devices/system/memory/auto_online_blocks",
        "nonsense",
        Errno::INVAL,
    )?;
    guest
        .write_refused("/sys/no/such/file", "1", Errno::ACCESS)
        .or_else(|_| {
            // sysfs forbids making files; which errno says so is the kernel's choice.
            guest.write_refused("/sys/no/such/file", "1", Errno::NOENT)
        })
}

fn udev_is_idle(guest: &Guest) -> Result<()> {
    guest.sh_ok("pgrep -x systemd-udevd && udevadm settle --timeout=1")?;
    let modules = guest.read("/proc/modules")?;
    for module in ["cxl_acpi", "cxl_pci", "cxl_mem"] {
        ensure(
            modules.contains(module),
            &format!("udev loaded {module} for the hardware"),
        )?;
    }
    Ok(())
}

fn monitor_answers(guest: &Guest) -> Result<()> {
    let status = guest.qmp(&qapi::qmp::query_status {})?;
    ensure(status.running, "QEMU says that the guest runs")
}

fn warning_is_noticed(guest: &Guest) -> Result<()> {
    let before = guest.kernel_log()?.len();
    guest.assert_clean_log(before)?;
    guest.write("/dev/kmsg", "<4>WARNING: CPU: 0 PID: 1 at a test\n")?;
    ensure(
        guest.assert_clean_log(before).is_err(),
        "a warning fails the check",
    )?;
    // A guest that is gone is not checked once more: this warning would fail this very test.
    guest.qmp(&qapi::qmp::quit {})?;
    guest.wait_until_gone()
}

fn panic_is_noticed(guest: &Guest) -> Result<()> {
    match guest.sh("echo c > /proc/sysrq-trigger") {
        Err(Error::Guest { console, .. }) if console.contains("sysrq triggered crash") => Ok(()),
        Err(error) => Err(Error::test(format!(
            "the panic was not told as one: {error}"
        ))),
        Ok(_) => Err(Error::test("the guest survived a panic")),
    }
}
