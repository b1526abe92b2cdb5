//! The arguments of this process. Overwrites secrets among them.
//!
//! Every user of a machine can read the arguments of every process, by `ps` and in `/proc/PID/cmdline`. Which of them are
//! secrets this module does not know.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    ops::Range,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    sync::OnceLock,
};

static GIVEN: OnceLock<Vec<OsString>> = OnceLock::new();

/// The words as they were given, the program's name first.
#[must_use]
pub fn given() -> &'static [OsString] {
    GIVEN.get_or_init(|| std::env::args_os().collect())
}

/// A part of a word: which word, and which of its bytes.
pub type Part = (usize, Range<usize>);

/// Overwrites what `find` finds in the words that the system shows of this process; [`given`] still has it.
///
/// To be called while the process is still allowed to write to its own memory, before it forbids core dumps.
///
/// # Errors
/// When the kernel does not let the process do that.
pub fn hide(find: impl FnOnce(&[OsString]) -> Vec<Part>) -> io::Result<()> {
    let words = given();
    let parts = find(words);
    if parts.is_empty() {
        return Ok(());
    }
    let (start, shown) =
        (start_of_words(&fs::read_to_string("/proc/self/stat")?), fs::read("/proc/self/cmdline")?);
    let start =
        start.filter(|_| shown == joined(words)).ok_or_else(|| io::Error::other("they lie elsewhere"))?;
    let memory = File::options().write(true).open("/proc/self/mem")?;
    for (word, part) in parts {
        let before = joined(&words[..word]).len() + part.start;
        memory.write_all_at(&vec![b'x'; part.len()], start + before as u64)?;
    }
    Ok(())
}

/// Words as they lie in memory, a NUL behind each.
fn joined(words: &[OsString]) -> Vec<u8> {
    words
        .iter()
        .map(OsString::as_os_str)
        .map(OsStr::as_bytes)
        .flat_map(|word| [word, b"\0"].concat())
        .collect()
}

/// Where the words begin in memory: field 48 of `proc_pid_stat(5)`. The first behind the name is field 3.
fn start_of_words(stat: &str) -> Option<u64> {
    let fields = stat.get(stat.rfind(')')? + 2..)?;
    fields.split(' ').nth(45)?.parse().ok().filter(|start| *start != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_where_the_words_begin() {
        let start = start_of_words(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        let mut first = vec![0; given()[0].len()];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut first, start).unwrap();
        assert_eq!(first, given()[0].as_bytes());
        assert_eq!(start_of_words("1 (a) S 1"), None);
    }
}
