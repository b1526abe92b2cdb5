//! Why the core refuses what it is asked for.

/// Why a question is not answered, or a change is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is not possible, for this reason.
    Refused(String),
    /// What it names does not exist; with the text for people.
    NotFound(String),
}

/// Why a change of a job is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobDenied {
    /// It is not possible, for this reason.
    Refused(String),
    /// The job is not live. The store knows whether it is over.
    NotLive,
}
