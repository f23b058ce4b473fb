// SPDX-License-Identifier: MIT OR Apache-2.0
//! The manual page, from the option definitions.

use std::io;
use std::io::Write;

use clap::Arg;
use clap::ArgAction;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::Inline;
use clap_mangen::roff::Roff;
use clap_mangen::roff::bold;
use clap_mangen::roff::roman;

use crate::cli::Cli;
use crate::problem::EXIT_STATUSES;

/// What the options cannot say.
const SECTIONS: [(&str, &[&str]); 3] = [
    (
        "GUARANTEES",
        &[
            "Every command that changes something is one transaction. It is planned in full from one reading of the machine \
             before anything is written, so bad input changes nothing. Transactions follow one another: each holds a lock \
             (flock on /sys/bus/cxl). A signal ends a transaction between two steps, and undoing runs to its end.",
            "With the region drivers (detected: cxl_sysram_region and cxl_dax_kmem_region) no page of a region is online \
             before its policy was set, whatever the system default is and whatever udev does, and no block enters another \
             zone later.",
            "With the stock drivers and a policy (detected: the stock cxl_region, and kmem while the system default is held) \
             /sys/bus/dax/drivers_autoprobe is 0 while the region is given to cxl_region, and \
             /sys/devices/system/memory/auto_online_blocks is the wanted online type while kmem takes the device. Both are \
             always put back: after a SIGKILL, by the next cxlr that changes anything, which finds in /run/cxlr what they \
             were. The blocks are added and brought online under one lock of the kernel, so udev finds none of them offline; \
             other memory that is hot-plugged in that moment comes online in the same way, and another dax device \
             that appears in that moment stays without a driver until one is bound to it (/sys/bus/dax/drivers_probe). \
             Afterwards nothing keeps other agents from changing blocks.",
            "With --driver devdax and the region drivers (detected: cxl_devdax_region and cxl_dax_device_region) the dax \
             device goes to the driver of its mode and to no other, and kmem refuses it as long as the region has that driver. \
             The mode can be changed later, in dax_regionN/dax_mode. With the stock driver kmem is kept from the device by \
             drivers_autoprobe, as above, until the mode's driver has it; afterwards nothing keeps it from kmem.",
            "A region over dynamic capacity (-t dc) starts empty, and only the region drivers make one. The fabric gives it memory \
             and takes it back while it is there; each extent without a tag, and each set of extents with one, is a dax device \
             of its own. release-extents is not a transaction: what went back is the fabric's. Each set of extents goes whole \
             or stays whole, and those that stay are named. monitor sees extents by looking after every event of the kernel: \
             of two changes in one moment it may show the later one only. Destroying the region gives nothing back: the host \
             keeps what it has for the next region, until the fabric asks for it.",
            "No decoders are reset under memory, which would kill the machine: right before, all blocks at the region's addresses \
             are counted, whoever has them, and one that is there undoes the transaction. While a region is taken from \
             cxl_region, /sys/bus/dax/drivers_autoprobe is 0, so that a dax device that comes late does not go to kmem. A region \
             with memory that no driver has any more is refused, unless it is given to cxl_sysram_region, which takes that \
             memory up as it is, or away where that is possible by now.",
            "Where kmem has neither state nor hotplug, unplugging takes blocks offline one by one; when one refuses, those \
             before it go back into their zones. Another agent can see, and use, the blocks in between.",
            "Success is counted: after each change all blocks of the device are read, and one that is not as asked for \
             undoes the transaction.",
        ],
    ),
    (
        "EXAMPLES",
        &[
            "cxlr list",
            "cxlr create-region -t ram --online-type online_movable mem0 mem1",
            "cxlr create-region -s 16G serial:0x100",
            "cxlr create-region --driver devdax --dax-mode fsdev mem0",
            "cxlr create-region -t dc mem0 --online-type online_movable",
            "cxlr release-extents region0 --tag 5be13bce-ae34-4a77-b6c3-16df975fcf1a",
            "cxlr monitor --json",
            "cxlr hotplug region0 unplugged",
            "cxlr destroy-region region0 region1",
        ],
    ),
    (
        "SEE ALSO",
        &["cxl(1), cxl-list(1), cxl-create-region(1), daxctl(1), udev(7)"],
    ),
];

/// Renders the page as roff: the command, then each subcommand, then the sections above.
///
/// # Errors
/// Those of `out`.
pub fn render(out: &mut dyn Write) -> io::Result<()> {
    let mut command = Cli::command()
        .after_help("")
        .mut_args(in_full)
        .mut_subcommands(|subcommand| subcommand.mut_args(in_full));
    command.build();
    let man = Man::new(command.clone()).source(format!("cxlr {}", env!("CARGO_PKG_VERSION")));
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    for subcommand in command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
    {
        let name = subcommand.get_name().to_owned();
        let man = Man::new(subcommand.clone());
        let mut roff = Roff::new();
        roff.control("SH", [format!("CXLR {}", name.to_uppercase()).as_str()]);
        roff.to_writer(out)?;
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        man.render_description_section(&mut part)?;
        let aliases: Vec<&str> = subcommand.get_visible_aliases().collect();
        if !aliases.is_empty() {
            let mut roff = Roff::new();
            roff.control("PP", []);
            roff.text([roman(format!("Also called {}.", aliases.join(", ")))]);
            roff.to_writer(&mut part)?;
        }
        man.render_options_section(&mut part)?;
        // Sections of a subcommand are subsections of the page.
        let part = String::from_utf8_lossy(&part)
            .replace("\n.SH ", "\n.SS ")
            .replacen(".SH ", ".SS ", 1);
        out.write_all(part.as_bytes())?;
    }
    for (title, paragraphs) in SECTIONS {
        if title == "EXAMPLES" {
            let statuses = EXIT_STATUSES.map(|(status, meaning)| format!("{status}: {meaning}."));
            section(out, "EXIT STATUS", statuses.iter().map(roman))?;
            section(out, title, paragraphs.iter().copied().map(bold))?;
        } else {
            section(out, title, paragraphs.iter().copied().map(roman))?;
        }
    }
    Ok(())
}

fn section(
    out: &mut dyn Write,
    title: &str,
    paragraphs: impl Iterator<Item = Inline>,
) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for paragraph in paragraphs {
        roff.control("PP", []);
        roff.text([paragraph]);
    }
    roff.to_writer(out)
}

/// An argument with what the page would leave out: its other names, and that it may be repeated.
fn in_full(mut arg: Arg) -> Arg {
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    if let Some(help) = arg.get_help().filter(|_| !aliases.is_empty()) {
        let aliases: Vec<String> = aliases.iter().map(|alias| format!("--{alias}")).collect();
        let help = format!("{help}; also called {}", aliases.join(", "));
        arg = arg.help(help);
    }
    if arg.is_positional() && matches!(arg.get_action(), ArgAction::Append) {
        let names: Vec<String> = arg
            .get_value_names()
            .unwrap_or_default()
            .iter()
            .map(|name| format!("{name}..."))
            .collect();
        arg = arg.value_names(names);
    }
    arg
}
