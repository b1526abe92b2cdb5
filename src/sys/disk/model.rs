//! A model of a disk with its cache: tracks separately what was written, what was synced, and what has a name.
//!
//! A crash keeps everything that was synced and any part of the rest: each written sector, each length and
//! each name is kept or lost independently. After a failed sync the data exists only in memory, where it may
//! vanish, and the next sync does not write it. Every call may fail, and a failed write may have written a
//! part of its data.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Open;

/// Number of bytes that the disk writes atomically.
const SECTOR: usize = 64;

/// The model of a disk. A clone refers to the same disk.
#[derive(Clone, Debug)]
pub struct Model(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: u64,
    files: HashMap<u64, Content>,
    next: u64,
    /// Names as programs see them, and as they are on the disk. A directory is a name without a file.
    names: BTreeMap<PathBuf, Option<u64>>,
    synced_names: BTreeMap<PathBuf, Option<u64>>,
    /// One call in this number fails, on average; 0 if none fails.
    fails: u64,
    /// Incremented by each crash and restart: an older handle belongs to a process that has ended.
    generation: u64,
}

/// A file's content.
#[derive(Clone, Debug, Default)]
struct Content {
    /// The content as programs see it.
    memory: Vec<u8>,
    /// The content that is on the disk with certainty.
    disk: Vec<u8>,
    /// Sectors that the next sync writes to the disk, and that a crash may write.
    dirty: BTreeSet<usize>,
    /// Whether the next sync also writes the length, and a crash may.
    is_length_dirty: bool,
}

/// An open file of the model.
#[derive(Debug)]
pub(crate) struct Handle {
    model: Model,
    file: u64,
    generation: u64,
}

impl State {
    fn roll(&mut self, sides: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn may_fail(&mut self) -> io::Result<()> {
        if self.fails > 0 && self.roll(self.fails) == 0 {
            let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::Other];
            return Err(kinds[usize::try_from(self.roll(2)).unwrap()].into());
        }
        Ok(())
    }
}

impl Content {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.memory.len() < at + bytes.len() {
            self.memory.resize(at + bytes.len(), 0);
            self.is_length_dirty = true;
        }
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(at / SECTOR..(at + bytes.len()).div_ceil(SECTOR));
    }

    fn set_length(&mut self, length: usize) {
        self.memory.resize(length, 0);
        self.is_length_dirty = true;
        self.dirty.retain(|sector| sector * SECTOR < length);
        self.dirty.extend((length > 0 && !length.is_multiple_of(SECTOR)).then_some(length / SECTOR));
    }

    /// Writes one sector to the disk, up to the length that the file has on the disk.
    fn bring(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.memory.len()).min(self.disk.len());
        if from < to {
            self.disk[from..to].copy_from_slice(&self.memory[from..to]);
        }
    }

    fn sync(&mut self) {
        if std::mem::take(&mut self.is_length_dirty) {
            self.disk.resize(self.memory.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            self.bring(sector);
        }
    }
}

impl Model {
    /// Creates an empty disk. The seed decides which calls fail, and what a crash keeps.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed,
            files: HashMap::new(),
            next: 0,
            names: BTreeMap::from([(PathBuf::from("/"), None)]),
            synced_names: BTreeMap::from([(PathBuf::from("/"), None)]),
            fails: 0,
            generation: 0,
        })))
    }

    /// Returns the next pseudo-random number below `sides`, for the decisions of a test.
    #[must_use]
    pub fn roll(&self, sides: u64) -> u64 {
        self.state().roll(sides)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one call in `one_in` fail from now on, on average; 0 if none must fail.
    pub fn fail(&self, one_in: u64) {
        self.state().fails = one_in;
    }

    /// Simulates a power failure: each part that was not synced is kept or lost at random.
    pub fn crash(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.generation += 1;
        let ids: Vec<u64> = state.files.keys().copied().collect();
        for id in ids {
            let mut content = state.files[&id].clone();
            if content.is_length_dirty && state.roll(2) == 0 {
                content.disk.resize(content.memory.len(), 0);
            }
            for sector in content.dirty.clone() {
                if state.roll(2) == 0 {
                    content.bring(sector);
                }
            }
            let disk = content.disk;
            state.files.insert(id, Content { memory: disk.clone(), disk, ..Content::default() });
        }
        let mut names = state.synced_names.clone();
        for (path, file) in state.names.clone() {
            if names.get(&path) != Some(&file) && state.roll(2) == 0 {
                names.insert(path, file);
            }
        }
        for path in state.synced_names.keys().cloned().collect::<Vec<_>>() {
            if !state.names.contains_key(&path) && state.roll(2) == 0 {
                names.remove(&path);
            }
        }
        // The contents of a lost directory are lost too.
        let all = names.clone();
        names.retain(|path, _| path.ancestors().skip(1).all(|above| all.contains_key(above)));
        state.names.clone_from(&names);
        state.synced_names = names;
    }

    /// Simulates that the process is killed and restarted: written data stays in the machine's memory, except
    /// data of a failed sync, of which any part may vanish.
    pub fn restart(&self) {
        let mut state = self.state();
        let state = &mut *state;
        state.generation += 1;
        let ids: Vec<u64> = state.files.keys().copied().collect();
        for id in ids {
            let count = state.files[&id].memory.len().div_ceil(SECTOR);
            for sector in 0..count {
                let vanishes = state.roll(3) == 0;
                let Some(content) = state.files.get_mut(&id) else { continue };
                let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(content.memory.len()));
                if vanishes && !content.dirty.contains(&sector) && to <= content.disk.len() {
                    let disk = content.disk[from..to].to_vec();
                    content.memory[from..to].copy_from_slice(&disk);
                }
            }
        }
    }

    pub(super) fn open(&self, path: &Path, how: Open) -> io::Result<Handle> {
        let mut state = self.state();
        state.may_fail()?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        if !state.names.contains_key(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let known = state.names.get(path).copied().flatten();
        let file = match (known, how) {
            (Some(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, Open::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::OrNew | Open::Empty | Open::New) => {
                state.next += 1;
                let file = state.next;
                state.files.insert(file, Content::default());
                state.names.insert(path.to_owned(), Some(file));
                file
            }
        };
        if how == Open::Empty
            && let Some(content) = state.files.get_mut(&file)
        {
            content.set_length(0);
        }
        let generation = state.generation;
        Ok(Handle { model: self.clone(), file, generation })
    }

    pub(super) fn make_directory(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.may_fail()?;
        let mut is_new = false;
        for above in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            is_new = !state.names.contains_key(above);
            state.names.entry(above.to_owned()).or_insert(None);
        }
        Ok(is_new)
    }

    pub(super) fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.may_fail()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_fail()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_fail()?;
        state.names.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn sync_names(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.may_fail()?;
        if !state.names.contains_key(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let is_inside = |path: &PathBuf| path.parent() == Some(directory);
        let inside: Vec<_> =
            state.names.iter().filter(|(path, _)| is_inside(path)).map(|(p, f)| (p.clone(), *f)).collect();
        state.synced_names.retain(|path, _| !is_inside(path));
        state.synced_names.extend(inside);
        Ok(())
    }
}

impl Handle {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.model.state();
        assert_eq!(state.generation, self.generation, "a file of a process that is gone");
        state.may_fail()?;
        act(&mut state)
    }

    fn content<T>(&self, act: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        self.with(|state| act(state.files.entry(self.file).or_default()))
    }

    pub(super) fn length(&self) -> io::Result<u64> {
        self.content(|content| Ok(content.memory.len() as u64))
    }

    pub(super) fn set_length(&self, length: u64) -> io::Result<()> {
        self.content(|content| {
            content.set_length(usize::try_from(length).unwrap());
            Ok(())
        })
    }

    pub(super) fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let at = usize::try_from(position).unwrap();
        let mut state = self.model.state();
        assert_eq!(state.generation, self.generation, "a file of a process that is gone");
        let result = state.may_fail();
        let count = match result {
            Ok(()) => bytes.len(),
            Err(_) => usize::try_from(state.roll(bytes.len() as u64 + 1)).unwrap(),
        };
        if count > 0
            && let Some(content) = state.files.get_mut(&self.file)
        {
            content.write(at, &bytes[..count]);
        }
        result
    }

    pub(super) fn read_exact_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.content(|content| {
            let at = usize::try_from(position).unwrap();
            let bytes = content.memory.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let mut state = self.model.state();
        assert_eq!(state.generation, self.generation, "a file of a process that is gone");
        let result = state.may_fail();
        let Some(content) = state.files.get_mut(&self.file) else { return result };
        if result.is_ok() {
            content.sync();
        } else {
            // The data counts as written, but is not on the disk.
            content.disk.resize(content.memory.len(), 0);
            (content.dirty, content.is_length_dirty) = (BTreeSet::new(), false);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Disk, *};

    fn write(disk: &Disk, path: &str, bytes: &[u8]) -> super::super::File {
        let file = disk.open(Path::new(path), Open::OrNew).unwrap();
        file.write_at(0, &mut [io::IoSlice::new(bytes)]).unwrap();
        file
    }

    fn read(disk: &Disk, path: &str) -> Option<Vec<u8>> {
        let file = disk.read(Path::new(path)).ok()?;
        let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        file.read_exact_at(0, &mut bytes).unwrap();
        Some(bytes)
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_forgets_bytes_lengths_and_names_apart() {
        let (mut without_name, mut short, mut torn, mut whole) = (0, 0, 0, 0);
        for seed in 0..200 {
            let model = Model::new(seed);
            let disk = Disk::model(model.clone());
            write(&disk, "/synced", b"kept").sync().unwrap();
            disk.sync_names(Path::new("/")).unwrap();
            write(&disk, "/new", &[7; 4 * SECTOR]);
            model.crash();
            assert_eq!(read(&disk, "/synced").unwrap(), b"kept");
            match read(&disk, "/new") {
                None => without_name += 1,
                Some(bytes) if bytes.is_empty() => short += 1,
                Some(bytes) if bytes.contains(&0) => torn += 1,
                Some(_) => whole += 1,
            }
        }
        assert!([without_name, short, torn, whole].iter().all(|count| *count > 0));
    }

    #[test]
    fn what_replaces_a_file_is_there_whole_or_not_at_all() {
        let path = Path::new("/identity/key");
        let (mut old, mut new) = (0, 0);
        for seed in 0..1_000 {
            let model = Model::new(seed);
            let disk = Disk::model(model.clone());
            disk.make_directory(Path::new("/identity")).unwrap();
            disk.sync_names(Path::new("/")).unwrap();
            // The contents that may be found: the last version that was surely written, and those begun
            // since.
            let mut may_be = vec![None];
            for version in 1..=3_u8 {
                let contents = vec![version; 3 * SECTOR + usize::from(version)];
                model.fail([0, 3, 9][usize::from(version) % 3]);
                let is_done = disk.replace(path, &contents, true).is_ok();
                model.fail(0);
                if is_done {
                    may_be.clear();
                }
                may_be.push(Some(contents));
                if model.roll(2) == 0 {
                    model.crash();
                } else {
                    model.restart();
                }
                let found = disk.contents(path).unwrap();
                assert!(may_be.contains(&found), "seed {seed}: {found:?}");
                old += u32::from(may_be.last() != Some(&found));
                new += u32::from(may_be.last() == Some(&found));
            }
        }
        assert!(old > 100 && new > 100);
    }

    #[test]
    fn a_failed_sync_is_forgotten_by_the_next_one() {
        let model = Model::new(1);
        let disk = Disk::model(model.clone());
        let file = write(&disk, "/file", &[7; 4 * SECTOR]);
        disk.sync_names(Path::new("/")).unwrap();
        model.fail(1);
        assert!(file.sync().is_err());
        model.fail(0);
        file.sync().unwrap();
        assert_eq!(read(&disk, "/file").unwrap(), [7; 4 * SECTOR], "memory still has it");
        model.crash();
        assert_eq!(read(&disk, "/file").unwrap(), [0; 4 * SECTOR]);
    }
}
