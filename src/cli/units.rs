//! The text of the systemd units. Pure: writes no file.

use std::fmt::Write as _;

/// The documentation that the units name.
const DOCUMENTATION: &str = "man:sloth-runner(1) https://chalkan3.github.io/sloth-runner/";

/// The properties of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit<'a> {
    /// The description, for people: `Sloth Runner Agent - web-1`.
    pub description: String,
    /// The program and its arguments.
    pub command: &'a [String],
    /// The user that the unit runs as; empty for root.
    pub user: &'a str,
    /// The identifier of the unit's lines in the journal.
    pub identifier: &'a str,
}

/// Quotes a word for `ExecStart=`, as in systemd.service(5), "Command lines".
#[must_use]
pub(crate) fn quoted(word: &str) -> String {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "+,-./:=@_".contains(sign);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for sign in word.chars() {
        match sign {
            '"' | '\\' => text.extend(['\\', sign]),
            '%' => text.push_str("%%"),
            '$' => text.push_str("$$"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            sign if sign.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{:02x}", u32::from(sign));
            }
            sign => text.push(sign),
        }
    }
    text.push('"');
    text
}

/// Returns the words of a unit's command, which [`quoted`] has written; empty if there is no command.
#[must_use]
pub(crate) fn command_of(unit: &str) -> Vec<String> {
    let text = unit.replace("\\\n", " ");
    let Some(line) = text.lines().find_map(|line| line.strip_prefix("ExecStart=")) else { return Vec::new() };
    let (mut words, mut signs) = (Vec::new(), line.chars().peekable());
    while let Some(sign) = signs.next() {
        match sign {
            sign if sign.is_whitespace() => {}
            '"' => words.push(quoted_word(&mut signs)),
            sign => {
                let mut word = String::from(sign);
                while let Some(sign) = signs.next_if(|sign| !sign.is_whitespace()) {
                    word.push(sign);
                }
                words.push(word);
            }
        }
    }
    words
}

/// Parses a word up to its closing quote.
fn quoted_word(signs: &mut impl Iterator<Item = char>) -> String {
    let mut word = String::new();
    while let Some(sign) = signs.next() {
        match sign {
            '"' => break,
            // These signs are doubled.
            '%' | '$' => word.extend(signs.next()),
            '\\' => match signs.next() {
                Some('n') => word.push('\n'),
                Some('t') => word.push('\t'),
                Some('x') => {
                    let digits: String = signs.by_ref().take(2).collect();
                    word.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                }
                escaped => word.extend(escaped),
            },
            sign => word.push(sign),
        }
    }
    word
}

/// Returns the user that a unit runs as.
#[must_use]
pub(crate) fn user_of(unit: &str) -> Option<String> {
    let user = unit.lines().find_map(|line| line.strip_prefix("User="))?;
    Some(user.replace("%%", "%"))
}

/// Escapes a value after `=`, in which only `%` is special to systemd.
fn value(text: &str) -> String {
    text.chars().filter(|sign| !sign.is_control()).collect::<String>().replace('%', "%%")
}

fn head(unit: &Unit<'_>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in unit.command {
        let word_quoted = quoted(word);
        match lines.last_mut() {
            // A flag begins a line, and its value follows on the same line.
            Some(line) if !word.starts_with("--") => *line = format!("{line} {word_quoted}"),
            _ => lines.push(word_quoted),
        }
    }
    let user = if unit.user.is_empty() { "root" } else { unit.user };
    format!(
        "[Unit]
Description={}
Documentation={DOCUMENTATION}
After=network-online.target
Wants=network-online.target
# A full disk or an occupied port may be free again in an hour: never give up.
StartLimitIntervalSec=0

[Service]
Type=notify
User={}
ExecStart={}
Restart=always
RestartSec=5s
# Increasing delays, with systemd 254 or later: older versions continue every five seconds.
RestartSteps=5
RestartMaxDelaySec=60s
WatchdogSec=30s
TimeoutStopSec=30s
LimitNOFILE=65536
StandardOutput=journal
StandardError=journal
SyslogIdentifier={}
",
        value(&unit.description),
        value(user),
        lines.join(" \\\n  "),
        unit.identifier,
    )
}

/// The environment variable that marks units whose commands end with the service.
pub(crate) const CONFINED_VARIABLE: &str = "SLOTH_RUNNER_CONFINED";

/// The data directory of a master that runs as its own user.
pub(crate) const USER_MASTER_DATA_DIR: &str = "/var/lib/sloth-runner-master";

const TAIL: &str = "
[Install]
WantedBy=multi-user.target
";

/// Returns an agent's unit. Restrictions of the service would also apply to commands, so only `confined` adds
/// them.
#[must_use]
pub(crate) fn agent(unit: &Unit<'_>, confined: bool) -> String {
    let mut text = head(unit);
    if unit.user.is_empty() {
        text += "WorkingDirectory=/var/lib/sloth-runner
StateDirectory=sloth-runner
StateDirectoryMode=0711
";
    }
    text += "# 2: the command line is invalid; 3: the agent was stopped with `agent stop`, and stays stopped.
RestartPreventExitStatus=2 3
SuccessExitStatus=3
";
    text += if confined {
        "# Confined: commands end with the service, have their own /tmp, and sudo does not work in them.
KillMode=control-group
Environment=SLOTH_RUNNER_CONFINED=1
NoNewPrivileges=true
PrivateTmp=true
"
    } else {
        "# The supervisor and its commands outlive a restart of the agent. For that there is no PrivateTmp=, which would delete
# /tmp under them, no RuntimeDirectory=, and no NoNewPrivileges=, with which sudo fails in every command.
KillMode=process
OOMPolicy=continue
TasksMax=infinity
"
    };
    text + TAIL
}

/// Returns the master's unit. The master runs no commands, so it may do little but listen, read and write its
/// own files.
#[must_use]
pub(crate) fn master(unit: &Unit<'_>) -> String {
    let mut text = head(unit);
    if unit.user.is_empty() {
        text += "WorkingDirectory=/var/lib/sloth-runner
StateDirectory=sloth-runner
StateDirectoryMode=0711
RuntimeDirectory=sloth-runner
RuntimeDirectoryMode=0711
";
    } else {
        text += "WorkingDirectory=/var/lib/sloth-runner-master
StateDirectory=sloth-runner-master
StateDirectoryMode=0700
";
    }
    text += "RestartPreventExitStatus=2
UMask=0077
LimitCORE=0
# Memory limit. If the master exceeds it, it is restarted; running commands continue.
MemoryMax=75%
# No ProtectProc=: /proc shows which user called sudo, and the audit records name that user.
NoNewPrivileges=true
PrivateTmp=true
PrivateDevices=true
ProtectSystem=strict
ProtectHome=true
ProtectClock=true
ProtectHostname=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
MemoryDenyWriteExecute=true
RemoveIPC=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
";
    text + TAIL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_a_unit_as_they_went_in() {
        for (word, written) in [
            ("agent", "agent"),
            ("master:50053", "master:50053"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("100%", "\"100%%\""),
            ("$HOME", "\"$$HOME\""),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            ("a\nExecStart=/bin/sh", "\"a\\nExecStart=/bin/sh\""),
        ] {
            assert_eq!(quoted(word), written);
            let command = ["/bin/sloth-runner", "--data-dir", word].map(str::to_owned);
            let unit = Unit { description: "a".into(), command: &command, user: "o%ps", identifier: "i" };
            let text = agent(&unit, false);
            assert_eq!((command_of(&text), user_of(&text)), (command.to_vec(), Some("o%ps".to_owned())));
        }
    }

    #[test]
    fn an_agents_unit_keeps_commands_alive_and_a_confined_one_does_not() {
        let command = ["/usr/local/bin/sloth-runner".to_owned(), "agent".to_owned(), "start".to_owned()];
        let unit = Unit {
            description: "Sloth Runner Agent - 100%\nweb".to_owned(),
            command: &command,
            user: "",
            identifier: "sloth-runner-agent",
        };
        let plain = agent(&unit, false);
        assert!(plain.contains("Description=Sloth Runner Agent - 100%%web\n"), "{plain}");
        assert!(plain.contains("\nKillMode=process\n") && !plain.contains("\nPrivateTmp="), "{plain}");
        assert!(!plain.contains("\nNoNewPrivileges=") && !plain.contains("\nRuntimeDirectory="));
        let confined = agent(&unit, true);
        assert!(confined.contains("\nPrivateTmp=true\n") && confined.contains("\nKillMode=control-group\n"));
        for line in [
            "Restart=always",
            "RestartSec=5s",
            "RestartMaxDelaySec=60s",
            "StartLimitIntervalSec=0",
            "LimitNOFILE=65536",
        ] {
            assert!(
                [&plain, &confined, &master(&unit)].iter().all(|text| text.contains(&format!("\n{line}\n"))),
                "{line}"
            );
        }
    }
}
