//! A window onto a task's output: some of its lines, between two offsets. Other lines are read from the master when somebody
//! scrolls there, so that memory is limited.

use std::collections::VecDeque;

use super::{line::Line, maker::LineMaker};
use crate::domain::frame::{Frame, Stream};

/// How much a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Most lines.
    pub lines: usize,
    /// Most bytes in memory.
    pub bytes: usize,
}

/// For a pane among others.
pub const PANE: Room = Room { lines: 500, bytes: 256 * 1024 };
/// For the one pane that is read in full.
pub const FULL: Room = Room { lines: 20_000, bytes: 8 * 1024 * 1024 };

/// Lines of one task.
#[derive(Debug)]
pub struct Window {
    room: Room,
    lines: VecDeque<Line>,
    bytes: usize,
    makers: [LineMaker; 2],
    /// Where the first line begins.
    from: u64,
    /// Where the next byte belongs; `None` before the first one came.
    next: Option<u64>,
    /// The beginning was cut off in the middle of a line, which is left out.
    is_cut: bool,
    /// Lines that were dropped at the beginning so far: indices of lines move by this.
    dropped: u64,
    /// Bytes that the view left out, in all.
    skipped: u64,
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Window {
    /// A window that begins at an offset.
    #[must_use]
    pub fn new(room: Room, from: u64) -> Self {
        Self {
            room,
            lines: VecDeque::new(),
            bytes: 0,
            makers: [LineMaker::new(Stream::Stdout), LineMaker::new(Stream::Stderr)],
            from,
            next: None,
            is_cut: from > 0,
            dropped: 0,
            skipped: 0,
        }
    }

    /// Takes the next frame; what was taken before is left out.
    pub fn feed(&mut self, frame: Frame) {
        let Some(frame) = frame.from_offset(self.next.unwrap_or(self.from)) else { return };
        let expected = self.next.unwrap_or(self.from);
        if frame.offset > expected {
            self.note_gap(expected, frame.offset, frame.time_ns);
        }
        self.next = Some(frame.end());
        let (mut data, mut offset) = (&frame.data[..], frame.offset);
        if self.is_cut {
            // What comes before the first line's end is the end of a line that began outside.
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

    /// Takes that a part of the output is not there.
    pub fn note_gap(&mut self, from: u64, to: u64, time_ns: u64) {
        let from = from.max(self.next.unwrap_or(self.from));
        if from >= to {
            return;
        }
        self.skipped += to - from;
        for maker in &mut self.makers {
            if let Some(line) = maker.pending() {
                self.bytes += line.size();
                self.lines.push_back(line);
            }
        }
        self.makers = [LineMaker::new(Stream::Stdout), LineMaker::new(Stream::Stderr)];
        let line = Line::missing(from, to, time_ns);
        self.bytes += line.size();
        self.lines.push_back(line);
        self.next = Some(to);
        // Where the output continues is the middle of a line, which is shown all the same.
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

    /// Puts lines before the first one: those of a window that ends where this one begins. Returns how many came.
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
        // What falls out now lies below, where nobody looks at the moment.
        while (self.lines.len() > self.room.lines || self.bytes > self.room.bytes)
            && let Some(line) = self.lines.pop_back()
        {
            self.bytes -= line.size();
            self.next = Some(line.offset);
            self.makers = [LineMaker::new(Stream::Stdout), LineMaker::new(Stream::Stderr)];
        }
        count
    }

    fn into_lines(mut self) -> Vec<Line> {
        let pending: Vec<Line> = self.makers.iter().filter_map(LineMaker::pending).collect();
        self.lines.extend(pending);
        self.lines.into()
    }

    /// How many lines there are, those included that are not complete.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len() + self.makers.iter().filter(|maker| maker.pending().is_some()).count()
    }

    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the lines, by their place in the window.
    pub fn lines(&self, from: usize, count: usize) -> impl Iterator<Item = std::borrow::Cow<'_, Line>> {
        use std::borrow::Cow;
        let pending = self.makers.iter().filter_map(LineMaker::pending).map(Cow::Owned);
        let complete = self.lines.iter().skip(from).map(Cow::Borrowed);
        let skip = from.saturating_sub(self.lines.len());
        complete.chain(pending.skip(skip)).take(count)
    }

    /// A complete line by its place.
    #[must_use]
    pub fn line(&self, at: usize) -> Option<&Line> {
        self.lines.get(at)
    }

    /// Where the first line begins.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Where the next byte belongs.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.unwrap_or(self.from)
    }

    /// Lines that were dropped at the beginning so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes that were left out, in all.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// What it takes in memory, nearly.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// The place of the line that holds an offset, or of the one behind it.
    #[must_use]
    pub fn place_of(&self, offset: u64) -> usize {
        self.lines.iter().rposition(|line| line.offset <= offset).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn frame(offset: u64, text: &str) -> Frame {
        Frame { stream: Stream::Stdout, offset, time_ns: 0, data: Bytes::copy_from_slice(text.as_bytes()) }
    }

    fn texts(window: &Window) -> Vec<String> {
        window.lines(0, usize::MAX).map(|line| line.text.clone()).collect()
    }

    #[test]
    fn a_window_in_the_middle_begins_with_a_whole_line_and_grows_at_its_beginning() {
        let mut window = Window::new(PANE, 4);
        window.feed(frame(4, "ne\ntwo\nthree\n"));
        assert_eq!(texts(&window), ["two", "three"]);
        assert_eq!(window.from(), 7);
        let mut earlier = Window::new(PANE, 0);
        earlier.feed(frame(0, "zero one\n").before_offset(7));
        let mut whole = Window::new(PANE, 0);
        whole.feed(frame(0, "zer\none\n").before_offset(7));
        assert_eq!(window.prepend(whole), 2);
        assert_eq!(texts(&window), ["zer", "one", "two", "three"]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut window = Window::new(PANE, 0);
        window.feed(frame(0, "one\n"));
        window.feed(frame(3_004, "two\n"));
        assert_eq!(texts(&window), ["one", "3.0 kB are not shown here", "two"]);
        assert_eq!(window.skipped(), 3_000);
    }

    proptest! {
        #[test]
        fn a_window_never_holds_more_than_its_room(pieces in proptest::collection::vec("[a-z\n]{0,200}", 0..200)) {
            let room = Room { lines: 20, bytes: 4_000 };
            let mut window = Window::new(room, 0);
            let mut offset = 0;
            for piece in pieces {
                window.feed(frame(offset, &piece));
                offset += piece.len() as u64;
                prop_assert!(window.lines.len() <= room.lines && window.size() <= room.bytes);
            }
            prop_assert_eq!(window.next(), offset);
        }
    }
}
