//! A buffer of several pieces. Long pieces are passed on without a copy; short ones are copied together.
//!
//! Messages are encoded into it and decoded from it, so that the output of commands passes through a program
//! without a copy for each message. Does not depend on the contents.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::UninitSlice};

/// The size in bytes from which a piece is passed on instead of copied. A shorter piece is cheap to copy. If
/// passed on, it would keep in memory the whole buffer from which it was read. For a longer piece, that
/// buffer is an HTTP/2 frame, at most four times as large.
pub(crate) const HANDED_ON: usize = 16 * 1024;

/// A piece that is complete.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    /// Whether the piece was passed on. Otherwise it is a copy of several short pieces, and a part of it
    /// would keep the whole copy in memory.
    is_handed_on: bool,
}

/// A first-in, first-out buffer of pieces.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    sealed: VecDeque<Piece>,
    /// The number of bytes in `sealed`.
    sealed_length: usize,
    /// The bytes after `sealed`, to which more can be appended.
    tail: BytesMut,
}

impl Pieces {
    /// Removes and returns the first piece; `None` if the buffer is empty.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let Some(Piece { bytes, .. }) = self.sealed.pop_front() else {
            return Some(self.tail.split().freeze()).filter(|tail| !tail.is_empty());
        };
        self.sealed_length -= bytes.len();
        Some(bytes)
    }

    fn seal(&mut self, bytes: Bytes, is_handed_on: bool) {
        if !bytes.is_empty() {
            self.sealed_length += bytes.len();
            self.sealed.push_back(Piece { bytes, is_handed_on });
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.sealed_length + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.sealed.front().map_or(&self.tail, |piece| &piece.bytes)
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(piece) = self.sealed.front_mut() else { return self.tail.advance(count) };
            let step = count.min(piece.bytes.len());
            piece.bytes.advance(step);
            count -= step;
            self.sealed_length -= step;
            if piece.bytes.is_empty() {
                self.sealed.pop_front();
            }
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        assert!(length <= self.remaining(), "{length} of {} bytes", self.remaining());
        let is_whole = |piece: &&Piece| piece.is_handed_on && piece.bytes.len() >= length;
        if let Some(piece) = self.sealed.front().filter(is_whole).filter(|_| length >= HANDED_ON) {
            let bytes = piece.bytes.slice(..length);
            self.advance(length);
            return bytes;
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put(self.take(length));
        bytes.freeze()
    }
}

#[expect(
    unsafe_code,
    reason = "the trait is unsafe to implement; each of its promises is kept by the buffer behind it"
)]
unsafe impl BufMut for Pieces {
    fn remaining_mut(&self) -> usize {
        self.tail.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller has written this number of bytes to `chunk_mut`, which is this buffer's.
        unsafe { self.tail.advance_mut(count) }
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.tail.chunk_mut()
    }

    fn put<T: Buf>(&mut self, mut source: T) {
        while source.has_remaining() {
            let length = source.chunk().len();
            if length >= HANDED_ON {
                let before = self.tail.split().freeze();
                self.seal(before, false);
                self.seal(source.copy_to_bytes(length), true);
            } else {
                self.tail.extend_from_slice(source.chunk());
                source.advance(length);
            }
        }
    }

    fn put_slice(&mut self, source: &[u8]) {
        self.tail.put_slice(source);
    }

    fn put_u8(&mut self, byte: u8) {
        self.tail.put_u8(byte);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(length: usize) -> Bytes {
        (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn lengths(most: usize) -> impl Strategy<Value = Vec<usize>> {
        let long = HANDED_ON - 1..3 * HANDED_ON;
        proptest::collection::vec(prop_oneof![3 => 0..200_usize, 1 => long], 0..most)
    }

    proptest! {
        #[test]
        fn what_is_put_is_what_is_read_and_popped(put in lengths(12), read in lengths(30)) {
            let whole = bytes(put.iter().sum());
            let fill = || {
                let (mut pieces, mut rest) = (Pieces::default(), whole.clone());
                for length in &put {
                    pieces.put(rest.split_to(*length));
                }
                pieces
            };
            let mut pieces = fill();
            prop_assert_eq!(pieces.remaining(), whole.len());
            let mut found = BytesMut::new();
            for (turn, length) in read.iter().enumerate() {
                let length = (*length).min(pieces.remaining());
                if turn % 3 == 0 {
                    found.put((&mut pieces).take(length));
                } else {
                    found.put(pieces.copy_to_bytes(length));
                }
                prop_assert_eq!(found.len() + pieces.remaining(), whole.len());
            }
            while let Some(piece) = pieces.pop() {
                prop_assert!(!piece.is_empty());
                found.put(piece);
            }
            prop_assert_eq!(pieces.remaining(), 0);
            prop_assert_eq!(found.freeze(), whole);
        }
    }

    #[test]
    fn long_bytes_pass_through_and_short_ones_keep_nothing() {
        let read = bytes(HANDED_ON + 5);
        let mut pieces = Pieces::default();
        pieces.put_u8(1);
        pieces.put(read.clone());
        pieces.put(read.slice(..5));
        pieces.advance(1);
        assert_eq!(pieces.copy_to_bytes(HANDED_ON).as_ptr(), read.as_ptr(), "the same bytes");
        let short = pieces.copy_to_bytes(5);
        assert_eq!(short, read.slice(HANDED_ON..));
        assert_ne!(short.as_ptr(), read[HANDED_ON..].as_ptr(), "it would keep all of them");
        assert_eq!(pieces.pop(), Some(read.slice(..5)));
        assert_eq!(pieces.pop(), None);
    }

    #[test]
    fn a_part_of_what_was_copied_together_does_not_keep_it() {
        let mut pieces = Pieces::default();
        for _ in 0..40 {
            pieces.put(bytes(HANDED_ON - 1));
        }
        pieces.put(bytes(HANDED_ON));
        let together = pieces.chunk().as_ptr();
        assert_eq!(pieces.chunk().len(), 40 * (HANDED_ON - 1));
        assert_ne!(pieces.copy_to_bytes(2 * HANDED_ON).as_ptr(), together);
    }

    #[test]
    #[should_panic(expected = "6 of 5 bytes")]
    fn nobody_takes_more_than_there_is() {
        let mut pieces = Pieces::default();
        pieces.put(bytes(5));
        pieces.copy_to_bytes(6);
    }
}
