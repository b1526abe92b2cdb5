//! The directories of sloth-runner: in `/var` and `/run` for root, else those of the user according to the
//! crate
//! `directories`.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use directories::ProjectDirs;

use super::{disk::Disk, file::sync_directory};

/// The directories of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directories {
    /// Data that must not be lost.
    pub data: PathBuf,
    /// Sockets and pid files.
    pub runtime: PathBuf,
    /// Log files.
    pub log: PathBuf,
}

/// The error for a directory that a daemon cannot use.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the directory {path}: {source}; use another directory with --data-dir")]
pub(crate) struct UnusableDirectory {
    path: String,
    /// The reason.
    pub source: io::Error,
}

/// The error for a user without a home directory.
#[derive(Debug, thiserror::Error)]
#[error("this user has no home directory for data; give a directory with --data-dir")]
pub(crate) struct NoHome;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn project() -> Result<ProjectDirs, NoHome> {
    ProjectDirs::from("", "", "sloth-runner").ok_or(NoHome)
}

/// Returns the directories of a daemon. If an operator gives a directory (`given`), all of them are in it;
/// else they are the usual ones for `role`.
///
/// # Errors
/// When the user has no home directory.
pub(crate) fn directories(given: Option<&Path>, role: &str) -> Result<Directories, NoHome> {
    if let Some(given) = given {
        let data = std::path::absolute(given).unwrap_or_else(|_| given.to_owned());
        return Ok(Directories { runtime: data.clone(), log: data.join("log"), data });
    }
    if is_root() {
        return Ok(Directories {
            data: Path::new("/var/lib/sloth-runner").join(role),
            runtime: PathBuf::from("/run/sloth-runner"),
            log: PathBuf::from("/var/log/sloth-runner"),
        });
    }
    let project = project()?;
    let state = project.state_dir().unwrap_or_else(|| project.data_local_dir()).to_owned();
    Ok(Directories { data: project.data_local_dir().join(role), log: state.join("log"), runtime: state })
}

/// Returns the data directory of a role that runs as a service of a user other than root. Of all that
/// [`directories()`] considers, such a service has only its home.
#[must_use]
pub(crate) fn service_data(home: &Path, role: &str) -> PathBuf {
    home.join(".local/share/sloth-runner").join(role)
}

/// Returns the directories of a user's clients: named masters, keys, history. They belong to the user and not
/// to the machine, also for root.
///
/// # Errors
/// When the user has no home directory.
pub(crate) fn client_directories(given: Option<&Path>) -> Result<Directories, NoHome> {
    if given.is_some() {
        return directories(given, "client");
    }
    let project = project()?;
    let data = project.data_local_dir().join("client");
    let state = project.state_dir().unwrap_or_else(|| project.data_local_dir()).to_owned();
    Ok(Directories { runtime: data.clone(), log: state.join("log"), data })
}

/// Returns the path of the master's socket in a runtime directory.
#[must_use]
pub(crate) fn master_socket(runtime: &Path) -> PathBuf {
    runtime.join("master.sock")
}

/// Returns the sockets on which a master of this machine may listen: first the user's own, then root's.
#[must_use]
pub(crate) fn known_master_sockets() -> Vec<PathBuf> {
    let root = PathBuf::from("/run/sloth-runner/master.sock");
    let own = directories(None, "master").ok().map(|dirs| master_socket(&dirs.runtime));
    own.into_iter().filter(|path| *path != root).chain([root.clone()]).collect()
}

/// Creates a directory in which other users can reach a socket, but which they cannot list.
///
/// # Errors
/// When it cannot be created or is not writable.
pub(crate) fn make_runtime_directory(path: &Path) -> Result<(), UnusableDirectory> {
    let usable = || {
        DirBuilder::new().recursive(true).mode(0o711).create(path)?;
        nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).map_err(io::Error::from)
    };
    usable().map_err(|source| UnusableDirectory { path: path.display().to_string(), source })
}

/// Creates a directory that only its owner can list. Removes the read permission of others if it exists.
///
/// # Errors
/// When it cannot be created, belongs to another user, or is not writable.
pub(crate) fn make_private(path: &Path) -> Result<(), UnusableDirectory> {
    let usable = || {
        // The names of new directories are synced, so that files in them cannot be lost with the directory.
        let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for above in missing.into_iter().filter_map(Path::parent) {
            sync_directory(if above.as_os_str().is_empty() { Path::new(".") } else { above })?;
        }
        let metadata = fs::metadata(path)?;
        let me = nix::unistd::geteuid().as_raw();
        if metadata.uid() != me {
            let owner = metadata.uid();
            return Err(io::Error::other(format!("it belongs to user {owner}, not to {me}")));
        }
        if metadata.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::other("other users can write to it; fix this with chmod go-w"));
        }
        if metadata.permissions().mode() & 0o044 != 0 {
            let mode = metadata.permissions().mode() & !0o044;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).map_err(io::Error::from)
    };
    usable().map_err(|source| UnusableDirectory { path: path.display().to_string(), source })
}

/// Creates a file that only its owner may read or write. Removes the permissions of others if it exists.
///
/// # Errors
/// When it cannot be created, or belongs to another user.
pub(crate) fn make_owners(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Replaces a small file atomically: a reader sees either the old or the new content. Only the owner can read
/// it.
///
/// With `durable`, the new content is on the disk when this returns.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_private(path: &Path, content: &[u8], durable: bool) -> io::Result<()> {
    Disk::default().replace(path, content, durable)
}

/// Returns the contents of a file; `None` if it does not exist.
///
/// # Errors
/// When it exists and cannot be read.
pub(crate) fn read_optional(path: &Path) -> io::Result<Option<Vec<u8>>> {
    Disk::default().contents(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_named_directory_lies_in_it() {
        let dirs = directories(Some(Path::new("/x/y")), "master").unwrap();
        assert_eq!(dirs.data, Path::new("/x/y"));
        assert_eq!(dirs.runtime, Path::new("/x/y"));
        assert_eq!(dirs.log, Path::new("/x/y/log"));
    }

    #[test]
    fn a_file_of_the_owners_alone_becomes_so_and_keeps_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "kept").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        make_owners(&path).unwrap();
        make_owners(&dir.path().join("new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        for name in ["file", "new"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn private_files_are_private_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        make_private(&dir.path().join("a/b")).unwrap();
        let path = dir.path().join("a/b/key");
        write_private(&path, b"one", true).unwrap();
        write_private(&path, b"two", false).unwrap();
        assert_eq!(read_optional(&path).unwrap().unwrap(), b"two");
        write_private(&path, b"", true).unwrap();
        assert_eq!(read_optional(&path).unwrap().unwrap(), b"");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(read_optional(&dir.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn a_private_directory_can_be_listed_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        make_private(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o711);
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = make_private(dir.path()).unwrap_err().to_string();
        assert!(error.contains("other users can write to it"), "{error}");
    }
}
