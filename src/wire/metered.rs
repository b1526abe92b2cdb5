//! Limits the rate of HTTP/2 frames without data (pings, settings, resets), which cost the receiver more than
//! the sender (CVE-2019-9512, -9515, CVE-2023-44487, CVE-2025-8671).
//!
//! Reads only the frame headers (RFC 9113, section 4.1). A connection that exceeds the rate is closed.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::budget::{Budget, Exceeded};

/// The length of the HTTP/2 client preface.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// The length of a frame header.
const HEAD: usize = 9;
/// The type of a frame with data.
const DATA: u8 = 0;

/// A connection that counts the frames without data against a budget.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    /// Remaining bytes of the preface or of a frame's payload, which are not inspected.
    skip: usize,
    head: [u8; HEAD],
    /// The number of bytes of the next header that were read.
    have: usize,
    budget: Arc<Budget>,
}

impl<S> Metered<S> {
    /// Counts the frames that a client sends. They begin after a preface.
    pub(crate) fn client(stream: S, budget: Arc<Budget>) -> Self {
        Self::new(stream, budget, PREFACE)
    }

    /// Counts the frames that a server sends.
    pub(crate) fn server(stream: S, budget: Arc<Budget>) -> Self {
        Self::new(stream, budget, 0)
    }

    fn new(stream: S, budget: Arc<Budget>, skip: usize) -> Self {
        Self { stream, skip, head: [0; HEAD], have: 0, budget }
    }

    /// Counts the frames in bytes that were read.
    fn count(&mut self, mut bytes: &[u8]) -> Result<(), Exceeded> {
        let mut frames = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                let [high, middle, low, kind, ..] = self.head;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.have = 0;
                frames += u32::from(kind != DATA || self.skip == 0);
            }
        }
        if frames == 0 { Ok(()) } else { self.budget.frames(frames) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let counted = this.count(&buf.filled()[before..]);
        Poll::Ready(counted.map_err(|met| {
            if this.budget.may_log() {
                tracing::warn!("closed a connection: {met}");
            }
            io::Error::new(io::ErrorKind::ConnectionAborted, met)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::wire::budget::{Budgets, Limits, Principal};

    fn budget(frames_a_second: u32) -> Arc<Budget> {
        Budgets::new(Limits { frames_a_second, ..Limits::OPERATOR }).of(Principal::Operator("ada".into()))
    }

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
        frame.resize(HEAD + payload, 0);
        frame
    }

    /// Returns how many of these bytes are read before the connection is closed, if they are sent in pieces
    /// of size `piece`.
    async fn passed(bytes: &[u8], piece: usize, frames_a_second: u32) -> usize {
        let (near, mut far) = tokio::io::duplex(64);
        let mut metered = Metered::client(near, budget(frames_a_second));
        let bytes = bytes.to_vec();
        let writing = tokio::spawn(async move {
            for piece in bytes.chunks(piece) {
                if far.write_all(piece).await.is_err() {
                    return;
                }
            }
        });
        let (mut read, mut buffer) = (0, [0; 64]);
        while let Ok(count) = metered.read(&mut buffer).await
            && count > 0
        {
            read += count;
        }
        drop(metered);
        writing.await.unwrap();
        read
    }

    #[tokio::test(start_paused = true)]
    async fn data_passes_and_frames_without_it_have_a_rate_however_they_are_cut() {
        let mut busy = vec![b'P'; PREFACE];
        for _ in 0..500 {
            busy.extend(frame(DATA, 300));
        }
        let mut flood = busy.clone();
        for _ in 0..500 {
            flood.extend(frame(6, 8));
        }
        let mut empty = vec![b'P'; PREFACE];
        for _ in 0..500 {
            empty.extend(frame(DATA, 0));
        }
        for piece in [1, 7, 64] {
            assert_eq!(passed(&busy, piece, 10).await, busy.len());
            let read = passed(&flood, piece, 10).await;
            assert!((busy.len()..busy.len() + 100 * 17).contains(&read), "{read} of {}", flood.len());
            assert!(passed(&empty, piece, 10).await < empty.len());
            assert_eq!(passed(&flood, piece, 10_000).await, flood.len());
        }
    }
}
