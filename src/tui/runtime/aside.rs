//! Suspends the control center while an editor, a pager or a shell uses the terminal.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    process::{ExitStatus, Stdio},
};

use crossterm::event::Event;
use signal_hook::{consts::SIGTSTP, low_level::emulate_default_handler};
use tokio::{io::AsyncWriteExt as _, process::Command};
use tokio_stream::Stream;

use super::{Runtime, reading, signals::InFront};
use crate::{
    domain::{ids::JobId, name::AgentName, offset::OutputOffset},
    sys::{process::own_program, random},
    tui::{msg::Msg, output::look::DisplayOptions, terminal},
};

/// The exit status of `agent shell` if the shell's own status is unknown.
const NO_SHELL: i32 = 125;
/// The exit status of `agent shell` for an invalid command line.
const USAGE: i32 = 2;

/// The exit statuses of a shell for a program that cannot be executed, and for one that does not exist.
const CANNOT_EXECUTE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Begins the text of a shell around a program: ^C and ^\ are for the program, and must not end the shell before it.
const TRAP: &str = "trap : INT QUIT; ";

/// Runs a program that uses the terminal.
async fn in_front(mut command: Command) -> io::Result<ExitStatus> {
    let in_front = InFront::new();
    let mut child = command.spawn()?;
    let _in_front = in_front.is(child.id());
    child.wait().await
}

impl<E, W> Runtime<E, W>
where
    E: Stream<Item = io::Result<Event>> + Unpin,
    W: Write,
{
    fn leave(&mut self) {
        self.events = None;
        terminal::restore();
    }

    /// Switches the terminal to the screen again.
    pub(super) fn come_back(&mut self) -> io::Result<()> {
        terminal::take(self.console.mouse)?;
        self.console.screen.forget();
        self.due_after(std::time::Duration::ZERO);
        Ok(())
    }

    /// Suspends the program until the shell resumes it.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        self.leave();
        emulate_default_handler(SIGTSTP)?;
        self.come_back()
    }

    /// Edits a text in the editor.
    pub(super) async fn edit(&mut self, text: String) -> io::Result<()> {
        let editor = env::var("VISUAL").or_else(|_| env::var("EDITOR")).unwrap_or_else(|_| "vi".to_owned());
        let path = env::temp_dir().join(format!("sloth-runner-{}.sh", random::hex(&random::bytes::<8>())));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
            let _ = std::fs::remove_file(&path);
            let text = format!("cannot edit: {}: {error}", path.display());
            return Box::pin(self.put(Msg::Failed(text))).await;
        }
        self.leave();
        // The editor's variable is shell text: it may have flags.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{TRAP}{editor} \"$1\""), "sh"]).arg(&path);
        let status = in_front(command).await;
        self.come_back()?;
        let edited = std::fs::read(&path);
        let _ = std::fs::remove_file(&path);
        let msg = match (status, edited) {
            (Ok(status), Ok(edited)) if status.success() => {
                Msg::Edited(String::from_utf8_lossy(&edited).into_owned())
            }
            (Ok(status), Ok(_)) => {
                Msg::Failed(format!("{editor} ended with {status}; your line is unchanged"))
            }
            (Err(error), _) | (_, Err(error)) => Msg::Failed(format!("cannot edit with {editor}: {error}")),
        };
        Box::pin(self.put(msg)).await
    }

    /// Opens a shell on an agent, in a separate client.
    pub(super) async fn shell(&mut self, agent: AgentName) -> io::Result<()> {
        let master = self.model.settings.master_argument.clone();
        self.leave();
        let mut command = Command::from(own_program());
        command.args(["agent", "shell", "--master", &master, agent.as_str()]);
        let status = in_front(command).await;
        self.come_back()?;
        let msg = match status {
            // The status of a shell is that of its last command. It is no error of the shell.
            Ok(status) if status.code().is_some_and(|code| code != NO_SHELL && code != USAGE) => {
                Msg::Done(format!("the shell on {agent} has ended"))
            }
            Ok(_) => Msg::Failed(format!("the shell on {agent} ended without a status; H shows its job")),
            Err(error) => Msg::Failed(format!("cannot open a shell: {error}")),
        };
        Box::pin(self.put(msg)).await
    }

    /// Shows the output of a task in the pager, with the same control sequences removed as on the screen.
    pub(super) async fn page(
        &mut self,
        job: JobId,
        agent: AgentName,
        look: DisplayOptions,
    ) -> io::Result<()> {
        let Some(client) = self.client.clone() else {
            return Box::pin(self.put(Msg::Failed("the master does not answer".to_owned()))).await;
        };
        let pager = env::var("PAGER").unwrap_or_else(|_| "less -R".to_owned());
        self.leave();
        let shown = async {
            let in_front = InFront::new();
            let mut child = Command::new("sh")
                .args(["-c", &format!("{TRAP}{pager}")])
                .stdin(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| error.to_string())?;
            let _in_front = in_front.is(child.id());
            let mut stdin = child.stdin.take();
            let read = reading::lines(&client, job, &agent, OutputOffset::START, async |line| {
                if !look.streams.shows(line.source) {
                    return true;
                }
                // If writing fails, the user has left the pager early.
                match &mut stdin {
                    Some(stdin) => stdin.write_all(format!("{}\n", line.text).as_bytes()).await.is_ok(),
                    None => false,
                }
            });
            let read = read.await;
            drop(stdin);
            let status = child.wait().await.map_err(|error| error.to_string())?;
            match status.code() {
                Some(CANNOT_EXECUTE | NOT_FOUND) => {
                    Err("it is not installed; $PAGER names another".to_owned())
                }
                _ => read.map_err(|error| error.to_string()),
            }
        };
        let shown = shown.await;
        self.come_back()?;
        match shown {
            Ok(()) => Ok(()),
            Err(error) => {
                Box::pin(self.put(Msg::Failed(format!("cannot show it with {pager}: {error}")))).await
            }
        }
    }
}
