// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the project's kernel modules inside the tree.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::cache;
use crate::cache::Cache;
use crate::cache::Maker;
use crate::error::Error;
use crate::error::Result;
use crate::event::Events;
use crate::event::Step;
use crate::program;
use crate::tree::Tree;

const KIND: &str = "modules";

/// The sources that clippy had nothing to say about.
const PASSED: &str = "clippy";

/// What make is told besides, to have clippy look.
const CLIPPY: &[&str] = &["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"];

/// How many states of the sources are kept.
const KEPT: usize = 20;

const BUILD: &str = include_str!("scripts/modules.sh");

/// What goes into the modules; the build sees the same relative layout.
const SOURCES: &[&str] = &["kernel", "crates/region-policy/src"];

/// The folders that copying [`SOURCES`] makes.
const COPIED: &[&str] = &["kernel", "crates"];

/// Built modules. There is one entry for each state of the sources.
#[derive(Debug, Clone)]
pub struct Modules {
    results: PathBuf,
}

impl Modules {
    /// Finds the modules of the sources below `repository` in the cache, or builds them. `None` where there are no
    /// sources.
    ///
    /// # Errors
    /// What the compiler says.
    pub fn ensure(
        maker: &Maker<'_>,
        tree: &Tree,
        repository: &Path,
        events: &Events,
    ) -> Result<Option<Self>> {
        let Some(recipe) = Recipe::read(tree, repository)? else {
            return Ok(None);
        };
        let entry = maker.ensure(KIND, &recipe.key, |folder| {
            events.step("build the kernel modules", |step| {
                build(step, tree, &recipe.sources, folder, &[]).map(drop)
            })
        })?;
        maker.keep_youngest(KIND, KEPT)?;
        Ok(Some(Self::at(&entry)))
    }

    /// Finds the modules in the cache.
    ///
    /// # Errors
    /// When a source cannot be read.
    pub fn find(cache: &Cache, tree: &Tree, repository: &Path) -> Result<Found> {
        let Some(recipe) = Recipe::read(tree, repository)? else {
            return Ok(Found::NoSources);
        };
        let entry = cache.find(KIND, &recipe.key);
        Ok(entry.map_or(Found::NotBuilt, |entry| Found::Built(Self::at(&entry))))
    }

    fn at(entry: &Path) -> Self {
        Self {
            results: entry.join("results"),
        }
    }

    /// The modules' files.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        list(&self.results, |path| {
            path.extension().is_some_and(|extension| extension == "ko")
        })
    }

    /// depmod's files for a guest that has these modules beside the kernel's own.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn index(&self) -> Result<Vec<PathBuf>> {
        list(&self.results.join("index"), |_| true)
    }
}

/// What a look into the cache found.
pub enum Found {
    /// There is nothing to build.
    NoSources,
    /// Nobody has built this state of the sources yet.
    NotBuilt,
    /// Here they are.
    Built(Modules),
}

/// The sources, and the key of what is built from them.
struct Recipe {
    sources: Sources,
    key: String,
}

impl Recipe {
    fn read(tree: &Tree, repository: &Path) -> Result<Option<Self>> {
        if !repository.join("kernel/Kbuild").exists() {
            return Ok(None);
        }
        let sources = read_sources(repository)?;
        let tree_key = tree.key();
        let recipe = [tree_key.as_bytes(), BUILD.as_bytes()];
        let contents = sources
            .iter()
            .flat_map(|(path, content)| [path.as_bytes(), content.as_slice()]);
        let key = cache::key(recipe.into_iter().chain(contents));
        Ok(Some(Self { sources, key }))
    }
}

/// Builds the modules under clippy and fails on any warning, objtool's too. Sources that passed are not built again: that
/// they did is kept, and what was built is thrown away.
///
/// # Errors
/// What clippy says.
pub fn clippy(maker: &Maker<'_>, tree: &Tree, repository: &Path, events: &Events) -> Result<()> {
    let Some(recipe) = Recipe::read(tree, repository)? else {
        return Ok(());
    };
    let key = cache::key([recipe.key.as_str(), &CLIPPY.join(" ")]);
    maker.ensure(PASSED, &key, |_| {
        let folder = maker.scratch("clippy")?;
        let log = events.step("check the kernel modules with clippy", |step| {
            build(step, tree, &recipe.sources, &folder, CLIPPY)
        })?;
        refuse_warnings(log)
    })?;
    maker.keep_youngest(PASSED, KEPT)
}

fn refuse_warnings(log: String) -> Result<()> {
    if log
        .lines()
        .any(|line| line.starts_with("warning:") || line.contains(": warning: "))
    {
        return Err(Error::Program {
            what: "clippy on the kernel modules".into(),
            status: "it has warnings".into(),
            log,
        });
    }
    Ok(())
}

/// Checks the format of the modules' sources with the kernel's rustfmt and the kernel's rules.
///
/// # Errors
/// The differences.
pub fn check_format(
    maker: &Maker<'_>,
    tree: &Tree,
    repository: &Path,
    events: &Events,
) -> Result<()> {
    let sources = read_sources(repository)?;
    let folder = maker.scratch("format")?;
    copy_sources(&sources, &folder)?;
    events.step("check the format of the kernel modules", |step| {
        let mut command = tree.command(Some(&folder))?;
        command.args([
            "rustfmt",
            "--check",
            "--color=never",
            "--edition",
            "2021",
            "--config-path",
        ]);
        command.arg(format!("{}/.rustfmt.toml", tree.source()));
        let rust = sources
            .iter()
            .map(|(path, _)| Path::new(path))
            .filter(|path| {
                path.starts_with("kernel")
                    && path.extension().is_some_and(|extension| extension == "rs")
            });
        command.args(rust.map(|path| Path::new("/work").join(path)));
        program::run(step, "rustfmt on the kernel modules", command).map(drop)
    })
}

type Sources = Vec<(String, Vec<u8>)>;

fn build(
    step: &Step,
    tree: &Tree,
    sources: &Sources,
    folder: &Path,
    make: &[&str],
) -> Result<String> {
    copy_sources(sources, folder)?;
    let mut command = tree.command(Some(folder))?;
    command
        .args([
            "sh",
            "-c",
            BUILD,
            "modules",
            tree.release(),
            tree.source(),
            "/work/results",
        ])
        .args(tree.make_words())
        .args(make);
    let log = program::run(step, "building the kernel modules", command)?;
    // Results stay where root put them: a user cannot move another's folder.
    for copied in COPIED {
        let copied = folder.join(copied);
        fs::remove_dir_all(&copied).map_err(Error::file("remove", &copied))?;
    }
    Ok(log)
}

fn copy_sources(sources: &Sources, folder: &Path) -> Result<()> {
    for (path, content) in sources {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        fs::write(&path, content).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

fn read_sources(repository: &Path) -> Result<Sources> {
    let mut sources = Vec::new();
    for source in SOURCES {
        let folder = repository.join(source);
        collect(repository, &folder, &mut sources).map_err(Error::file("read", &folder))?;
    }
    sources.sort();
    Ok(sources)
}

fn collect(repository: &Path, folder: &Path, sources: &mut Sources) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(repository, &path, sources)?;
        } else if let Ok(name) = path.strip_prefix(repository) {
            sources.push((name.to_string_lossy().into_owned(), fs::read(&path)?));
        }
    }
    Ok(())
}

fn list(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| wanted(path))
        .collect();
    paths.sort();
    Ok(paths)
}
