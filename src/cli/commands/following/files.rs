//! `--outdir`: what each task printed in a file of its own, and the names of those that did not exit 0.
//!
//! Others may have been in the directory before, or write to it meanwhile. So a file is always made anew, nothing that stands
//! in its place is ever opened, and links are followed nowhere below the directory's parent.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, unlinkat},
    io::Errno,
};

use crate::{
    cli::exit::Failure,
    domain::{frame::Frame, run::Run},
};

/// A directory with one file a task, `NAME.log`, and a list, `failed`.
#[derive(Debug)]
pub(super) struct Files {
    directory: OwnedFd,
    files: HashMap<u32, Made>,
    /// Files that are open; they are closed all at once when there are many, and opened again as needed.
    open: HashMap<u32, File>,
}

/// A file that was made here.
#[derive(Debug)]
struct Made {
    name: String,
    device: u64,
    inode: u64,
}

/// Files that are open at once.
const MOST_OPEN: usize = 256;
/// The list of the agents whose task did not exit 0.
const FAILED: &str = "failed";

impl Files {
    pub(super) fn new(directory: &Path, run: &Run) -> Result<Self, Failure> {
        let names = run.tasks.iter().map(|task| (task.index, task.agent.as_str()));
        Self::make(directory, names).map_err(|error| {
            Failure::usage(format!("cannot write into {}: {error} (--outdir)", directory.display()))
        })
    }

    fn make<'a>(directory: &Path, agents: impl Iterator<Item = (u32, &'a str)>) -> io::Result<Self> {
        let directory = open_directory(directory)?;
        let mut files = HashMap::new();
        for (index, agent) in agents {
            // Names of agents have no slash, and with the ending none of them is the list or a dot.
            let name = format!("{agent}.log");
            let metadata = make_file(&directory, &name)?.metadata()?;
            files.insert(index, Made { name, device: metadata.dev(), inode: metadata.ino() });
        }
        Ok(Self { directory, files, open: HashMap::new() })
    }

    /// Appends what a task printed, both streams in the order in which they were read.
    pub(super) fn frame(&mut self, task: u32, frame: &Frame) -> io::Result<()> {
        let Some(made) = self.files.get(&task) else { return Ok(()) };
        if !self.open.contains_key(&task) {
            if self.open.len() >= MOST_OPEN {
                self.open.clear();
            }
            self.open.insert(task, made.open_again(&self.directory)?);
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
        make_file(&self.directory, FAILED)?.write_all((names.join("\n") + end).as_bytes())
    }
}

impl Made {
    fn open_again(&self, directory: &OwnedFd) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(directory, &self.name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != (self.device, self.inode) {
            return Err(io::Error::other(format!(
                "somebody else has put another file in the place of {}",
                self.name
            )));
        }
        Ok(file)
    }
}

/// The directory itself: made for its owner alone where there is none.
fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // Without a slash at its end, which would have a link followed.
    let path: PathBuf = path.components().collect();
    if fs::symlink_metadata(&path)?.is_symlink() {
        return Err(io::Error::other("it is a link; name the directory that it leads to"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(&path, flags, Mode::empty())?)
}

/// Makes a file in the place of whatever has this name.
fn make_file(directory: &OwnedFd, name: &str) -> io::Result<File> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let anew = || openat(directory, name, flags, Mode::from_raw_mode(0o666));
    let file = match anew() {
        Err(Errno::EXIST) => {
            unlinkat(directory, name, AtFlags::empty())?;
            anew()
        }
        file => file,
    };
    Ok(File::from(file?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use bytes::Bytes;

    use super::*;
    use crate::domain::frame::Stream;

    fn printed(text: &'static str) -> Frame {
        Frame { stream: Stream::Stdout, offset: 0, time_ns: 0, data: Bytes::from(text) }
    }

    #[test]
    fn what_stands_in_a_files_place_is_replaced_and_never_written_to() {
        let home = tempfile::tempdir().unwrap();
        let (victim, directory) = (home.path().join("victim"), home.path().join("out"));
        fs::write(&victim, "precious").unwrap();
        fs::create_dir(&directory).unwrap();
        symlink(&victim, directory.join("a.log")).unwrap();
        fs::hard_link(&victim, directory.join("b.log")).unwrap();
        fs::write(directory.join("c.log"), "of an earlier run").unwrap();
        symlink(home.path().join("not there"), directory.join("d.log")).unwrap();

        let agents = ["a", "b", "c", "d"];
        let mut files = Files::make(&directory, (0..).zip(agents)).unwrap();
        for (index, agent) in (0..).zip(agents) {
            files.frame(index, &printed("new")).unwrap();
            assert_eq!(fs::read_to_string(directory.join(format!("{agent}.log"))).unwrap(), "new");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!home.path().join("not there").exists());
    }

    #[test]
    fn a_file_that_was_exchanged_meanwhile_is_not_written_to() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let directory = home.path().join("new/out");
        let mut files = Files::make(&directory, [(0, "a"), (1, "b")].into_iter()).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        for name in ["a.log", "b.log"] {
            fs::remove_file(directory.join(name)).unwrap();
        }
        fs::hard_link(&victim, directory.join("a.log")).unwrap();
        symlink(&victim, directory.join("b.log")).unwrap();
        assert!(files.frame(0, &printed("new")).unwrap_err().to_string().contains("in the place of a.log"));
        assert!(files.frame(1, &printed("new")).is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn a_directory_that_is_a_link_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let link = home.path().join("link");
        symlink(home.path(), &link).unwrap();
        for path in [link.clone(), link.join("")] {
            let error = Files::make(&path, std::iter::empty()).unwrap_err();
            assert!(error.to_string().contains("is a link"), "{error}");
        }
    }
}
