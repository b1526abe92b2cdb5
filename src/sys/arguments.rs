//! The command-line arguments of this process, and the overwriting of secrets in them.
//!
//! Every user of a machine can read the arguments of every process, with `ps` and in `/proc/PID/cmdline`. The
//! caller knows which arguments are secrets.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    ops::Range,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    sync::OnceLock,
};

static GIVEN: OnceLock<Vec<OsString>> = OnceLock::new();

/// Returns the arguments as the process received them. The first one is the program's name.
#[must_use]
pub fn given() -> &'static [OsString] {
    GIVEN.get_or_init(|| std::env::args_os().collect())
}

/// A part of an argument: the index of the argument, and the range of its bytes.
pub type Part = (usize, Range<usize>);

/// Overwrites the parts that `find` returns in the arguments that the system shows of this process. [`given`]
/// still returns the original arguments.
///
/// Must be called before the process forbids core dumps: afterwards it cannot write to its own memory.
///
/// # Errors
/// When the process cannot write to its own memory, or when the arguments are not where the kernel reports
/// them.
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

/// Returns the words as they are in memory: a NUL byte follows each of them.
fn joined(words: &[OsString]) -> Vec<u8> {
    words
        .iter()
        .map(OsString::as_os_str)
        .map(OsStr::as_bytes)
        .flat_map(|word| [word, b"\0"].concat())
        .collect()
}

/// Returns the address of the first argument: field 48 of `proc_pid_stat(5)`. Field 3 is the first after the
/// name.
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
