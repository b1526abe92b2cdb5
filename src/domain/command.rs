//! Commands that an operator wants to run. Does not know how they are run.

use serde::{Deserialize, Serialize};

use super::{
    bounded::{Expression, Word},
    input::StandardInput,
    seal::Seal,
};

/// Linux' limit for one argument of a new process, in bytes, with its terminating NUL (`MAX_ARG_STRLEN`).
pub const MAX_ARGUMENT: usize = 128 * 1024;

/// One word is a shell command line; several are run as exactly these words. Bytes in no promised encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command(Vec<Bytes>);

/// Bytes that are stored as text where they are text.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "BytesText", from = "BytesText")]
pub struct Bytes(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum BytesText {
    Text(String),
    Raw(Vec<u8>),
}

impl From<Bytes> for BytesText {
    fn from(bytes: Bytes) -> Self {
        match String::from_utf8(bytes.0) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Raw(error.into_bytes()),
        }
    }
}

impl From<BytesText> for Bytes {
    fn from(text: BytesText) -> Self {
        match text {
            BytesText::Text(text) => Self(text.into_bytes()),
            BytesText::Raw(bytes) => Self(bytes),
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

/// Words that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    /// There is nothing to run.
    #[error("the command is empty: give one after the target")]
    Empty,
    /// A word has a NUL byte, which no argument can carry.
    #[error("the command has a NUL byte in word {0}: no program can be given one as an argument")]
    Nul(usize),
    /// A word is longer than Linux takes.
    #[error(
        "word {word} of the command has {length} bytes; Linux takes at most {} in one argument: put it into a file on the machine",
        MAX_ARGUMENT - 1
    )]
    TooLong {
        /// Which word, from 1.
        word: usize,
        /// Its bytes.
        length: usize,
    },
    /// All words together are longer than a process start allows.
    #[error("the command has {0} bytes in all; at most 1 MiB is taken: put it into a file on the machine")]
    TooLongTogether(usize),
}

impl Command {
    /// Checks the words.
    ///
    /// # Errors
    /// When they could not be given to a new process.
    pub fn new(words: Vec<Vec<u8>>) -> Result<Self, InvalidCommand> {
        if words.iter().all(Vec::is_empty) {
            return Err(InvalidCommand::Empty);
        }
        for (index, word) in words.iter().enumerate() {
            if word.contains(&0) {
                return Err(InvalidCommand::Nul(index + 1));
            }
            if word.len() >= MAX_ARGUMENT {
                return Err(InvalidCommand::TooLong { word: index + 1, length: word.len() });
            }
        }
        let total: usize = words.iter().map(|word| word.len() + 1).sum();
        if total > MAX_TOTAL_BYTES {
            return Err(InvalidCommand::TooLongTogether(total));
        }
        Ok(Self(words.into_iter().map(Bytes).collect()))
    }

    /// The words, at least one.
    #[must_use]
    pub fn words(&self) -> &[Bytes] {
        &self.0
    }

    /// Its beginning, of at least one byte, and how many bytes that leaves out.
    #[must_use]
    pub fn shortened(self, most: usize) -> (Self, u64) {
        let mut room = most.max(1);
        let total: usize = self.0.iter().map(|word| word.0.len()).sum();
        let mut words = self.0;
        let mut kept = 0;
        words.retain_mut(|word| {
            let has_room = room > 0;
            word.0.truncate(room);
            room -= word.0.len();
            kept += word.0.len();
            has_room
        });
        (Self(words), (total - kept) as u64)
    }

    /// Arguments for a shell: `-c COMMAND`, or `-c '"$@"' SHELL WORDS…` for several words.
    #[must_use]
    pub fn shell_arguments(&self, shell: &str) -> Vec<Vec<u8>> {
        match self.0.as_slice() {
            // Shells would take it for more of their own flags; a space changes nothing of a command.
            [line] if line.0.starts_with(b"-") || line.0.starts_with(b"+") => {
                vec![b"-c".to_vec(), [b" ", line.0.as_slice()].concat()]
            }
            [line] => vec![b"-c".to_vec(), line.0.clone()],
            words => [b"-c".to_vec(), br#""$@""#.to_vec(), shell.as_bytes().to_vec()]
                .into_iter()
                .chain(words.iter().map(|word| word.0.clone()))
                .collect(),
        }
    }

    /// One line for people: words joined by spaces, quoted where a shell would need it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.0.as_slice() {
            [line] => String::from_utf8_lossy(&line.0).into_owned(),
            words => words.iter().map(|word| quoted(&word.0)).collect::<Vec<_>>().join(" "),
        }
    }
}

/// One word as a shell would take it back.
#[must_use]
pub fn quoted(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(word);
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// One variable added to a command's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name, without `=`.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

impl Variable {
    /// Checks a variable.
    ///
    /// # Errors
    /// In words, when no environment can carry it.
    pub fn new(name: Vec<u8>, value: Vec<u8>) -> Result<Self, String> {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
            return Err(format!(
                "{:?} is not an environment variable: write NAME=VALUE without NUL bytes",
                String::from_utf8_lossy(&name)
            ));
        }
        Ok(Self { name: Bytes(name), value: Bytes(value) })
    }
}

/// Most bytes of a command's words, and of the environment that is added to it.
pub const MAX_TOTAL_BYTES: usize = 1024 * 1024;

/// Checks that variables may be given to one command.
///
/// # Errors
/// In words, when they are too much for it.
pub fn bounded(variables: Vec<Variable>) -> Result<Vec<Variable>, String> {
    let size = |variable: &Variable| variable.name.0.len() + variable.value.0.len() + 2;
    let total: usize = variables.iter().map(size).sum();
    if total > MAX_TOTAL_BYTES {
        return Err(format!(
            "the environment has {total} bytes in all; at most 1 MiB is taken: put it into a file on the machine"
        ));
    }
    Ok(variables)
}

/// All that an agent needs to know to run a task, apart from the task's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The job's number, for people.
    #[serde(alias = "run_number")]
    pub job_number: u64,
    /// Who started it.
    pub operator: Word,
    /// The target as typed.
    pub target: Expression,
    /// What to run.
    pub command: Command,
    /// Added to the clean environment.
    pub environment: Vec<Variable>,
    /// Where to run; `None` means the user's home.
    pub working_directory: Option<Bytes>,
    /// Longest running time in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Time between TERM and KILL in milliseconds.
    pub kill_grace_ms: u32,
    /// What it reads.
    #[serde(default)]
    pub input: StandardInput,
    /// An administrator started it.
    #[serde(default)]
    pub by_admin: bool,
    /// The master's seal on all of this, with the task's id and its agent's key.
    #[serde(default)]
    pub seal: Option<Seal>,
}

impl TaskSpec {
    /// The number of bytes that it takes in a message, about.
    #[must_use]
    pub fn size(&self) -> usize {
        /// Numbers, an id, a seal and short texts.
        const FIXED: usize = 512;
        let words = self.command.words().iter().map(|word| word.0.len() + 8);
        let variables =
            self.environment.iter().map(|variable| variable.name.0.len() + variable.value.0.len() + 16);
        let directory = self.working_directory.as_ref().map_or(0, |directory| directory.0.len());
        FIXED + words.sum::<usize>() + variables.sum::<usize>() + directory + self.target.len()
    }
}

/// Time between TERM and KILL unless an operator says otherwise.
pub const KILL_GRACE_MS: u32 = 5_000;

#[cfg(test)]
impl TaskSpec {
    /// One that runs `true`.
    pub(crate) fn example() -> Self {
        Self {
            job_number: 1,
            operator: "ana".into(),
            target: "web".into(),
            command: Command::new(vec![b"true".to_vec()]).unwrap(),
            environment: Vec::new(),
            working_directory: None,
            timeout_ms: None,
            kill_grace_ms: 1,
            input: StandardInput::Nothing,
            by_admin: true,
            seal: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&[u8]]) -> Command {
        Command::new(words.iter().map(|word| word.to_vec()).collect()).unwrap()
    }

    #[test]
    fn one_word_is_a_line_and_several_arrive_as_they_are() {
        assert_eq!(command(&[b"echo $HOME"]).shell_arguments("bash"), [&b"-c"[..], b"echo $HOME"]);
        assert_eq!(command(&[b"-n"]).shell_arguments("bash"), [&b"-c"[..], b" -n"]);
        assert_eq!(
            command(&[b"echo", b"$HOME  x"]).shell_arguments("bash"),
            [&b"-c"[..], br#""$@""#, b"bash", b"echo", b"$HOME  x"]
        );
        assert_eq!(command(&[b"echo", b"it's"]).shown(), r"echo 'it'\''s'");
    }

    #[test]
    fn what_no_process_could_be_given_is_refused() {
        assert_eq!(Command::new(vec![]), Err(InvalidCommand::Empty));
        assert_eq!(Command::new(vec![b"a\0b".to_vec()]), Err(InvalidCommand::Nul(1)));
        let longest = vec![b'a'; MAX_ARGUMENT - 1];
        assert!(Command::new(vec![longest.clone()]).is_ok());
        let too_long = vec![b'a'; MAX_ARGUMENT];
        assert!(matches!(Command::new(vec![too_long]), Err(InvalidCommand::TooLong { .. })));
        assert!(matches!(Command::new(vec![longest; 9]), Err(InvalidCommand::TooLongTogether(_))));
    }

    #[test]
    fn bytes_that_are_no_text_survive_storage() {
        let odd = command(&[b"printf '\xff\xfe'"]);
        let stored = serde_json::to_string(&odd).unwrap();
        assert_eq!(serde_json::from_str::<Command>(&stored).unwrap(), odd);
    }
}
