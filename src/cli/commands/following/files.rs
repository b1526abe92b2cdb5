//! `--outdir`: the output of each task in a file of its own, and a list of the agents that failed.
//!
//! Other users may have written to the directory before, or write to it now. So each file is a new one, an
//! existing file is never opened, and no symbolic link below the directory's parent is followed.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, unlinkat},
    io::Errno,
};

use crate::{
    cli::exit::Failure,
    domain::{frame::Frame, job::Job, outcome::Outcome, seam::Seam},
};

/// The directory of `--outdir`, open and writable.
#[derive(Debug)]
pub(in crate::cli::commands) struct OutDirectory {
    path: PathBuf,
    directory: OwnedFd,
}

/// The files in the directory: `NAME.log` for each task, and the list `failed`.
#[derive(Debug)]
pub(super) struct Files {
    directory: Arc<OutDirectory>,
    files: HashMap<u32, CreatedFile>,
    /// Open files. When there are too many, all are closed, and opened again as needed.
    open: HashMap<u32, File>,
    seams: HashMap<u32, Seam>,
}

/// A file that this client created.
#[derive(Debug)]
struct CreatedFile {
    name: String,
    device: u64,
    inode: u64,
}

/// Maximum number of open files.
const MAX_OPEN_FILES: usize = 256;
/// The list of the agents whose task did not exit with 0.
const FAILED: &str = "failed";

impl OutDirectory {
    /// Opens a directory, or creates it. To be called before the job starts, so that a directory that is not
    /// writable is reported early. Removes the list of an earlier job.
    ///
    /// # Errors
    /// If it cannot be written to.
    pub(in crate::cli::commands) fn open(path: &Path) -> Result<Self, Failure> {
        let opened = open_directory(path).and_then(|directory| {
            make_file(&directory, FAILED)?;
            unlinkat(&directory, FAILED, AtFlags::empty())?;
            Ok(Self { path: path.to_owned(), directory })
        });
        opened.map_err(|error| {
            Failure::usage(format!("cannot write into {}: {error} (--outdir)", path.display()))
        })
    }

    /// Adds the path of the file to an error.
    fn named(&self, name: &str, error: &io::Error) -> io::Error {
        io::Error::other(format!("cannot write {}: {error}", self.path.join(name).display()))
    }
}

impl Files {
    /// Creates a file for each task of a job.
    pub(super) fn new(directory: &Arc<OutDirectory>, job: &Job) -> io::Result<Self> {
        let names = job.tasks.iter().map(|task| (task.index, task.agent.as_str()));
        Self::make(directory, names)
    }

    fn make<'a>(
        directory: &Arc<OutDirectory>,
        agents: impl Iterator<Item = (u32, &'a str)>,
    ) -> io::Result<Self> {
        let mut files = HashMap::new();
        for (index, agent) in agents {
            // Agent names have no slash, and with the suffix no name equals the list, `.` or `..`.
            let name = format!("{agent}.log");
            let made = make_file(&directory.directory, &name).and_then(|file| file.metadata());
            let metadata = made.map_err(|error| directory.named(&name, &error))?;
            files.insert(index, CreatedFile { name, device: metadata.dev(), inode: metadata.ino() });
        }
        Ok(Self { directory: Arc::clone(directory), files, open: HashMap::new(), seams: HashMap::new() })
    }

    /// Returns the directory's path, as given by the user.
    pub(super) fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Appends the output of a task, both streams in the order in which they were read.
    pub(super) fn frame(&mut self, task: u32, frame: &Frame) -> io::Result<()> {
        let mark = self.seams.entry(task).or_default().next(&frame.data);
        self.append(task, mark.as_bytes())?;
        self.append(task, &frame.data)
    }

    fn append(&mut self, task: u32, bytes: &[u8]) -> io::Result<()> {
        let Some(made) = self.files.get(&task).filter(|_| !bytes.is_empty()) else { return Ok(()) };
        let named = |error: io::Error| self.directory.named(&made.name, &error);
        if !self.open.contains_key(&task) {
            if self.open.len() >= MAX_OPEN_FILES {
                self.open.clear();
            }
            self.open.insert(task, made.open_again(&self.directory.directory).map_err(named)?);
        }
        match self.open.get_mut(&task) {
            Some(file) => file.write_all(bytes).map_err(named),
            None => Ok(()),
        }
    }

    /// Ends the current line at a gap, so that the file contains no line that the task did not print.
    pub(super) fn gap(&mut self, task: u32) -> io::Result<()> {
        let end = self.seams.entry(task).or_default().gap();
        self.append(task, end.as_bytes())
    }

    /// Writes the list. If the job continues without this client, the list has the tasks that have failed so
    /// far.
    pub(super) fn finish(&self, job: &Job) -> io::Result<()> {
        let has_failed = |outcome: &Outcome| !outcome.is_success();
        let failed = job.tasks.iter().filter(|task| task.state.outcome().is_some_and(has_failed));
        let names: Vec<&str> = failed.map(|task| task.agent.as_str()).chain(job.missed()).collect();
        let end = if names.is_empty() { "" } else { "\n" };
        let list = names.join("\n") + end;
        let written =
            make_file(&self.directory.directory, FAILED).and_then(|mut file| file.write_all(list.as_bytes()));
        written.map_err(|error| self.directory.named(FAILED, &error))
    }
}

impl CreatedFile {
    fn open_again(&self, directory: &OwnedFd) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(directory, &self.name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != (self.device, self.inode) {
            return Err(io::Error::other(format!(
                "another process has put a different file in the place of {}",
                self.name
            )));
        }
        Ok(file)
    }
}

/// Opens the directory. If it does not exist, it is created for its owner only.
fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // Without a slash at the end, which would make the kernel follow a symbolic link.
    let path: PathBuf = path.components().collect();
    if fs::symlink_metadata(&path)?.is_symlink() {
        return Err(io::Error::other("it is a link; name the directory that it leads to"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(&path, flags, Mode::empty())?)
}

/// Creates a file. An existing file with this name is removed.
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
    use crate::domain::{frame::Stream, offset::OutputOffset};

    fn printed(text: &'static str) -> Frame {
        Frame { stream: Stream::Stdout, offset: OutputOffset::START, time_ns: 0, data: Bytes::from(text) }
    }

    #[test]
    fn what_stands_in_a_files_place_is_replaced_and_never_written_to() {
        let home = tempfile::tempdir().unwrap();
        let (victim, directory) = (home.path().join("victim"), home.path().join("out"));
        fs::write(&victim, "precious").unwrap();
        fs::create_dir(&directory).unwrap();
        symlink(&victim, directory.join("a.log")).unwrap();
        fs::hard_link(&victim, directory.join("b.log")).unwrap();
        fs::write(directory.join("c.log"), "of an earlier job").unwrap();
        symlink(home.path().join("not there"), directory.join("d.log")).unwrap();

        let agents = ["a", "b", "c", "d"];
        let opened = Arc::new(OutDirectory::open(&directory).unwrap());
        let mut files = Files::make(&opened, (0..).zip(agents)).unwrap();
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
        let opened = Arc::new(OutDirectory::open(&directory).unwrap());
        let mut files = Files::make(&opened, [(0, "a"), (1, "b")].into_iter()).unwrap();
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
            let failure = OutDirectory::open(&path).unwrap_err();
            assert!(failure.message.contains("is a link"), "{}", failure.message);
        }
    }
}
