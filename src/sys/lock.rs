//! Lock files, and the process ids in them.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// A lock on a file, held until the file is closed in this process and in every process that inherited it.
#[derive(Debug)]
pub(crate) struct Lock(File);

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match opened {
        // An existing file can be locked even if it is opened only for reading.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

impl Lock {
    /// Takes the lock. Returns `None` if another process holds it.
    ///
    /// # Errors
    /// When the file cannot be opened or locked for another reason.
    pub(crate) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes the id of this process into the locked file. The text has a fixed length and overwrites the old
    /// one, so that an existing file needs no space on a full disk.
    ///
    /// # Errors
    /// When writing fails.
    pub(crate) fn write_pid(&mut self) -> io::Result<()> {
        let is_read_only =
            rustix::fs::fcntl_getfl(&self.0)? & rustix::fs::OFlags::RWMODE == rustix::fs::OFlags::RDONLY;
        if is_read_only {
            // The file system is read-only.
            return Ok(());
        }
        self.0.write_all_at(format!("{:>10}\n", std::process::id()).as_bytes(), 0)
    }
}

/// Returns the process id in a pid file if the lock is still held; `None` if the file is missing or stale.
///
/// # Errors
/// When the file exists and cannot be read.
pub(crate) fn holder(path: &Path) -> io::Result<Option<i32>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(if is_locked(&file)? { text.trim().parse().ok() } else { None })
}

/// Reports whether another process holds the lock on an existing file.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
    is_locked(&File::open(path)?)
}

fn is_locked(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_the_lock_and_a_stale_pid_names_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let mut lock = Lock::try_take(&path).unwrap().unwrap();
        lock.write_pid().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        assert_eq!(holder(&path).unwrap(), i32::try_from(std::process::id()).ok());
        drop(lock);
        assert_eq!(holder(&path).unwrap(), None);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }
}
