//! `tui`: checks the terminal and the environment, and starts the control center.

use std::{env, fmt::Write as _, io::IsTerminal as _};

use regex::Regex;

use super::on_one_thread;
use crate::{
    cli::{
        args::tui::{TuiArgs, read_options},
        config::Settings as Config,
        exit::{self, Failure, Status},
        masters::resolve,
        output::{has_glyphs, is_utf8, note, stdout_is_terminal},
    },
    sys::{
        logging::{self, LogFormat},
        paths::{client_directories, make_private},
    },
    tui::{
        runtime::{self, Options},
        settings::{ColorDepth, Settings},
    },
    wire::client::MasterAddress,
};

pub(super) fn tui(args: &TuiArgs) -> Result<Status, Failure> {
    on_one_thread(open(args))
}

/// Opens the control center.
pub(super) async fn open(args: &TuiArgs) -> Result<Status, Failure> {
    if !std::io::stdin().is_terminal() || !stdout_is_terminal() {
        return Err(Failure::usage(
            "the control center needs a terminal; `sloth-runner agent list` and `agent run` work without one",
        ));
    }
    let config = Config::load()?.tui()?;
    let pattern = |text: &String| {
        Regex::new(text).map_err(|error| Failure::usage(format!("destructive pattern {text:?}: {error}")))
    };
    let directories = client_directories(args.data_dir.as_deref()).map_err(Failure::new)?;
    let log = match make_private(&directories.log) {
        // A second control center, or one under tests, may have installed its log already.
        Ok(()) => match logging::to_files("info", LogFormat::Text, &directories.log, "tui") {
            Ok(()) => format!("{}/tui.*.log", directories.log.display()),
            Err(error) => format!("none ({error})"),
        },
        Err(error) => format!("none ({error})"),
    };
    let address = resolve(&args.to)?;
    let name = match &address {
        MasterAddress::Local => "this machine".to_owned(),
        MasterAddress::Socket(path) => path.display().to_string(),
        MasterAddress::Remote(master) => master.name.clone(),
    };
    let (is_named, master_argument) = match &address {
        MasterAddress::Local => (false, "local".to_owned()),
        MasterAddress::Socket(path) => (false, format!("unix:{}", path.display())),
        MasterAddress::Remote(master) => (true, master.name.clone()),
    };
    let settings = Settings {
        confirm_over: config.confirm_over,
        destructive: config.destructive.iter().map(pattern).collect::<Result<_, _>>()?,
        ascii: args.ascii || config.ascii || !has_glyphs(),
        is_utf8: is_utf8(),
        depth: depth(),
        palette: config.theme.parse().map_err(|error| Failure::usage(format!("[tui] theme: {error}")))?,
        mouse: args.mouse || config.mouse,
        read_only: args.read_only,
        is_named,
        master_argument,
        quiet_before: config.enter_quiet_before,
        quiet_after: config.enter_quiet_after,
        bell: config.bell,
        read_options,
        log,
    };
    let state = directories.data.join("masters").join(file_name(&name));
    let options = Options { master: address, name, settings, open: args.job, state: Some(state) };
    for line in runtime::run(options).await? {
        note(&line);
    }
    Ok(exit::OK)
}

/// Returns a directory name for a master's name. Different names give different directories.
fn file_name(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            text.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "_{byte:02x}");
        }
    }
    text
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Returns the number of colours of the terminal, according to its environment.
fn depth() -> ColorDepth {
    let has = |name: &str, words: &[&str]| {
        env::var(name).is_ok_and(|value| words.iter().any(|word| value.contains(word)))
    };
    if is_set("NO_COLOR") {
        ColorDepth::None
    } else if has("COLORTERM", &["truecolor", "24bit"]) {
        ColorDepth::True
    } else if has("TERM", &["256color"]) {
        ColorDepth::Indexed
    } else {
        ColorDepth::Sixteen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_masters_share_a_directory() {
        let names = ["prod-1", "prod.1", "prod_1", "prod/1", "..", "unix:/run/a.sock", "ä"];
        let files: std::collections::HashSet<String> = names.into_iter().map(file_name).collect();
        assert_eq!(files.len(), names.len());
        assert!(
            files.iter().all(|file| file.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        );
    }
}
