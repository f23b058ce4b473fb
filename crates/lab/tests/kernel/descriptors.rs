// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who has a file of ours open keeps nothing alive: it goes on without, and the descriptor answers that the device is gone.

use lab::Guest;
use lab::Result;
use lab::guest;
use lab::suite::Test;

use crate::support::DRIVERS;
use crate::support::Region;
use crate::support::ensure;
use crate::support::loaded;

/// All tests of this subject.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "descriptors: open on our files, they outlive unbinding and unloading, and answer that the device is gone",
            loaded("one"),
            open_ones,
        ),
        Test::new(
            "descriptors: open on the files of a region for applications, they outlive unbinding and unloading too",
            loaded("one"),
            open_ones_for_applications,
        ),
        Test::new(
            "descriptors: readers that never stop do not hold up unbinding, and read nothing but states",
            loaded("one"),
            readers,
        ),
    ]
}

/// What a script may ask of the descriptors that it has open.
const ASK: &str = r"
set -e
gone() { ! read -r is <&$1 2>/run/error && grep -q 'No such device' /run/error; }
refused() { ! echo $2 2>/run/error >&$1 && grep -q 'No such device' /run/error; }
";

/// One shell has all open throughout.
fn ask(guest: &Guest, script: &str) -> Result<()> {
    let output = guest.sh(&format!("set -x; {ASK} {script} echo well"))?;
    ensure(
        output.stdout == "well\n",
        format!("what the descriptors answered: {output:?}"),
    )
}

fn open_ones(guest: &Guest) -> Result<()> {
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let (name, sysram) = (region.name(), format!("sysram_{}", region.name()));
    let script = format!(
        r"
exec {{state}}<>{state} {{hotplug}}<>{hotplug} {{type}}<>{online_type} {{bind}}>{DRIVERS}/cxl_sysram_region/bind
read -r was <&$state; [[ $was = online_movable ]]
all_gone() {{
    gone $state; gone $hotplug; refused $state unplugged; refused $hotplug online_movable
}}
echo {sysram} > {DRIVERS}/cxl_dax_kmem_region/unbind
all_gone
read -r is <&$type; [[ $is = online_movable ]]
echo {sysram} > {DRIVERS}/cxl_dax_kmem_region/bind
all_gone
read -r is < {state}; [[ $is = online_movable ]]
echo {name} > {DRIVERS}/cxl_sysram_region/unbind
all_gone; gone $type; refused $type offline
rmmod cxl_regions
rmmod kmem
all_gone; gone $type; refused $type offline; refused $bind {name}
modprobe -a kmem cxl_regions
all_gone; gone $type; refused $bind {name}
",
        state = region.state(),
        hotplug = region.hotplug(),
        online_type = region.online_type(),
    );
    ask(guest, &script)?;
    region.destroy()
}

fn open_ones_for_applications(guest: &Guest) -> Result<()> {
    let region = Region::committed(guest, "mem0")?;
    guest.sh_ok(&format!("cxlr bind {} --driver devdax", region.name()))?;
    let name = region.name();
    let dax_region = name.replace("region", "dax_region");
    let script = format!(
        r"
exec {{mode}}<>{path}/{dax_region}/dax_mode {{create}}<>{path}/{dax_region}/dax_region/create
exec {{bind}}>{DRIVERS}/cxl_devdax_region/bind {{node}}<>/dev/{dax}
echo {dax_region} > {DRIVERS}/cxl_dax_device_region/unbind
gone $create; refused $create 1
read -r is <&$mode; [[ $is = devdax ]]
echo {dax_region} > {DRIVERS}/cxl_dax_device_region/bind
gone $create
echo {name} > {DRIVERS}/cxl_devdax_region/unbind
gone $mode; refused $mode fsdev
rmmod cxl_regions
gone $mode; refused $mode fsdev; gone $create; refused $bind {name}
rmmod kmem
modprobe -a kmem cxl_regions
gone $mode; refused $bind {name}
",
        path = region.path(),
        dax = region.dax_name(),
    );
    ask(guest, &script)?;
    region.destroy()
}

/// A reader of an attribute that comes and goes: prints each text that it has not seen yet.
const READER: &str = r#"
declare -A seen; end=$((SECONDS + $2))
while ((SECONDS < end)); do
    if read -r text < $1; then [[ ${seen[$text]} ]] || echo "$text"; seen[$text]=1; fi
done 2> /dev/null
"#;

fn readers(guest: &Guest) -> Result<()> {
    const SECONDS: &str = "4";
    let region = Region::sysram(guest, "mem0", "online_movable")?;
    let files = [region.state(), region.hotplug(), region.online_type()];
    let readers = files
        .iter()
        .map(|file| {
            guest.start(guest::program(&[
                "bash", "-c", READER, "reader", file, SECONDS,
            ]))
        })
        .collect::<Result<Vec<_>>>()?;
    let poller = guest.start(guest::program(&["/init", "poll", &region.state()]))?;
    let changes = format!(
        "end=$((SECONDS + {SECONDS})); while ((SECONDS < end)); do \
         echo unplugged > {state} && echo online_movable > {state} && \
         echo sysram_{name} > {DRIVERS}/cxl_dax_kmem_region/unbind && \
         echo sysram_{name} > {DRIVERS}/cxl_dax_kmem_region/bind || exit 1; done",
        state = region.state(),
        name = region.name(),
    );
    guest.sh_ok(&changes)?;
    for (file, reader) in files.iter().zip(readers) {
        let output = reader.output(guest::HANG)?;
        let known = ["online_movable", "unplugged", "unplug", "mixed", "offline"];
        let texts: Vec<&str> = output.stdout.lines().collect();
        ensure(
            texts.contains(&"online_movable") && texts.iter().all(|text| known.contains(text)),
            format!("{file} read {texts:?}"),
        )?;
    }
    let gone = |error| lab::Error::test(format!("the guest is gone: {error}"));
    poller.control().signal(9).map_err(gone)?;
    poller.output(guest::HANG)?;
    region.destroy()
}
