//! Stores the highest revision of its master's store that the agent has seen. With it a master detects that its store was
//! restored from a backup.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::layout::Layout;
use crate::{
    domain::{
        fingerprint::Fingerprint,
        revision::{Revision, SealedRevision},
        seal::Seal,
    },
    sys::paths::read_optional,
};

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The file, and what is in it.
#[derive(Debug)]
pub struct SeenRevision {
    path: PathBuf,
    /// `None` while the disk is read-only.
    file: Option<File>,
    saved: SealedRevision,
    /// The CA of the master whose store that is.
    of: Option<String>,
}

impl SeenRevision {
    /// Opens the file, with the revision that was written down.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn open(layout: &Layout) -> io::Result<(Self, SealedRevision)> {
        let path = layout.seen_revision();
        let text = read_optional(&path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let (epoch, revision) = (number(), number());
        let of = words.next().map(str::to_owned);
        let seal = words.next().and_then(|word| Seal::try_from(word.to_owned()).ok());
        let saved = SealedRevision { revision: Revision { epoch, number: revision }, seal };
        let file = match open(&path) {
            // Opened again when there is something to write.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => None,
            file => Some(file?),
        };
        Ok((Self { path, file, saved, of }, saved))
    }

    /// Notes which CA the agent believes in. True when what was seen before is another master's and says nothing about
    /// this one's store.
    pub fn belong_to(&mut self, ca: &Fingerprint) -> bool {
        let ca = Some(ca.to_string());
        if self.of == ca {
            return false;
        }
        let is_anothers = self.of.is_some();
        self.of = ca;
        // Whatever is seen next is written down, with the new CA.
        self.saved = SealedRevision::default();
        is_anothers
    }

    /// Writes down what was seen. Not synced: a machine that crashes starts a new incarnation.
    pub fn save(&mut self, seen: SealedRevision) {
        if seen <= self.saved {
            return;
        }
        // Written in place with a fixed length: a new file takes longer than a short command.
        let of = self.of.as_deref().unwrap_or_default();
        let seal = seen.seal.map(String::from).unwrap_or_default();
        let text = format!("{:>20} {:>20} {of:>80} {seal:>64}\n", seen.revision.epoch, seen.revision.number);
        if self.file.is_none() {
            self.file = open(&self.path).ok();
        }
        match self.file.as_ref().map(|file| file.write_all_at(text.as_bytes(), 0)) {
            Some(Ok(())) => self.saved = seen,
            Some(Err(error)) => tracing::error!(%error, "cannot remember the master's revision"),
            // The disk is read-only, which is logged when the agent starts and not at each write.
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_of_one_master_is_remembered_and_forgotten_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let open = || SeenRevision::open(&layout).unwrap();
        let (first, second) = (Fingerprint::of(b"first"), Fingerprint::of(b"second"));
        let seal = Some([7; 32].into());
        let seen = SealedRevision { revision: Revision { epoch: 2, number: 40 }, seal };
        let (mut file, before) = open();
        assert_eq!(before, SealedRevision::default());
        assert!(!file.belong_to(&first), "nothing was seen yet");
        file.save(seen);
        file.save(SealedRevision { revision: Revision { epoch: 1, number: 90 }, seal });
        let (mut file, before) = open();
        assert_eq!(before, seen, "the highest one");
        assert!(!file.belong_to(&first));
        assert!(file.belong_to(&second));
        file.save(SealedRevision { revision: Revision { epoch: 1, number: 3 }, seal: None });
        assert_eq!(open().1, SealedRevision { revision: Revision { epoch: 1, number: 3 }, seal: None });
    }
}
