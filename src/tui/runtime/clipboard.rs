//! Copies to the clipboard. Inside tmux it uses tmux itself, whose default settings drop the sequence for
//! other terminals.

use std::{
    io::{self, Write},
    process::Stdio,
};

use base64::Engine as _;
use crossterm::event::Event;
use tokio::{io::AsyncWriteExt as _, process::Command};
use tokio_stream::Stream;

use super::Runtime;
use crate::{domain::text::spoken_bytes, tui::msg::Msg};

/// The maximum number of bytes to copy; terminals refuse more.
const MAX_CLIPBOARD_BYTES: usize = 1024 * 1024;

impl<E, W> Runtime<E, W>
where
    E: Stream<Item = io::Result<Event>> + Unpin,
    W: Write,
{
    /// Copies a text, and reports how much was copied and how.
    pub(super) async fn copy(&mut self, text: &str, what: &str) -> io::Result<()> {
        let bytes = &text.as_bytes()[..text.floor_char_boundary(text.len().min(MAX_CLIPBOARD_BYTES))];
        let cut = if bytes.len() < text.len() { " (the beginning only)" } else { "" };
        let in_tmux = std::env::var_os("TMUX").is_some();
        let how = if in_tmux {
            match through_tmux(bytes).await {
                Ok(()) => "with tmux load-buffer",
                Err(error) => {
                    return self
                        .say(Msg::Failed(format!("nothing was copied: tmux load-buffer: {error}")))
                        .await;
                }
            }
        } else {
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            self.console.screen.write(format!("\x1b]52;c;{encoded}\x07").as_bytes())?;
            "with OSC 52, if the terminal takes it"
        };
        let size = spoken_bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.say(Msg::Done(format!("copied {what}: {size}{cut}, {how}"))).await
    }

    /// Reports a result directly to the model. It does not use the inbox, which this same loop empties.
    async fn say(&mut self, msg: Msg) -> io::Result<()> {
        Box::pin(self.put(msg)).await
    }
}

async fn through_tmux(bytes: &[u8]) -> io::Result<()> {
    let mut tmux = Command::new("tmux")
        .args(["load-buffer", "-w", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = tmux.stdin.take() {
        stdin.write_all(bytes).await?;
    }
    let status = tmux.wait().await?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}
