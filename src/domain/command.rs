//! Commands that operators run, without the way they are run.

use serde::{Deserialize, Serialize};

use super::{
    bounded::{Expression, Word},
    input::StandardInput,
    seal::Seal,
};

/// Linux' limit for one argument of a new process, in bytes, with its terminating NUL (`MAX_ARG_STRLEN`).
pub const MAX_ARGUMENT: usize = 128 * 1024;

/// The words of a command. A single word is a shell command line; several words are run as an argument list,
/// without expansion. Words are bytes, not necessarily UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command(Vec<Bytes>);

/// Bytes that are serialized as a string if they are UTF-8, and as an array of numbers otherwise.
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

/// The reason why words are not a valid command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    /// All words are empty, or there are none.
    #[error("the command is empty: give one after the target")]
    Empty,
    /// A word contains a NUL byte, which an argument cannot contain.
    #[error("the command has a NUL byte in word {0}: no program can be given one as an argument")]
    Nul(usize),
    /// A word is longer than Linux allows for one argument.
    #[error(
        "word {word} of the command has {length} bytes; Linux takes at most {} in one argument: put it into a file on the machine",
        MAX_ARGUMENT - 1
    )]
    TooLong {
        /// The number of the word, from 1.
        word: usize,
        /// The length of the word, in bytes.
        length: usize,
    },
    /// The words are longer in total than [`MAX_TOTAL_BYTES`].
    #[error("the command has {0} bytes in all; at most 1 MiB is taken: put it into a file on the machine")]
    TooLongTogether(usize),
}

impl Command {
    /// Creates a command from its words.
    ///
    /// # Errors
    /// When the words cannot be the arguments of a new process.
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

    /// Returns the words, at least one.
    #[must_use]
    pub fn words(&self) -> &[Bytes] {
        &self.0
    }

    /// Returns the first `most` bytes of the command, at least one, and the number of bytes that were cut
    /// off.
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

    /// Returns the arguments for a shell: `-c COMMAND` for one word, `-c '"$@"' SHELL WORDS…` for several.
    #[must_use]
    pub fn shell_arguments(&self, shell: &str) -> Vec<Vec<u8>> {
        match self.0.as_slice() {
            // A shell would parse the line as more of its own options. A leading space does not change the
            // command.
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

    /// Returns the command as one line for people: the words joined by spaces, quoted where a shell needs it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.0.as_slice() {
            [line] => String::from_utf8_lossy(&line.0).into_owned(),
            words => words.iter().map(|word| quoted(&word.0)).collect::<Vec<_>>().join(" "),
        }
    }
}

/// Returns a word, quoted if a shell needs it.
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
    /// Creates a variable from its name and value.
    ///
    /// # Errors
    /// A message for people, when an environment cannot contain the variable.
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

/// Maximum number of bytes of a command's words, and of the environment that is added to it.
pub const MAX_TOTAL_BYTES: usize = 1024 * 1024;

/// Checks that variables fit into the environment of one command, and returns them.
///
/// # Errors
/// A message for people, when they have more than [`MAX_TOTAL_BYTES`].
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

/// Everything that an agent needs to run a task, apart from the task's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The job's number, for people.
    #[serde(alias = "run_number")]
    pub job_number: u64,
    /// The operator who started the job.
    pub operator: Word,
    /// The target as typed.
    pub target: Expression,
    /// What to run.
    pub command: Command,
    /// Variables that are added to the clean environment.
    pub environment: Vec<Variable>,
    /// The working directory; `None` for the user's home directory.
    pub working_directory: Option<Bytes>,
    /// The timeout of the task, in milliseconds; `None` for no limit.
    pub timeout_ms: Option<u64>,
    /// The time between SIGTERM and SIGKILL, in milliseconds.
    pub kill_grace_ms: u32,
    /// The command's standard input.
    #[serde(default)]
    pub input: StandardInput,
    /// Whether an administrator started the job.
    #[serde(default)]
    pub by_admin: bool,
    /// The master's seal on this specification, the task's id and its agent's key.
    #[serde(default)]
    pub seal: Option<Seal>,
}

impl TaskSpec {
    /// Returns the approximate size in a message, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        /// The size of the numbers, the id, the seal and the short texts.
        const FIXED: usize = 512;
        let words = self.command.words().iter().map(|word| word.0.len() + 8);
        let variables =
            self.environment.iter().map(|variable| variable.name.0.len() + variable.value.0.len() + 16);
        let directory = self.working_directory.as_ref().map_or(0, |directory| directory.0.len());
        FIXED + words.sum::<usize>() + variables.sum::<usize>() + directory + self.target.len()
    }
}

/// The default time between SIGTERM and SIGKILL, in milliseconds.
pub const KILL_GRACE_MS: u32 = 5_000;

#[cfg(test)]
impl TaskSpec {
    /// Returns a specification that runs `true`.
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
