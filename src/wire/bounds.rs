//! Limits on the contents of messages. An honest peer does not exceed them. The conversion of a message that
//! exceeds a limit fails.

use crate::domain::job::MOST_TASKS;

/// The error for a number, a text or a list beyond its limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutOfBounds(String);

/// Maximum duration in a message, in milliseconds: a hundred years. The store can hold the sum of this
/// duration and the current time.
const MAX_WAIT_MS: u64 = 100 * 365 * 24 * 3_600_000;
/// The highest number that the store can hold.
pub(crate) const MAX_STORED: u64 = i64::MAX.unsigned_abs();
/// Maximum number of bytes of a search text or a name: names, digits of fingerprints, masks.
const MAX_TEXT: usize = 1024;

/// Checks a waiting time, in milliseconds.
///
/// # Errors
/// When it is over a hundred years.
pub(crate) fn wait_ms(ms: u64, what: &str) -> Result<u64, OutOfBounds> {
    if ms > MAX_WAIT_MS {
        return Err(OutOfBounds(format!("{what} of over a hundred years")));
    }
    Ok(ms)
}

/// Checks the number of a job.
///
/// # Errors
/// When the store cannot hold it.
pub(crate) fn job_number(number: u64) -> Result<u64, OutOfBounds> {
    if number > MAX_STORED {
        return Err(OutOfBounds(format!("no such job: {number}; the largest number is {MAX_STORED}")));
    }
    Ok(number)
}

/// Checks a search text or a name.
///
/// # Errors
/// When it has more than 1 KiB.
pub(crate) fn short_text(text: String, what: &str) -> Result<String, OutOfBounds> {
    if text.len() > MAX_TEXT {
        return Err(OutOfBounds(format!("{what} of {} bytes; at most {MAX_TEXT} are allowed", text.len())));
    }
    Ok(text)
}

/// Checks a list with at most one entry for each task of a job.
///
/// # Errors
/// When it has more entries than a job has tasks.
pub(crate) fn per_task<T>(list: Vec<T>, what: &str) -> Result<Vec<T>, OutOfBounds> {
    list_of(list, MOST_TASKS as usize, what)
}

/// Checks the length of a list.
///
/// # Errors
/// When it has more than `max` entries.
pub(crate) fn list_of<T>(list: Vec<T>, max: usize, what: &str) -> Result<Vec<T>, OutOfBounds> {
    if list.len() > max {
        return Err(OutOfBounds(format!("{} {what}; at most {max} are allowed", list.len())));
    }
    Ok(list)
}
