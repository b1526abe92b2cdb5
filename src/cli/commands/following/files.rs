//! `--outdir`: what each task printed in a file of its own, and the names of those that did not exit 0.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    cli::exit::Failure,
    domain::{frame::Frame, run::Run},
};

/// A directory with one file a task, `NAME.log`, and a list, `failed`.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    names: HashMap<u32, String>,
    /// Files that are open; they are closed all at once when there are many, and opened again as needed.
    open: HashMap<u32, File>,
}

/// Files that are open at once.
const MOST_OPEN: usize = 256;

impl Files {
    pub(super) fn new(directory: &Path, run: &Run) -> Result<Self, Failure> {
        let fail = |error: io::Error| {
            Failure::usage(format!("cannot write into {}: {error} (--outdir)", directory.display()))
        };
        fs::create_dir_all(directory).map_err(fail)?;
        // Names of agents have no slash, and an ending, so that none of them is `failed` or a dot.
        let names: HashMap<u32, String> =
            run.tasks.iter().map(|task| (task.index, format!("{}.log", task.agent))).collect();
        for name in names.values() {
            File::create(directory.join(name)).map_err(fail)?;
        }
        Ok(Self { directory: directory.to_owned(), names, open: HashMap::new() })
    }

    /// Appends what a task printed, both streams in the order in which they were read.
    pub(super) fn frame(&mut self, task: u32, frame: &Frame) -> io::Result<()> {
        let Some(name) = self.names.get(&task) else { return Ok(()) };
        if !self.open.contains_key(&task) {
            if self.open.len() >= MOST_OPEN {
                self.open.clear();
            }
            let file = File::options().append(true).create(true).open(self.directory.join(name))?;
            self.open.insert(task, file);
        }
        match self.open.get_mut(&task) {
            Some(file) => file.write_all(&frame.data),
            None => Ok(()),
        }
    }

    /// Writes the list.
    pub(super) fn finish(&self, run: &Run) -> io::Result<()> {
        let failed = run.tasks.iter().filter(|task| !task.has_succeeded());
        let names: Vec<&str> = failed.map(|task| task.agent.as_str()).collect();
        let end = if names.is_empty() { "" } else { "\n" };
        fs::write(self.directory.join("failed"), names.join("\n") + end)
    }
}
