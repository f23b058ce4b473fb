// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rules that hold for every file of the project.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What is source, by its ending or its whole name.
const SOURCE: &[&str] = &[
    "rs", "c", "h", "sh", "toml", "conf", "Makefile", "Kbuild", "build",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                sources.extend(self::sources(&path));
            }
        } else if SOURCE.contains(&name.rsplit('.').next().unwrap()) {
            sources.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    sources
}

#[test]
fn every_source_file_names_its_licence_first() {
    let without: Vec<PathBuf> = sources(&repository())
        .into_iter()
        .filter(|(_, text)| {
            !text
                .lines()
                .take(2)
                .any(|line| line.contains("SPDX-License-Identifier: "))
        })
        .map(|(path, _)| path)
        .collect();
    assert_eq!(without, <[PathBuf; 0]>::default());
}

#[test]
fn every_licence_that_is_named_is_there() {
    for (path, text) in sources(&repository()) {
        let named = text
            .lines()
            .take(2)
            .filter_map(|line| line.split_once("SPDX-License-Identifier: "));
        for (_, expression) in named {
            for licence in expression
                .split([' ', '/', '*'])
                .filter(|word| !word.is_empty() && *word != "OR")
            {
                let text = repository().join(format!("LICENSES/{licence}.txt"));
                assert!(text.exists(), "{}: {licence}", path.display());
            }
        }
    }
}

#[test]
fn only_the_abstractions_are_unsafe() {
    let kernel = repository().join("kernel");
    for (path, text) in sources(&kernel) {
        if path.starts_with(kernel.join("abstractions")) {
            continue;
        }
        let mut code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let found = code.find(|line| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == "unsafe")
        });
        assert_eq!(found, None, "{}", path.display());
    }
}

#[test]
fn the_modules_have_the_version_of_the_tool() {
    let dkms = fs::read_to_string(repository().join("kernel/dkms.conf")).unwrap();
    let version = format!("PACKAGE_VERSION=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(dkms.lines().any(|line| line == version), "{version}");
}
