//! A window of a task's output: some of its lines, between two offsets. Other lines are read from the master
//! when the user scrolls to them, so that memory is bounded.

use std::collections::VecDeque;

use super::{
    line::{Line, Source},
    maker::LineParser,
};
use crate::domain::{
    frame::{Frame, Stream},
    offset::OutputOffset,
};

/// The capacity of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The maximum number of lines.
    pub lines: usize,
    /// The maximum size in memory, in bytes.
    pub bytes: usize,
}

/// The capacity for a pane among others.
pub(crate) const PANE_CAPACITY: Room = Room { lines: 500, bytes: 256 * 1024 };
/// The capacity for the output in full view.
pub(crate) const FULL_VIEW_CAPACITY: Room = Room { lines: 20_000, bytes: 8 * 1024 * 1024 };

/// Lines of a task's output.
#[derive(Debug)]
pub struct Window {
    room: Room,
    lines: VecDeque<Line>,
    bytes: usize,
    makers: [LineParser; 2],
    /// The offset of the first line.
    from: OutputOffset,
    /// The offset of the next byte; `None` before the first byte.
    next: Option<OutputOffset>,
    /// Whether the window began in the middle of a line, which is dropped.
    is_cut: bool,
    /// The number of lines that were dropped at the beginning. Line indices shift by this number.
    dropped: u64,
    /// The number of bytes that the view skipped.
    skipped: u64,
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Window {
    /// Creates a window that begins at an offset.
    #[must_use]
    pub fn new(room: Room, from: OutputOffset) -> Self {
        Self {
            room,
            lines: VecDeque::new(),
            bytes: 0,
            makers: [LineParser::new(Stream::Stdout), LineParser::new(Stream::Stderr)],
            from,
            next: None,
            is_cut: from > OutputOffset::START,
            dropped: 0,
            skipped: 0,
        }
    }

    /// Appends the next frame. Ignores bytes that were received before.
    pub fn feed(&mut self, frame: Frame) {
        let Some(frame) = frame.from_offset(self.next.unwrap_or(self.from)) else { return };
        let expected = self.next.unwrap_or(self.from);
        if frame.offset > expected {
            self.note_gap(expected, frame.offset, frame.time_ns);
        }
        self.next = Some(frame.end());
        let (mut data, mut offset) = (&frame.data[..], frame.offset);
        if self.is_cut {
            // The bytes up to the first newline belong to a line that began before the window.
            let end = data.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let Some(end) = end else {
                self.from = frame.end();
                return;
            };
            (data, offset) = (&data[end..], offset + end as u64);
            self.from = offset;
            self.is_cut = false;
        }
        let (lines, bytes) = (&mut self.lines, &mut self.bytes);
        self.makers[index(frame.stream)].feed(data, offset, frame.time_ns, |line| {
            *bytes += line.size();
            lines.push_back(line);
        });
        self.make_room();
    }

    /// Records a gap in the output.
    pub fn note_gap(&mut self, from: OutputOffset, to: OutputOffset, time_ns: u64) {
        let from = from.max(self.next.unwrap_or(self.from));
        if from >= to {
            return;
        }
        self.skipped += to.since(from);
        for maker in &mut self.makers {
            if let Some(line) = maker.pending() {
                self.bytes += line.size();
                self.lines.push_back(line);
            }
        }
        self.makers = [LineParser::new(Stream::Stdout), LineParser::new(Stream::Stderr)];
        let line = Line::missing(from, to, time_ns);
        self.bytes += line.size();
        self.lines.push_back(line);
        self.next = Some(to);
        // The output may continue in the middle of a line, which is shown nevertheless.
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.lines.len() > self.room.lines || self.bytes > self.room.bytes {
            let Some(line) = self.lines.pop_front() else { return };
            self.bytes -= line.size();
            self.dropped += 1;
            self.from = self.lines.front().map_or(self.next.unwrap_or(self.from), |line| line.offset);
        }
    }

    /// Inserts the lines of an earlier window, which ends where this one begins. Returns their number.
    pub fn prepend(&mut self, earlier: Self) -> usize {
        let from = earlier.from;
        let mut lines = earlier.into_lines();
        lines.retain(|line| line.offset < self.from);
        let count = lines.len();
        self.bytes += lines.iter().map(Line::size).sum::<usize>();
        for line in lines.into_iter().rev() {
            self.lines.push_front(line);
        }
        self.from = from.min(self.from);
        // Lines beyond the capacity are dropped at the end, which is not on the screen now.
        while (self.lines.len() > self.room.lines || self.bytes > self.room.bytes)
            && let Some(line) = self.lines.pop_back()
        {
            self.bytes -= line.size();
            self.next = Some(line.offset);
            self.makers = [LineParser::new(Stream::Stdout), LineParser::new(Stream::Stderr)];
        }
        count
    }

    fn into_lines(mut self) -> Vec<Line> {
        let pending: Vec<Line> = self.makers.iter().filter_map(LineParser::pending).collect();
        self.lines.extend(pending);
        self.lines.into()
    }

    /// Returns the number of lines, including incomplete ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len() + self.makers.iter().filter(|maker| maker.pending().is_some()).count()
    }

    /// Reports whether there are no lines.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns `count` lines, starting at an index.
    pub fn lines(&self, from: usize, count: usize) -> impl Iterator<Item = std::borrow::Cow<'_, Line>> {
        use std::borrow::Cow;
        let pending = self.makers.iter().filter_map(LineParser::pending).map(Cow::Owned);
        let complete = self.lines.iter().skip(from).map(Cow::Borrowed);
        let skip = from.saturating_sub(self.lines.len());
        complete.chain(pending.skip(skip)).take(count)
    }

    /// Returns a complete line by its index.
    #[must_use]
    pub fn line(&self, at: usize) -> Option<&Line> {
        self.lines.get(at)
    }

    /// Returns the offset of the first line.
    #[must_use]
    pub fn from(&self) -> OutputOffset {
        self.from
    }

    /// Returns the offset of the next byte.
    #[must_use]
    pub fn next(&self) -> OutputOffset {
        self.next.unwrap_or(self.from)
    }

    /// Returns the number of lines that were dropped at the beginning.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Reports whether the last lines were skipped.
    #[must_use]
    pub fn ends_in_a_gap(&self) -> bool {
        self.lines.back().is_some_and(|line| line.source == Source::Gap)
    }

    /// Returns the number of bytes that the view skipped.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the approximate size in memory, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// Returns the index of the last line that begins at or before an offset; 0 if there is none.
    #[must_use]
    pub fn place_of(&self, offset: OutputOffset) -> usize {
        self.lines.iter().rposition(|line| line.offset <= offset).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn frame(offset: u64, text: &str) -> Frame {
        Frame {
            stream: Stream::Stdout,
            offset: OutputOffset(offset),
            time_ns: 0,
            data: Bytes::copy_from_slice(text.as_bytes()),
        }
    }

    fn texts(window: &Window) -> Vec<String> {
        window.lines(0, usize::MAX).map(|line| line.text.clone()).collect()
    }

    #[test]
    fn a_window_in_the_middle_begins_with_a_whole_line_and_grows_at_its_beginning() {
        let mut window = Window::new(PANE_CAPACITY, OutputOffset(4));
        window.feed(frame(4, "ne\ntwo\nthree\n"));
        assert_eq!(texts(&window), ["two", "three"]);
        assert_eq!(window.from(), OutputOffset(7));
        let mut earlier = Window::new(PANE_CAPACITY, OutputOffset::START);
        earlier.feed(frame(0, "zero one\n").before_offset(OutputOffset(7)));
        let mut whole = Window::new(PANE_CAPACITY, OutputOffset::START);
        whole.feed(frame(0, "zer\none\n").before_offset(OutputOffset(7)));
        assert_eq!(window.prepend(whole), 2);
        assert_eq!(texts(&window), ["zer", "one", "two", "three"]);
    }

    #[test]
    fn a_gap_is_shown() {
        let mut window = Window::new(PANE_CAPACITY, OutputOffset::START);
        window.feed(frame(0, "one\n"));
        window.feed(frame(3_004, "two\n"));
        assert_eq!(texts(&window), ["one", "3.0 kB are not shown here", "two"]);
        assert_eq!(window.skipped(), 3_000);
    }

    proptest! {
        #[test]
        fn a_window_never_holds_more_than_its_room(pieces in proptest::collection::vec("[a-z\n]{0,200}", 0..200)) {
            let room = Room { lines: 20, bytes: 4_000 };
            let mut window = Window::new(room, OutputOffset::START);
            let mut offset = 0;
            for piece in pieces {
                window.feed(frame(offset, &piece));
                offset += piece.len() as u64;
                prop_assert!(window.lines.len() <= room.lines && window.size() <= room.bytes);
            }
            prop_assert_eq!(window.next(), OutputOffset(offset));
        }
    }
}
