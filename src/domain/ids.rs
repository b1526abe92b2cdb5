//! Ids of jobs, tasks and incarnations.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::bounded::Word;

/// A job's ULID. The client that starts the job generates it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct JobId(Ulid);

/// The error for bytes or text that are not a ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a job's ULID (26 letters and digits)")]
pub struct InvalidJobId(String);

impl JobId {
    /// Creates an id from a time and random bits of the caller.
    #[must_use]
    pub fn from_parts(milliseconds: u64, random: u128) -> Self {
        Self(Ulid::from_parts(milliseconds, random))
    }

    /// Returns 16 bytes in big endian, as on the wire and in the store.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// Reads the bytes of [`Self::to_bytes`].
    ///
    /// # Errors
    /// When there are not exactly 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidJobId> {
        let array: [u8; 16] = bytes.try_into().map_err(|_| InvalidJobId(format!("{} bytes", bytes.len())))?;
        Ok(Self(Ulid::from_bytes(array)))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        // 26 digits of base 32 have 130 bits. An id with more than 128 bits would be cut, so it is refused.
        let fits = text.as_bytes().first().is_some_and(|digit| *digit <= b'7');
        let id = Ulid::from_string(text).ok().filter(|_| fits);
        id.map(Self).ok_or_else(|| InvalidJobId(text.to_owned()))
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, InvalidJobId> {
        text.parse()
    }
}

/// The id of a task: the job and the task's index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The job.
    #[serde(alias = "run")]
    pub job: JobId,
    /// The task's index in the job, from 0.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.job, self.index)
    }
}

impl FromStr for TaskId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        let invalid = || InvalidJobId(text.to_owned());
        let (job, index) = text.split_once('-').ok_or_else(invalid)?;
        Ok(Self { job: job.parse()?, index: index.parse().map_err(|_| invalid())? })
    }
}

/// The incarnation of an agent: the id of its data directory and the kernel's boot id.
///
/// The master only compares incarnations for equality.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation(Word);

impl Incarnation {
    /// Creates an incarnation from the id of the data directory and the kernel's boot id.
    #[must_use]
    pub fn new(directory: &str, boot: &str) -> Self {
        Self(format!("{directory}/{boot}").into())
    }

    /// Returns the reason why a later incarnation does not know the tasks that this one started.
    #[must_use]
    pub fn loss_seen_by(&self, now: &Self) -> &'static str {
        let directory = |text: &str| text.split('/').next().map(str::to_owned);
        if directory(&self.0) == directory(&now.0) {
            "the machine was rebooted"
        } else {
            "the agent's memory of its tasks was removed or replaced"
        }
    }
}

/// Reads an incarnation from its text. A valid one is never longer than a [`Word`], so a text that was cut
/// equals none.
impl From<String> for Incarnation {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reference to a job, as an operator gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobReference {
    /// The job with this ULID.
    Id(JobId),
    /// The job with this number, which the master assigned.
    Number(u64),
    /// The newest job.
    Last,
}

impl FromStr for JobReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "last" {
            return Ok(Self::Last);
        }
        // A ULID can consist of digits only. A number is never that long.
        if text.len() < ulid::ULID_LEN
            && let Ok(number) = text.parse()
        {
            return Ok(Self::Number(number));
        }
        text.parse()
            .map(Self::Id)
            .map_err(|_| format!("{text:?} names no job: give its number (412), its ULID, or `last`"))
    }
}

impl fmt::Display for JobReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Last => f.write_str("last"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_bytes() {
        let job = JobId::from_parts(1_700_000_000_000, 42);
        assert_eq!(JobId::from_bytes(&job.to_bytes()), Ok(job));
        assert_eq!(job.to_string().parse(), Ok(job));
        let task = TaskId { job, index: 7 };
        assert_eq!(task.to_string().parse(), Ok(task));
        assert!(JobId::from_bytes(&[0; 15]).is_err());
        assert!("x-1".parse::<TaskId>().is_err());
    }

    #[test]
    fn a_reboot_and_a_new_directory_are_told_apart() {
        let first = Incarnation::new("dir", "boot1");
        assert_eq!(first.loss_seen_by(&Incarnation::new("dir", "boot2")), "the machine was rebooted");
        assert_eq!(
            first.loss_seen_by(&Incarnation::new("other", "boot1")),
            "the agent's memory of its tasks was removed or replaced"
        );
    }

    #[test]
    fn jobs_are_named_by_number_ulid_or_last() {
        assert_eq!("412".parse(), Ok(JobReference::Number(412)));
        assert_eq!("last".parse(), Ok(JobReference::Last));
        assert!("four".parse::<JobReference>().is_err());
    }

    #[test]
    fn digits_that_are_as_long_as_an_id_are_one_and_one_that_does_not_fit_is_none() {
        let digits = "00000000000000000907916162";
        let id: JobId = digits.parse().unwrap();
        assert_eq!(id.to_string(), digits);
        assert_eq!(digits.parse(), Ok(JobReference::Id(id)));
        assert_eq!("907916162".parse(), Ok(JobReference::Number(907_916_162)));
        assert!("80000000000000000907916162".parse::<JobId>().is_err());
        assert!("80000000000000000907916162".parse::<JobReference>().is_err());
    }
}
