//! The master's seals: data that agents store and send back carries a MAC with a key that only the master
//! has, so that no one else can forge it.
//!
//! The key is stored beside the CA's key, and is restored with it. A master without it creates a new one, and
//! rejects everything that was sealed with the old one. The sealed fields and their order must never change:
//! agents keep seals for months.

use std::path::Path;

use ring::hmac;

use super::key::KeyError;
use crate::{
    domain::{
        command::TaskSpec,
        fingerprint::Fingerprint,
        ids::TaskId,
        input::{StandardInput, Terminal},
        revision::{Revision, SealedRevision},
        seal::Seal,
    },
    sys::{
        paths::{read_optional, write_private},
        random,
    },
};

/// The key's file in the directory of the master's identity.
const KEY_FILE: &str = "seal.key";
/// Size of the key in bytes: the output size of SHA-256.
const KEY_BYTES: usize = 32;

/// Creates and verifies the seals of one master.
#[derive(Debug)]
pub(crate) struct Sealer(hmac::Key);

/// The bytes that are sealed: a kind and a sequence of parts, each preceded by its length.
struct SealedMessage(Vec<u8>);

impl SealedMessage {
    fn new(kind: &str) -> Self {
        Self(Vec::new()).bytes(kind.as_bytes())
    }

    fn bytes(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    fn number(self, part: u64) -> Self {
        self.bytes(&part.to_be_bytes())
    }

    fn task(self, id: TaskId) -> Self {
        self.bytes(&id.job.to_bytes()).number(id.index.into())
    }
}

impl Sealer {
    /// Reads the key from the directory of a master's identity, or creates it there.
    ///
    /// # Errors
    /// If the key's file cannot be read or written.
    pub(crate) fn load_or_create(directory: &Path) -> Result<Self, KeyError> {
        let path = directory.join(KEY_FILE);
        let file = |source| KeyError::File { path: path.display().to_string(), source };
        let stored = read_optional(&path).map_err(file)?.filter(|key| key.len() == KEY_BYTES);
        let key = if let Some(key) = stored {
            key
        } else {
            let key = random::bytes::<KEY_BYTES>().to_vec();
            write_private(&path, &key, true).map_err(file)?;
            key
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    fn seal(&self, statement: &SealedMessage) -> Seal {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&self.0, &statement.0).as_ref());
        bytes.into()
    }

    fn is_true(&self, statement: &SealedMessage, seal: Option<Seal>) -> bool {
        seal.is_some_and(|seal| hmac::verify(&self.0, &statement.0, seal.as_bytes()).is_ok())
    }

    /// Seals the statement that the store was at this revision.
    #[must_use]
    pub(crate) fn seal_state(&self, revision: Revision) -> Seal {
        self.seal(&state(revision))
    }

    /// Returns a revision of the store with this master's seal.
    #[must_use]
    pub(crate) fn sealed(&self, revision: Revision) -> SealedRevision {
        SealedRevision { revision, seal: Some(self.seal_state(revision)) }
    }

    /// Whether the seal is this master's seal of a revision of the store.
    #[must_use]
    pub(crate) fn verify_state(&self, revision: Revision, seal: Option<Seal>) -> bool {
        self.is_true(&state(revision), seal)
    }

    /// Seals the statement that this task was sent to the agent with this key.
    #[must_use]
    pub(crate) fn seal_task(&self, agent: Fingerprint, id: TaskId, spec: &TaskSpec) -> Seal {
        self.seal(&task(agent, id, spec))
    }

    /// Whether the seal in a task's specification proves that the task was sent to the agent with this key.
    #[must_use]
    pub(crate) fn verify_task(&self, agent: Fingerprint, id: TaskId, spec: &TaskSpec) -> bool {
        self.is_true(&task(agent, id, spec), spec.seal)
    }

    /// Seals the statement that the operator `by` ordered to cancel a task.
    #[must_use]
    pub(crate) fn seal_cancel(&self, id: TaskId, by: &str) -> Seal {
        self.seal(&cancel(id, by))
    }

    /// Whether the seal proves that the operator `by` ordered to cancel the task.
    #[must_use]
    pub(crate) fn verify_cancel(&self, id: TaskId, by: &str, seal: Option<Seal>) -> bool {
        self.is_true(&cancel(id, by), seal)
    }
}

fn state(revision: Revision) -> SealedMessage {
    SealedMessage::new("state").number(revision.epoch).number(revision.number)
}

fn cancel(id: TaskId, by: &str) -> SealedMessage {
    SealedMessage::new("cancel").task(id).bytes(by.as_bytes())
}

fn task(agent: Fingerprint, id: TaskId, spec: &TaskSpec) -> SealedMessage {
    let TaskSpec {
        job_number,
        operator,
        target,
        command,
        environment,
        working_directory,
        timeout_ms,
        kill_grace_ms,
        input,
        by_admin,
        seal: _,
    } = spec;
    let mut statement = SealedMessage::new("task")
        .bytes(agent.to_string().as_bytes())
        .task(id)
        .number(*job_number)
        .bytes(operator.as_bytes())
        .bytes(target.as_bytes())
        .number(command.words().len() as u64);
    for word in command.words() {
        statement = statement.bytes(&word.0);
    }
    statement = statement.number(environment.len() as u64);
    for variable in environment {
        statement = statement.bytes(&variable.name.0).bytes(&variable.value.0);
    }
    statement = statement
        .bytes(working_directory.as_ref().map_or(&[], |path| path.0.as_slice()))
        .number(timeout_ms.unwrap_or(0))
        .number((*kill_grace_ms).into())
        .number((*by_admin).into());
    match input {
        StandardInput::Nothing => statement.number(0),
        StandardInput::Stream => statement.number(1),
        StandardInput::Terminal(Terminal { kind, rows, columns }) => {
            statement.number(2).bytes(kind.as_bytes()).number((*rows).into()).number((*columns).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(epoch: u64, number: u64) -> Revision {
        Revision { epoch, number }
    }
    use crate::domain::{command::Command, ids::JobId};

    fn id(index: u32) -> TaskId {
        TaskId { job: JobId::from_parts(1, 1), index }
    }

    #[test]
    fn a_seal_holds_for_what_it_was_made_for_and_for_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let sealer = Sealer::load_or_create(directory.path()).unwrap();
        let (key, other) = (Fingerprint::of(b"web-1"), Fingerprint::of(b"web-2"));
        let mut spec = TaskSpec::example();
        spec.seal = Some(sealer.seal_task(key, id(0), &spec));
        assert!(sealer.verify_task(key, id(0), &spec));
        assert!(!sealer.verify_task(other, id(0), &spec) && !sealer.verify_task(key, id(1), &spec));
        let words = |words: &[&str]| Command::new(words.iter().map(|word| (*word).into()).collect()).unwrap();
        for changed in [
            TaskSpec { job_number: 2, ..spec.clone() },
            TaskSpec { operator: "root".into(), ..spec.clone() },
            TaskSpec { target: "@all".into(), ..spec.clone() },
            TaskSpec { command: words(&["true", ""]), ..spec.clone() },
            TaskSpec { timeout_ms: Some(1), ..spec.clone() },
            TaskSpec { input: StandardInput::Stream, ..spec.clone() },
            TaskSpec { by_admin: false, ..spec.clone() },
            TaskSpec { seal: None, ..spec.clone() },
            TaskSpec { seal: Some(sealer.seal_state(revision(1, 1))), ..spec.clone() },
        ] {
            assert!(!sealer.verify_task(key, id(0), &changed), "{changed:?}");
        }
        let seal = sealer.seal_state(revision(3, 4711));
        assert!(sealer.verify_state(revision(3, 4711), Some(seal)));
        assert!(
            !sealer.verify_state(revision(3, 4712), Some(seal))
                && !sealer.verify_state(revision(4, 4711), Some(seal))
        );
        assert!(!sealer.verify_state(revision(3, 4711), None));
        let seal = sealer.seal_cancel(id(0), "ana");
        assert!(sealer.verify_cancel(id(0), "ana", Some(seal)));
        assert!(
            !sealer.verify_cancel(id(0), "root", Some(seal))
                && !sealer.verify_cancel(id(1), "ana", Some(seal))
        );
    }

    #[test]
    fn a_sealer_knows_its_seals_after_a_restart_and_another_one_does_not() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let seal = Sealer::load_or_create(one.path()).unwrap().seal_state(revision(1, 1));
        assert!(Sealer::load_or_create(one.path()).unwrap().verify_state(revision(1, 1), Some(seal)));
        assert!(!Sealer::load_or_create(two.path()).unwrap().verify_state(revision(1, 1), Some(seal)));
        // A file that is not a key is replaced.
        std::fs::write(one.path().join(KEY_FILE), b"short").unwrap();
        assert!(!Sealer::load_or_create(one.path()).unwrap().verify_state(revision(1, 1), Some(seal)));
    }
}
