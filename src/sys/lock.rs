//! Lock files, and the process ids in them. Does not know who uses them.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// A lock on a file, held until this is closed here and in every process that inherited it.
#[derive(Debug)]
pub struct Lock(File);

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match opened {
        // One that is there can be locked all the same.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

impl Lock {
    /// Takes the lock; `None` when another process holds it.
    ///
    /// # Errors
    /// When the file cannot be opened or locked for another reason.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The same lock for a process that is about to be forked: it is free when both have closed it.
    ///
    /// # Errors
    /// When there is no room for another descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Writes the own process id into the locked file. Always as long, and over what is there: a file that was there needs
    /// no room on a disk that has none.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write_pid(&mut self) -> io::Result<()> {
        let is_read_only =
            rustix::fs::fcntl_getfl(&self.0)? & rustix::fs::OFlags::RWMODE == rustix::fs::OFlags::RDONLY;
        if is_read_only {
            // On a disk that takes nothing.
            return Ok(());
        }
        self.0.write_all_at(format!("{:>10}\n", std::process::id()).as_bytes(), 0)
    }
}

/// The process id in a pid file, when its writer still holds the lock. A stale file names nobody.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn holder(path: &Path) -> io::Result<Option<i32>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(if is_locked(&file)? { text.trim().parse().ok() } else { None })
}

/// Whether another process holds the lock on an existing file.
///
/// # Errors
/// When the file cannot be opened.
pub fn is_held(path: &Path) -> io::Result<bool> {
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
