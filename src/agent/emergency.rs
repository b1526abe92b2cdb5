//! The emergency directory: where tasks begin while the agent's disk takes nothing, because it is full, read-only or broken.
//! It lies on a memory file system, and lasts as long as the machine's boot.
//!
//! Knows nothing of what lies in it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf, absolute},
};

use nix::unistd::geteuid;
use rustix::io::Errno;

use crate::trust::fingerprint::Fingerprint;

/// Free bytes and files below which nothing begins on a volume: room for a record, an ending and some output.
const LEAST_ROOM: (u64, u64) = (8 * 1024 * 1024, 64);

/// Where the emergency directory of a data directory is, or would be.
#[derive(Clone, Debug)]
pub struct Emergency {
    /// Of all agents of this user.
    base: PathBuf,
    root: PathBuf,
}

impl Emergency {
    /// The one of a data directory.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        // Root's own; others have no directory there that outlives their sessions.
        let base = match geteuid().as_raw() {
            0 => PathBuf::from("/run/sloth-runner-agent"),
            user => PathBuf::from(format!("/dev/shm/sloth-runner-agent-{user}")),
        };
        Self::below(base, data)
    }

    /// The same, below another directory.
    #[must_use]
    pub fn below(base: PathBuf, data: &Path) -> Self {
        let data = absolute(data).unwrap_or_else(|_| data.to_owned());
        let name = Fingerprint::of(data.as_os_str().as_encoded_bytes()).to_string();
        let root = base.join(&name[..16]);
        Self { base, root }
    }

    /// The directory, where it is there. One that another user has made in its place is not it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        (is_own(&self.base) && is_own(&self.root)).then_some(&self.root)
    }

    /// The directory, made where it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self) -> io::Result<&Path> {
        for directory in [&self.base, &self.root] {
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        self.path().ok_or_else(|| io::Error::other(format!("{} is another user's", self.base.display())))
    }
}

/// Whether a directory is this user's alone.
fn is_own(directory: &Path) -> bool {
    let is_own = |metadata: fs::Metadata| {
        metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o777 == 0o700
    };
    fs::symlink_metadata(directory).is_ok_and(is_own)
}

/// Whether an error says that the disk takes nothing, rather than that something is not there.
#[must_use]
pub fn is_of_disk(error: &io::Error) -> bool {
    let errors = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO];
    errors.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Why nothing should begin on the volume of a directory, in words.
#[must_use]
pub fn trouble_of(directory: &Path) -> Option<&'static str> {
    let volume = rustix::fs::statvfs(directory).ok()?;
    if volume.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Some("read-only");
    }
    // What only root may use counts for root alone.
    let blocks = if geteuid().is_root() { volume.f_bfree } else { volume.f_bavail };
    let files = if geteuid().is_root() { volume.f_ffree } else { volume.f_favail };
    let (bytes, least_files) = LEAST_ROOM;
    // Not every file system counts files.
    let has_files = volume.f_files == 0 || files >= least_files;
    (blocks.saturating_mul(volume.f_frsize) < bytes || !has_files).then_some("full")
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn it_is_made_for_its_user_alone_and_no_other_one_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        let emergency = Emergency::below(base.clone(), Path::new("/data/a"));
        assert_eq!(emergency.path(), None, "nobody needs it yet");
        let made = emergency.make().unwrap().to_owned();
        assert_eq!(emergency.path(), Some(made.as_path()));
        assert_ne!(Emergency::below(base.clone(), Path::new("/data/b")).make().unwrap(), made);
        assert_eq!(emergency.make().unwrap(), made, "again");
        fs::set_permissions(&base, Permissions::from_mode(0o755)).unwrap();
        assert!(emergency.path().is_none() && emergency.make().is_err(), "others may read it");
        fs::rename(&base, dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("moved"), &base).unwrap();
        fs::set_permissions(dir.path().join("moved"), Permissions::from_mode(0o700)).unwrap();
        assert!(emergency.path().is_none() && emergency.make().is_err(), "a link");
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told_from_what_is_not_there() {
        for (errno, is_disk) in
            [(Errno::NOSPC, true), (Errno::ROFS, true), (Errno::DQUOT, true), (Errno::NOENT, false)]
        {
            assert_eq!(is_of_disk(&io::Error::from(errno)), is_disk, "{errno:?}");
        }
        assert_eq!(trouble_of(Path::new("/nowhere")), None, "what does not tell has room");
    }
}
