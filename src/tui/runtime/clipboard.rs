//! Copies to the clipboard. Inside tmux it uses tmux itself, whose default settings drop the sequence for other terminals; if
//! tmux cannot do it, and elsewhere, the sequence.

use std::{
    io::{self, Write},
    process::Stdio,
    time::Duration,
};

use base64::Engine as _;
use crossterm::event::Event;
use tokio::{io::AsyncWriteExt as _, process::Command};
use tokio_stream::Stream;

use super::Runtime;
use crate::{domain::text::spoken_bytes, tui::msg::Msg};

/// The maximum number of bytes to copy; terminals refuse more.
const MAX_CLIPBOARD_BYTES: usize = 1024 * 1024;

/// How long tmux may take.
const TMUX_TIMEOUT: Duration = Duration::from_secs(2);

impl<E, W> Runtime<E, W>
where
    E: Stream<Item = io::Result<Event>> + Unpin,
    W: Write,
{
    /// Copies a text, and reports how much was copied and how.
    pub(super) async fn copy(&mut self, text: &str, what: &str) -> io::Result<()> {
        let bytes = &text.as_bytes()[..text.floor_char_boundary(text.len().min(MAX_CLIPBOARD_BYTES))];
        let cut = if bytes.len() < text.len() { " (the beginning only)" } else { "" };
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let failed = if is_set("TMUX") { through_tmux(bytes).await.err() } else { None };
        let how = if is_set("TMUX") && failed.is_none() {
            "with tmux load-buffer".to_owned()
        } else {
            self.console.screen.write(&sequence(bytes, is_set("STY")))?;
            let why = failed.map_or_else(String::new, |error| format!("; tmux load-buffer: {error}"));
            format!("with OSC 52, if the terminal takes it{why}")
        };
        let size = spoken_bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.say(Msg::Done(format!("copied {what}: {size}{cut}, {how}"))).await
    }

    /// Reports a result directly to the model. It does not use the inbox, which this same loop empties.
    async fn say(&mut self, msg: Msg) -> io::Result<()> {
        Box::pin(self.put(msg)).await
    }
}

/// Returns the sequence with which a terminal copies a text. screen passes it on only inside of another one.
fn sequence(bytes: &[u8], in_screen: bool) -> Vec<u8> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    let plain = format!("\x1b]52;c;{encoded}\x07");
    if in_screen { format!("\x1bP{plain}\x1b\\").into_bytes() } else { plain.into_bytes() }
}

async fn through_tmux(bytes: &[u8]) -> io::Result<()> {
    let loaded = tokio::time::timeout(TMUX_TIMEOUT, load_buffer(bytes));
    loaded.await.unwrap_or_else(|_| Err(io::Error::other("it does not answer")))
}

async fn load_buffer(bytes: &[u8]) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::sequence;

    #[test]
    fn screen_passes_on_only_what_is_wrapped() {
        assert_eq!(sequence(b"hi", false), b"\x1b]52;c;aGk=\x07");
        assert_eq!(sequence(b"hi", true), b"\x1bP\x1b]52;c;aGk=\x07\x1b\\");
    }
}
