//! The configuration file. For every command, a flag overrides the environment, the environment overrides the
//! file, and the file overrides the default.
//!
//! A key is the name of a flag, and its section selects the command, so the command line defines both.
//! Unknown keys are refused.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Arg, Args as _, Command};
use serde::Deserialize;
use toml::{Table, Value};

use super::{
    args::{ToMaster, agent::AgentStartArgs, master::MasterStartArgs, run::RunArgs},
    exit::Failure,
};
use crate::domain::name::nearest;

/// The example file with all keys and their defaults. Its comments explain them.
pub(super) const EXAMPLE: &str = include_str!("../../assets/sloth-runner.toml");
/// The environment variable that names the only file to read, instead of the usual ones.
pub(super) const FILE_VARIABLE: &str = "SLOTH_RUNNER_CONFIG";
/// The name of a configuration file.
const FILE: &str = "sloth-runner.toml";

/// Flags that make sense for one start, but not for every start.
const START_ONLY_FLAGS: [&str; 5] = ["daemon", "daemonized", "token", "restored", "help"];
/// Flags of `agent run` whose defaults can be configured.
const CONFIGURABLE_JOB_FLAGS: [&str; 7] =
    ["fanout", "timeout", "grace", "start_within", "give_up", "output_cap", "color"];

/// A section: its flags, and the commands that take them.
struct Section {
    name: &'static str,
    flags: Vec<Arg>,
    commands: &'static [&'static [&'static str]],
}

fn flags(of: Command, wanted: impl Fn(&str) -> bool) -> Vec<Arg> {
    let is_wanted = |arg: &&Arg| arg.get_long().is_some() && wanted(arg.get_id().as_str());
    of.get_arguments().filter(is_wanted).cloned().collect()
}

fn sections() -> Vec<Section> {
    let daemon = |id: &str| !START_ONLY_FLAGS.contains(&id);
    vec![
        Section {
            name: "client",
            flags: flags(ToMaster::augment_args(Command::new("")), |_| true),
            // Every command that has the flag, except those of agents.
            commands: &[],
        },
        Section {
            name: "run",
            flags: flags(RunArgs::augment_args(Command::new("")), |id| CONFIGURABLE_JOB_FLAGS.contains(&id)),
            commands: &[&["run"], &["agent", "run"]],
        },
        Section {
            name: "agent",
            flags: flags(AgentStartArgs::augment_args(Command::new("")), daemon),
            commands: &[&["agent", "start"]],
        },
        Section {
            name: "master",
            flags: flags(MasterStartArgs::augment_args(Command::new("")), daemon),
            commands: &[&["master"], &["master", "start"], &["master", "stop"], &["agent", "stop"]],
        },
    ]
}

fn key_of(flag: &Arg) -> &str {
    flag.get_long().unwrap_or_default()
}

/// The values in the files, and the file that each comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<(String, String), (Value, PathBuf)>,
}

/// The control center's own settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TuiConfig {
    /// The number of agents above which a command needs a confirmation.
    pub confirm_over: usize,
    /// Patterns of commands that need a confirmation for any number of agents.
    pub destructive: Vec<String>,
    /// Whether to use only ASCII characters.
    pub ascii: bool,
    /// The colours: the word of a palette.
    pub theme: String,
    /// Whether to use the mouse.
    pub mouse: bool,
    /// Whether to ring the terminal bell.
    pub bell: bool,
    /// How long no key may come before an Enter that runs a command.
    #[serde(deserialize_with = "duration")]
    pub enter_quiet_before: Duration,
    /// How long no key may come after it.
    #[serde(deserialize_with = "duration")]
    pub enter_quiet_after: Duration,
}

/// Reads a duration, written as on the command line: `100ms`.
fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

/// Returns the files to read. A later one overrides an earlier one.
fn paths() -> Vec<PathBuf> {
    if let Some(only) = env::var_os(FILE_VARIABLE) {
        return if only.is_empty() { Vec::new() } else { vec![only.into()] };
    }
    let own = directories::ProjectDirs::from("", "", "sloth-runner");
    let own = own.map(|project| project.config_dir().join(FILE));
    std::iter::once(Path::new("/etc/sloth-runner").join(FILE)).chain(own).collect()
}

/// Returns the control center's keys with their defaults.
fn tui_defaults() -> Table {
    let all = EXAMPLE.parse::<Table>().unwrap_or_default();
    all.get("tui").and_then(Value::as_table).cloned().unwrap_or_default()
}

/// Returns a value as the arguments of a flag: one text, or several.
fn words(value: &Value) -> Option<Vec<String>> {
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(is_set) => Some(is_set.to_string()),
        _ => None,
    };
    match value {
        Value::Array(all) => all.iter().map(word).collect(),
        one => word(one).map(|word| vec![word]),
    }
}

/// Returns the message about an unknown word.
fn unknown<'a>(what: &str, word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = nearest(word, known.iter().copied());
    if near.is_empty() {
        format!("unknown {what} {word}; known are {}", known.join(", "))
    } else {
        format!("unknown {what} {word}; did you mean {}?", near.join(" or "))
    }
}

impl Settings {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be read, or has invalid contents.
    pub(super) fn load() -> Result<Self, Failure> {
        let mut settings = Self::default();
        let is_named = env::var_os(FILE_VARIABLE).is_some();
        for path in paths() {
            match fs::read_to_string(&path) {
                Ok(text) => settings.add(&path, &text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => {}
                // The machine's file may be readable only for daemons.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_named => {}
                Err(error) => return Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
            }
        }
        Ok(settings)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), Failure> {
        let shown = path.display();
        let wrong = |text: String| Failure::usage(format!("{shown}: {text}"));
        let file: Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            wrong(format!("line {line}: {}", error.message()))
        })?;
        let sections = sections();
        for (name, section) in &file {
            let Value::Table(section) = section else {
                return Err(wrong(format!("{name} is outside of a section")));
            };
            let names = || sections.iter().map(|section| section.name).chain(["tui"]);
            if !names().any(|known| known == name) {
                return Err(wrong(unknown("section", name, names())));
            }
            for (key, value) in section {
                if name == "tui" {
                    let known = tui_defaults();
                    if !known.contains_key(key) {
                        return Err(wrong(unknown("key in [tui]", key, known.keys().map(String::as_str))));
                    }
                } else {
                    let known =
                        || sections.iter().filter(|known| known.name == name).flat_map(|known| &known.flags);
                    let Some(flag) = known().find(|flag| key_of(flag) == key) else {
                        let what = format!("key in [{name}]");
                        return Err(wrong(unknown(&what, key, known().map(key_of))));
                    };
                    check(flag, value).map_err(|text| wrong(format!("[{name}] {key}: {text}")))?;
                }
                self.values.insert((name.clone(), key.clone()), (value.clone(), path.to_owned()));
            }
        }
        // The type of the control center's settings checks their values.
        self.tui().map(drop)
    }

    /// Returns the value in the files for a flag.
    fn of(&self, section: &str, key: &str) -> Option<Vec<String>> {
        let (value, _) = self.values.get(&(section.to_owned(), key.to_owned()))?;
        words(value)
    }

    /// Returns the master of agents according to the files.
    #[must_use]
    pub(super) fn agents_master(&self) -> Option<String> {
        self.of("agent", "master")?.into_iter().next()
    }

    /// Whether the files contain no values.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Sets the values in the files as defaults of the command line.
    #[must_use]
    pub(super) fn apply(&self, mut command: Command) -> Command {
        if self.is_empty() {
            return command;
        }
        for section in sections() {
            for flag in &section.flags {
                let Some(values) = self.of(section.name, key_of(flag)) else { continue };
                let id = flag.get_id().as_str();
                if section.name == "client" {
                    command = set_default_everywhere(command, id, &values, &mut Vec::new());
                }
                for path in section.commands {
                    command = at(command, path, id, &values);
                }
            }
        }
        command
    }

    /// Returns the control center's settings.
    ///
    /// # Errors
    /// If a value has the wrong type.
    pub(super) fn tui(&self) -> Result<TuiConfig, Failure> {
        let mut all = tui_defaults();
        let mut from = None;
        for ((section, key), (value, path)) in &self.values {
            if section == "tui" {
                all.insert(key.clone(), value.clone());
                from = Some(path.display().to_string());
            }
        }
        let wrong = |error: toml::de::Error| {
            Failure::usage(format!("{}: [tui] {}", from.unwrap_or_default(), error.message()))
        };
        all.try_into().map_err(wrong)
    }

    /// Returns every key with its value, as TOML, and the origin of the value.
    #[must_use]
    pub(super) fn shown(&self) -> Vec<Shown> {
        let mut shown = Vec::new();
        for section in sections() {
            for flag in &section.flags {
                let key = key_of(flag);
                let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned());
                let from_environment = variable.as_deref().and_then(env::var_os);
                let place = (section.name.to_owned(), key.to_owned());
                let (value, origin) = if let (Some(value), Some(variable)) = (from_environment, variable) {
                    (Some(Value::String(value.to_string_lossy().into_owned())), variable)
                } else if let Some((value, path)) = self.values.get(&place) {
                    (Some(value.clone()), path.display().to_string())
                } else {
                    let default = flag.get_default_values().first();
                    (
                        default.map(|value| Value::String(value.to_string_lossy().into_owned())),
                        "default".into(),
                    )
                };
                shown.push(Shown { section: section.name, key: key.to_owned(), value, origin });
            }
        }
        for (key, default) in tui_defaults() {
            let found = self.values.get(&("tui".to_owned(), key.clone()));
            let (value, origin) = found.map_or_else(
                || (default, "default".to_owned()),
                |(value, path)| (value.clone(), path.display().to_string()),
            );
            shown.push(Shown { section: "tui", key, value: Some(value), origin });
        }
        shown
    }
}

/// A key with its effective value.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub key: String,
    /// Its value; `None` if it is not set and has no default.
    pub value: Option<Value>,
    /// A file, an environment variable, or `default`.
    pub origin: String,
}

/// Checks that a flag accepts a value.
fn check(flag: &Arg, value: &Value) -> Result<(), String> {
    let words = words(value).ok_or_else(|| "write a text, a number, or a list of them".to_owned())?;
    let flag = flag.clone().required(false).env(None::<&'static str>);
    // Only the value is checked, so the flag's relations to other flags do not matter.
    let flag = Arg::new("value").long("value").value_parser(flag.get_value_parser().clone());
    for word in words {
        let line = [String::new(), format!("--value={word}")];
        if let Err(error) =
            Command::new("").no_binary_name(false).arg(flag.clone()).try_get_matches_from(line)
        {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let reason =
                first.rsplit_once("': ").map_or("the value has the wrong type", |(_, reason)| reason);
            return Err(format!("{word:?}: {reason}"));
        }
    }
    Ok(())
}

fn with_default(flag: Arg, values: &[String]) -> Arg {
    flag.required(false).default_values(values.to_vec())
}

/// Sets the default of a flag of one command.
fn at(command: Command, path: &[&'static str], id: &str, values: &[String]) -> Command {
    match path {
        [] if command.get_arguments().any(|arg| arg.get_id() == id) => {
            command.mut_arg(id, |flag| with_default(flag, values))
        }
        [] => command,
        [first, rest @ ..] => command.mut_subcommand(*first, |inner| at(inner, rest, id, values)),
    }
}

/// Sets the default of a client's flag in every command that has it.
fn set_default_everywhere(
    mut command: Command,
    id: &str,
    values: &[String],
    path: &mut Vec<String>,
) -> Command {
    // For an agent, `--master` is the address to connect to, not a stored master.
    let is_agents = path.last().is_some_and(|last| ["start", "simulate", "service"].contains(&last.as_str()));
    if !is_agents && command.get_arguments().any(|arg| arg.get_id() == id) {
        command = command.mut_arg(id, |flag| with_default(flag, values));
    }
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_owned()).collect();
    for name in names.into_iter().filter(|name| name != "service") {
        path.push(name.clone());
        command = command.mut_subcommand(name, |inner| set_default_everywhere(inner, id, values, path));
        path.pop();
    }
    command
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::args::{Cli, Command as Verb, agent::AgentCommand};

    fn settings(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        settings.add(Path::new("/c.toml"), text).map_err(|failure| failure.message)?;
        Ok(settings)
    }

    fn parsed(settings: &Settings, line: &str) -> Cli {
        let matches = settings.apply(Cli::command()).try_get_matches_from(line.split(' '));
        Cli::from_arg_matches(&matches.unwrap()).unwrap()
    }

    #[test]
    fn the_example_names_every_key_and_no_other_and_its_defaults_are_the_true_ones() {
        let uncommented = |line: &'static str| {
            line.strip_prefix("#").filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line)
        };
        let active = EXAMPLE.lines().map(uncommented).collect::<Vec<_>>().join("\n");
        let all = settings(&active).unwrap();
        for shown in Settings::default().shown() {
            let key = (shown.section.to_owned(), shown.key.clone());
            let (given, _) = all.values.get(&key).unwrap_or_else(|| panic!("{key:?} is not in the example"));
            if let Some(default) = &shown.value {
                assert_eq!(words(given), words(default), "{key:?}");
            }
        }
        assert_eq!(settings(EXAMPLE).unwrap().tui().unwrap(), Settings::default().tui().unwrap());
    }

    #[test]
    fn destructive_patterns_find_what_they_are_for() {
        let config = Settings::default().tui().unwrap();
        assert_eq!(config.confirm_over, 10);
        let is_destructive = |command: &str| {
            config.destructive.iter().any(|pattern| regex::Regex::new(pattern).unwrap().is_match(command))
        };
        for command in ["rm -rf /tmp/x", "sudo reboot", "dd if=/dev/zero of=/dev/sda", "systemctl stop nginx"]
        {
            assert!(is_destructive(command), "{command}");
        }
        for command in ["uname -r", "rm /tmp/x", "systemctl --failed", "apt-get -qy upgrade"] {
            assert!(!is_destructive(command), "{command}");
        }
    }

    #[test]
    fn a_flag_goes_before_the_file() {
        let settings = settings(
            "[agent]\nmaster = \"m:1\"\nport = 7\nlabel = [\"a=b\", \"c=d\"]\n[client]\nmaster = \"prod\"\n[run]\nfanout = 9\n[tui]\nmouse = true\n",
        )
        .unwrap();
        assert!(settings.tui().unwrap().mouse);
        let Verb::Agent(AgentCommand::Start(start)) =
            parsed(&settings, "sloth-runner agent start --port 8").command
        else {
            panic!()
        };
        assert_eq!(
            (start.master.address.to_string().as_str(), start.port, start.label.len()),
            ("m:1", Some(8), 2)
        );
        let Verb::Run(job) = parsed(&settings, "sloth-runner run a true").command else { panic!() };
        assert_eq!(job.plan.fanout, Some(9));
        assert_eq!(job.to.master, Some("prod".parse().unwrap()));
        let Verb::List(list) = parsed(&settings, "sloth-runner list --master local").command else {
            panic!()
        };
        assert_eq!(list.to.master, Some("local".parse().unwrap()));
    }

    #[test]
    fn what_nobody_knows_is_refused_with_the_nearest_name() {
        for (text, said) in [
            ("[agent]\nprot = 1\n", "/c.toml: unknown key in [agent] prot; did you mean port?"),
            ("[agnet]\n", "/c.toml: unknown section agnet; did you mean agent?"),
            ("[tui]\nmuose = true\n", "/c.toml: unknown key in [tui] muose; did you mean mouse?"),
            ("[tui]\nmouse = 3\n", "/c.toml: [tui] invalid type"),
            ("[master]\nport = 70000\n", "/c.toml: [master] port: \"70000\""),
            ("[run]\ntimeout = \"soon\"\n", "write a time as 30s"),
            ("port = 1\n", "/c.toml: port is outside of a section"),
            ("[agent]\nport = \n", "/c.toml: line 2"),
        ] {
            let found = settings(text).unwrap_err();
            assert!(found.contains(said), "{text:?}: {found}");
        }
    }
}
