// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which kernel the lab takes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::error::Error;
use crate::error::Result;
use crate::event::Step;
use crate::host;
use crate::program;

/// Kernels on which everything was proved to work, the best first.
pub const PROVED: &[&str] = &["7.3.4+deb13-cloud-amd64"];

/// The suite of Debian that the tree is made of.
pub const SUITE: &str = "trixie";

/// The suite that carries kernel and QEMU.
pub const BACKPORTS: &str = "trixie-backports";

/// A kernel that the package registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The release, as `uname -r` prints it.
    pub release: String,
    /// The packages that bring its image, modules, headers and source.
    pub packages: Vec<String>,
}

/// Asks the package registry which kernels it offers and chooses one.
///
/// # Errors
/// When the registry cannot be reached, or offers no kernel 7.x.
pub fn choose(step: &Step, mirror: &str, scratch: &Path) -> Result<Offer> {
    let names = package_names(step, mirror, scratch)?;
    select(&names).ok_or_else(|| Error::Host {
        what: format!("{mirror} offers no cloud kernel 7.x in {BACKPORTS}"),
        remedy: "set CXL_LAB_MIRROR to a Debian mirror that does".into(),
    })
}

/// The first proved kernel that is offered whole, else the newest 7.x.
fn select(names: &[String]) -> Option<Offer> {
    let mut newest: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-headers-"))
        .filter(|release| release.starts_with("7.") && release.ends_with("-cloud-amd64"))
        .collect();
    newest.sort_by_key(|release| std::cmp::Reverse(version(release)));
    PROVED.iter().copied().chain(newest).find_map(|release| {
        let mut parts = release.split('.');
        let series = format!("{}.{}", parts.next()?, parts.next()?);
        // The image has a package of its own name once it is signed; before that it comes in pieces.
        let signed = vec![format!("linux-image-{release}")];
        let pieces = vec![
            format!("linux-binary-unsigned-{release}"),
            format!("linux-modules-{release}"),
            format!("linux-base-{release}"),
        ];
        let common = [
            format!("linux-headers-{release}"),
            format!("linux-source-{series}"),
        ];
        let packages = [pieces, signed].into_iter().find_map(|image| {
            let packages: Vec<String> = image.into_iter().chain(common.clone()).collect();
            packages
                .iter()
                .all(|package| names.contains(package))
                .then_some(packages)
        })?;
        Some(Offer {
            release: release.to_owned(),
            packages,
        })
    })
}

/// The numbers of a release, for ordering: `7.3.4+deb13-cloud-amd64` is 7, 3, 4, 13.
fn version(release: &str) -> Vec<u32> {
    release
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .take(4)
        .collect()
}

/// The names of all Linux packages in the backports, through an apt that knows nothing of the host's.
fn package_names(step: &Step, mirror: &str, scratch: &Path) -> Result<Vec<String>> {
    let path = |name: &str| scratch.join(name);
    for folder in ["lists/partial", "cache/archives/partial", "parts"] {
        fs::create_dir_all(path(folder)).map_err(Error::file("create", path(folder)))?;
    }
    let write = |name: &str, text: String| {
        fs::write(path(name), text).map_err(Error::file("write", path(name)))
    };
    write(
        "sources.list",
        format!(
            "deb [signed-by={}] {mirror} {BACKPORTS} main\n",
            host::KEYRING
        ),
    )?;
    write("status", String::new())?;
    let folders = [
        ("Dir::State", scratch.to_owned()),
        ("Dir::State::lists", path("lists")),
        ("Dir::State::status", path("status")),
        ("Dir::Cache", path("cache")),
        ("Dir::Etc::sourcelist", path("sources.list")),
        ("Dir::Etc::sourceparts", path("parts")),
        ("Dir::Etc::preferencesparts", path("parts")),
    ];
    let options = [
        "APT::Architecture \"amd64\";",
        "APT::Sandbox::User \"root\";",
        "APT::Update::Error-Mode \"any\";",
    ];
    let configuration: Vec<String> = host::acquire_options()
        .into_iter()
        .chain(options.map(str::to_owned))
        .chain(
            folders
                .iter()
                .map(|(name, value)| format!("{name} \"{}\";", value.display())),
        )
        .collect();
    write("apt.conf", configuration.join("\n") + "\n")?;
    let apt = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("APT_CONFIG", path("apt.conf"))
            .env("LC_ALL", "C.UTF-8");
        command
    };
    program::run(
        step,
        "asking the package registry for its kernels",
        apt("apt-get", &["-q", "update"]),
    )
    .map_err(|error| {
        host::unreachable(
            &format!("the Debian mirror {mirror}"),
            &error,
            "check the network, or set CXL_LAB_MIRROR to another one",
        )
    })?;
    let output = apt("apt-cache", &["pkgnames", "linux-"])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::file("run", "apt-cache"))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn whole(release: &str, series: &str) -> Vec<String> {
        names(&[
            &format!("linux-headers-{release}"),
            &format!("linux-image-{release}"),
            &format!("linux-source-{series}"),
        ])
    }

    #[test]
    fn a_proved_kernel_is_taken_before_a_newer_one() {
        let mut offered = whole(PROVED[0], "7.3");
        offered.extend(whole("7.9.1+deb13-cloud-amd64", "7.9"));
        assert_eq!(select(&offered).unwrap().release, PROVED[0]);
    }

    #[test]
    fn without_a_proved_kernel_the_newest_whole_7_x_is_taken() {
        let mut offered = whole("7.4.9+deb13-cloud-amd64", "7.4");
        offered.extend(whole("7.4.10+deb13-cloud-amd64", "7.4"));
        offered.extend(whole("8.0.1+deb13-cloud-amd64", "8.0"));
        offered.extend(names(&[
            "linux-headers-7.5.1+deb13-cloud-amd64",
            "linux-headers-7.4.11+deb13-amd64",
        ]));
        assert_eq!(
            select(&offered).unwrap().release,
            "7.4.10+deb13-cloud-amd64"
        );
    }

    #[test]
    fn an_image_in_pieces_is_as_good_as_a_signed_one() {
        let release = PROVED[0];
        let offered = names(&[
            &format!("linux-headers-{release}"),
            &format!("linux-binary-unsigned-{release}"),
            &format!("linux-modules-{release}"),
            &format!("linux-base-{release}"),
            "linux-source-7.3",
        ]);
        assert_eq!(select(&offered).unwrap().packages.len(), 5);
    }

    #[test]
    fn nothing_is_chosen_where_nothing_fits() {
        assert_eq!(select(&whole("6.12.1+deb13-cloud-amd64", "6.12")), None);
    }
}
