//! Stores the highest revision of the master's store that the agent has seen. With it a master detects that
//! its store was restored from a backup.

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

/// The CA of a master, and the highest revision of its store that was seen. A file of version 0.1.0 contains
/// no CA.
type Seen = (Option<Fingerprint>, SealedRevision);

/// The file, and its contents.
#[derive(Debug)]
pub(crate) struct SeenRevision {
    path: PathBuf,
    /// `None` while the disk is read-only.
    file: Option<File>,
    saved: Seen,
}

impl SeenRevision {
    /// Opens the file, and returns what it contains.
    ///
    /// # Errors
    /// When it cannot be read or created.
    pub(crate) fn open(layout: &Layout) -> io::Result<(Self, Seen)> {
        let path = layout.seen_revision();
        let text = read_optional(&path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let (epoch, revision) = (number(), number());
        let of = words.next().and_then(|word| word.parse().ok());
        let seal = words.next().and_then(|word| Seal::try_from(word.to_owned()).ok());
        let saved = (of, SealedRevision { revision: Revision { epoch, number: revision }, seal });
        let file = match open(&path) {
            // Opened again when there is something to write.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => None,
            file => Some(file?),
        };
        Ok((Self { path, file, saved }, saved))
    }

    /// Writes a revision if it is higher than the stored one, or belongs to another CA. Does not sync: a
    /// machine that crashes starts a new incarnation.
    pub(crate) fn save(&mut self, of: Option<Fingerprint>, seen: SealedRevision) {
        let is_news = of != self.saved.0 || seen > self.saved.1;
        if seen == SealedRevision::default() || !is_news {
            return;
        }
        // Written in place with a fixed length: a new file takes longer than a short command.
        let name = of.map(|of| of.to_string()).unwrap_or_default();
        let seal = seen.seal.map(String::from).unwrap_or_default();
        let text =
            format!("{:>20} {:>20} {name:>80} {seal:>64}\n", seen.revision.epoch, seen.revision.number);
        if self.file.is_none() {
            self.file = open(&self.path).ok();
        }
        match self.file.as_ref().map(|file| file.write_all_at(text.as_bytes(), 0)) {
            Some(Ok(())) => self.saved = (of, seen),
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
    fn the_highest_revision_of_a_master_is_kept_until_another_ones_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let open = || SeenRevision::open(&layout).unwrap();
        let (first, second) = (Some(Fingerprint::of(b"first")), Some(Fingerprint::of(b"second")));
        let seal = Some([7; 32].into());
        let revision = |epoch, number, seal| SealedRevision { revision: Revision { epoch, number }, seal };
        let (mut file, before) = open();
        assert_eq!(before, (None, SealedRevision::default()));
        file.save(first, revision(2, 40, seal));
        file.save(first, revision(1, 90, seal));
        let (mut file, before) = open();
        assert_eq!(before, (first, revision(2, 40, seal)), "the highest one");
        file.save(second, SealedRevision::default());
        assert_eq!(open().1, before, "nothing was seen of the second one");
        file.save(second, revision(1, 3, None));
        assert_eq!(open().1, (second, revision(1, 3, None)));
    }

    #[test]
    fn a_file_without_a_ca_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::write(layout.seen_revision(), format!("{:>20} {:>20}\n", 3, 7)).unwrap();
        let seen = SealedRevision { revision: Revision { epoch: 3, number: 7 }, seal: None };
        let (mut file, before) = SeenRevision::open(&layout).unwrap();
        assert_eq!(before, (None, seen));
        let ca = Some(Fingerprint::of(b"ca"));
        file.save(ca, seen);
        assert_eq!(SeenRevision::open(&layout).unwrap().1, (ca, seen));
    }
}
