//! The emergency directory: tasks start there while the agent's disk is full, read-only or broken. It is on a
//! memory file system. Its id is a part of the incarnation, so that its loss counts as the loss of the
//! agent's memory of tasks.
//!
//! Does not depend on the contents of the directory.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf, absolute},
};

use nix::unistd::geteuid;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::domain::fingerprint::Fingerprint;

/// The free bytes and files that a volume must have for a task to start there: enough for a record, an ending
/// and some output.
const MIN_FREE: (u64, u64) = (8 * 1024 * 1024, 64);
/// The problem of a volume with too few free bytes.
const SHORT_OF_BYTES: &str = "short of room (less than 8 MiB free)";
/// The first user id of a person. Files of persons in `/dev/shm` are removed when they log out (logind's
/// `RemoveIPC=`).
const FIRST_PERSON: u32 = 1_000;

/// The path of the emergency directory of a data directory. The directory may not exist.
#[derive(Clone, Debug)]
pub struct Emergency {
    /// The parent of the emergency directories of all agents of this user; `None` if the user has no
    /// permanent directory in memory.
    base: Option<PathBuf>,
    /// The name of the directory in `base`.
    name: String,
}

impl Emergency {
    /// Returns the path of the emergency directory of a data directory.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        // The agent's user. The caller can be an administrator who inspects another user's agent.
        let user = fs::metadata(data).map_or_else(|_| geteuid().as_raw(), |metadata| metadata.uid());
        Self::below(base_of(user), data)
    }

    /// Returns the path of the emergency directory of a data directory, with `base` as its parent.
    #[must_use]
    pub fn below(base: Option<PathBuf>, data: &Path) -> Self {
        let name = Fingerprint::of(resolved(data).as_os_str().as_encoded_bytes()).to_string();
        Self { base, name: name[..16].to_owned() }
    }

    /// Returns the directory, if it exists and only this user can use it.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let base = self.base.as_ref()?;
        let path = base.join(&self.name);
        (is_own(base) && is_own(&path)).then_some(path)
    }

    /// Creates the directory if it does not exist, and returns it.
    ///
    /// # Errors
    /// When it cannot be created, or belongs to another user.
    pub fn create(&self) -> io::Result<PathBuf> {
        let base = self.base.as_ref().ok_or_else(|| io::Error::other("this user has no memory directory"))?;
        for directory in [base, &base.join(&self.name)] {
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        self.path().ok_or_else(|| io::Error::other(format!("{} is another user's", base.display())))
    }
}

impl Emergency {
    /// Removes the directory of an agent that was stopped, unless it contains a task or the record of one.
    pub fn remove(&self) {
        let (Some(base), Some(path)) = (&self.base, self.path()) else { return };
        let names = |entries: fs::ReadDir| entries.flatten().map(|entry| entry.file_name());
        if fs::read_dir(&path).is_ok_and(|entries| names(entries).all(|name| name == "id")) {
            // If the parent is not empty, another agent uses it.
            let _ = fs::remove_file(path.join("id"));
            let _ = fs::remove_dir(&path).and_then(|()| fs::remove_dir(base));
        }
    }
}

fn base_of(user: u32) -> Option<PathBuf> {
    match user {
        0 => Some(PathBuf::from("/run/sloth-runner-agent")),
        system if system < FIRST_PERSON => {
            Some(PathBuf::from(format!("/dev/shm/sloth-runner-agent-{system}")))
        }
        _ => None,
    }
}

/// Returns the canonical form of a path, even if its last components do not exist yet.
fn resolved(path: &Path) -> PathBuf {
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    // Removes a trailing slash.
    let path: PathBuf = path.components().collect();
    if let Ok(real) = fs::canonicalize(&path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path,
    }
}

/// Reports whether a directory belongs to this user and no other user can access it.
fn is_own(directory: &Path) -> bool {
    let is_own = |metadata: fs::Metadata| {
        metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o777 == 0o700
    };
    fs::symlink_metadata(directory).is_ok_and(is_own)
}

/// Reports whether an error means that the disk is full, read-only or broken.
#[must_use]
pub fn is_disk_failure(error: &io::Error) -> bool {
    let errors = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO];
    errors.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Returns why no task should start on the volume of a directory, as text; `None` if it can.
#[must_use]
pub fn problem_of(directory: &Path) -> Option<&'static str> {
    let volume = rustix::fs::statvfs(directory).ok()?;
    if volume.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Some("read-only");
    }
    // Blocks and files that are reserved for root count only for root.
    let blocks = if geteuid().is_root() { volume.f_bfree } else { volume.f_bavail };
    let files = if geteuid().is_root() { volume.f_ffree } else { volume.f_favail };
    let (bytes, least_files) = MIN_FREE;
    // Not every file system counts files.
    let has_files = volume.f_files == 0 || files >= least_files;
    if blocks.saturating_mul(volume.f_frsize) < bytes {
        return Some(SHORT_OF_BYTES);
    }
    (!has_files).then_some("short of room (fewer than 64 files can be made)")
}

/// Reports whether no file can be created on the volume of a directory although it reports free space: the
/// volume has failed, or the quota is exhausted.
#[must_use]
pub fn is_unwritable(directory: &Path) -> bool {
    // A file without a name disappears when it is closed.
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR);
    opened.is_err_and(|errno| is_disk_failure(&errno.into()))
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn it_is_made_for_its_user_alone_and_no_other_one_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        let emergency = |data: &str| Emergency::below(Some(base.clone()), Path::new(data));
        let of_a = emergency("/data/a");
        assert_eq!(of_a.path(), None, "nobody needs it yet");
        let made = of_a.create().unwrap();
        assert_eq!(of_a.path(), Some(made.clone()));
        assert_ne!(emergency("/data/b").create().unwrap(), made);
        assert_eq!(of_a.create().unwrap(), made, "again");
        fs::set_permissions(&base, Permissions::from_mode(0o755)).unwrap();
        assert!(of_a.path().is_none() && of_a.create().is_err(), "others may read it");
        fs::rename(&base, dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("moved"), &base).unwrap();
        fs::set_permissions(dir.path().join("moved"), Permissions::from_mode(0o700)).unwrap();
        assert!(of_a.path().is_none() && of_a.create().is_err(), "a link");
        assert!(Emergency::below(None, Path::new("/data/a")).create().is_err());
    }

    #[test]
    fn nothing_is_left_of_it_but_what_tasks_need() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        let emergency = Emergency::below(Some(base.clone()), Path::new("/data/a"));
        let path = emergency.create().unwrap();
        fs::write(path.join("id"), "1").unwrap();
        fs::write(path.join("finished.log"), "").unwrap();
        emergency.remove();
        assert!(path.join("id").exists());
        fs::remove_file(path.join("finished.log")).unwrap();
        emergency.remove();
        assert!(!base.exists());
    }

    #[test]
    fn it_is_the_same_however_the_data_directory_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        let spelled = || {
            let data = data.display();
            let through_link = dir.path().join("link/data");
            [format!("{data}"), format!("{data}/"), format!("{data}/."), through_link.display().to_string()]
        };
        let names = || spelled().map(|text| Emergency::below(None, Path::new(&text)).name);
        let before = names();
        assert!(before.iter().all(|name| *name == before[0]), "{before:?}");
        fs::create_dir(&data).unwrap();
        assert_eq!(names(), before, "and when it is there");
    }

    #[test]
    fn people_have_no_place_that_lasts() {
        assert_eq!(base_of(0).unwrap(), Path::new("/run/sloth-runner-agent"));
        assert_eq!(base_of(998).unwrap(), Path::new("/dev/shm/sloth-runner-agent-998"));
        assert_eq!(base_of(1_000), None);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told_from_what_is_not_there() {
        for (errno, is_disk) in
            [(Errno::NOSPC, true), (Errno::ROFS, true), (Errno::DQUOT, true), (Errno::NOENT, false)]
        {
            assert_eq!(is_disk_failure(&io::Error::from(errno)), is_disk, "{errno:?}");
        }
        assert_eq!(problem_of(Path::new("/nowhere")), None, "what does not tell has room");
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_unwritable(dir.path()) && !is_unwritable(Path::new("/nowhere")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}
