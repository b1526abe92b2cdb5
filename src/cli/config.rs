//! The configuration file: read once, and refused where it says what nobody knows.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::exit::Failure;

/// The settings that are compiled in, which the file's own comments explain.
const DEFAULT: &str = include_str!("../../assets/config.toml");

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tui: toml::Table,
}

/// The control center's part of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TuiConfig {
    /// More agents than this are asked about.
    pub confirm_over: usize,
    /// Commands that are asked about at any count.
    pub destructive: Vec<String>,
    /// Glyphs of ASCII only.
    pub ascii: bool,
    /// Clicks and the wheel.
    pub mouse: bool,
    /// The bell rings.
    pub bell: bool,
}

/// Where the file is looked for.
fn path() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/etc/sloth-runner/config.toml"));
    }
    let project = directories::ProjectDirs::from("", "", "sloth-runner")?;
    Some(project.config_dir().join("config.toml"))
}

/// Reads the control center's settings.
///
/// # Errors
/// When a file is there and cannot be read, or makes no sense.
pub fn tui() -> Result<TuiConfig, Failure> {
    let given = match path() {
        Some(path) => match fs::read_to_string(&path) {
            Ok(text) => Some((path, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
        },
        None => None,
    };
    merged(given.as_ref().map(|(path, text)| (path.as_path(), text.as_str())))
}

fn merged(given: Option<(&Path, &str)>) -> Result<TuiConfig, Failure> {
    let parsed = |text: &str| toml::from_str::<File>(text).map(|file| file.tui);
    let mut all = parsed(DEFAULT).map_err(Failure::usage)?;
    let name = given.map_or_else(String::new, |(path, _)| path.display().to_string());
    let wrong =
        |error: toml::de::Error| Failure::usage(format!("{name} makes no sense: {}", error.message()));
    if let Some((_, text)) = given {
        all.extend(parsed(text).map_err(wrong)?);
    }
    all.try_into().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_compiled_in_is_whole_and_its_patterns_are_understood() {
        let config = merged(None).unwrap();
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
    fn a_file_changes_what_it_names_and_nothing_else() {
        let path = Path::new("/c.toml");
        let config = merged(Some((path, "[tui]\nmouse = true\n"))).unwrap();
        assert!(config.mouse && config.confirm_over == 10);
        let failure = merged(Some((path, "[tui]\nmuose = true\n"))).unwrap_err();
        assert!(
            failure.message.starts_with("/c.toml makes no sense: unknown field `muose`"),
            "{}",
            failure.message
        );
    }
}
