//! Hints for options that other tools have: clush, pdsh, Ansible.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Returns a hint for a flag of another tool. The caller has checked that a job was meant.
#[must_use]
pub(super) fn for_foreign_flag(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    // `-w` and `-wTARGET` give `w`; a long flag gives its name.
    let name = match flag.strip_prefix("--") {
        Some(long) => long.split('=').next().unwrap_or_default(),
        None => flag.strip_prefix('-')?.get(..1)?,
    };
    let hint = match name {
        "w" | "nodes" | "hosts" => "the target needs no flag: sloth-runner run web-[1-3] 'uname -r'",
        "a" | "all" => "all agents are @all: sloth-runner run @all 'uname -r'",
        "g" | "group" => "a group is a label: sloth-runner run @role:web 'uname -r'",
        "f" | "forks" | "p" | "par" => {
            "use --fanout to limit the number of agents at once: sloth-runner run --fanout 32 @all 'uname -r'"
        }
        "u" | "user" | "become" | "become-user" => {
            "commands run as the agent's user; use `sudo -u NAME COMMAND` for another user, and --timeout 30s for a time limit"
        }
        "m" | "module-name" | "args" => {
            "there are no modules; give a shell command: sloth-runner run @role:web 'systemctl restart nginx'"
        }
        "S" => "no flag is needed: the exit status is the largest one of the commands",
        "c" | "copy" => {
            "files are sent through standard input, to one agent: sloth-runner run -i web-1 'cat > FILE' < FILE"
        }
        _ => return None,
    };
    Some(format!("{flag} is not an option of `sloth-runner run`: {hint}"))
}
