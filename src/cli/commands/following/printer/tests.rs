use bytes::Bytes;

use super::*;
use crate::{cli::args::Colour, domain::offset::OutputOffset};

fn sink(stream: std::os::fd::OwnedFd) -> Sink {
    let paint = Paint::new(Colour::Never, false);
    let out = Stdio::new(Stream::Stdout, &stream).unwrap();
    Sink { out, was_widened: false, is_terminal: false, sanitize: false, paint }
}

fn alone() -> Waiting {
    Waiting { is_alone: true, held: 0 }
}

/// Returns what is printed if two tasks print long lines, a megabyte at a time and in turns.
fn printed_of_two(lines: [usize; 2], is_terminal: bool) -> Vec<u8> {
    let (mut read, write) = io::pipe().unwrap();
    let reading = std::thread::spawn(move || {
        let mut found = Vec::new();
        io::Read::read_to_end(&mut read, &mut found).map(|_| found)
    });
    let mut sink = Sink { is_terminal, ..sink(write.into()) };
    let mut waiting = Waiting { is_alone: false, held: 0 };
    let mut streams = [Line::default(), Line::default()];
    for step in 0..=*lines.iter().max().unwrap() {
        for (task, count) in lines.into_iter().enumerate().filter(|(_, count)| step <= *count) {
            let data = if step < count { vec![b'x'; LONGEST_LINE] } else { b"\n".to_vec() };
            let frame =
                Frame { stream: Stream::Stdout, offset: OutputOffset::START, time_ns: 0, data: data.into() };
            let prefix = ["a: ", "b: "][task];
            print_lines(&mut sink, &mut streams[task], prefix, &frame, &mut waiting).unwrap();
            while sink.out.has_backlog() {
                tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap()
                    .block_on(sink.out.drain())
                    .unwrap();
            }
        }
    }
    drop(sink);
    reading.join().unwrap().unwrap()
}

#[test]
fn long_lines_are_whole_where_no_person_reads_and_there_is_room() {
    let whole = |name: &str, count: usize| [name.as_bytes(), &vec![b'x'; count << 20], b"\n"].concat();
    let [few, many] = [whole("a: ", 3), whole("b: ", 5)];
    assert!(printed_of_two([3, 5], false) == [few, many].concat(), "each in one piece");
    let marked = |printed: Vec<u8>| String::from_utf8(printed).unwrap().matches(CONTINUATION_MARK).count();
    assert_eq!(marked(printed_of_two([3, 5], true)), 8, "a person sees pieces");
    let room = MAX_PENDING_BYTES / LONGEST_LINE;
    assert!(marked(printed_of_two([room, room / 2], false)) > 0, "memory has an end");
}

#[test]
fn a_flood_widens_its_pipe_and_nothing_else_does() {
    let (read, write) = io::pipe().unwrap();
    let (other, _write) = io::pipe().unwrap();
    let size = || rustix::pipe::fcntl_getpipe_size(&read).unwrap();
    let before = size();
    // Up to the limit of the system.
    let most = rustix::pipe::fcntl_setpipe_size(&other, WIDE_PIPE_BYTES).map_or(before, |_| WIDE_PIPE_BYTES);
    let mut sink = sink(write.into());
    sink.write(&vec![b'x'; WIDEN_PIPE_FROM_BYTES - 1]).unwrap();
    assert_eq!(size(), before);
    sink.write(&vec![b'x'; WIDEN_PIPE_FROM_BYTES]).unwrap();
    assert_eq!(size(), most);
}

#[test]
fn lines_come_together_as_far_as_a_pipe_takes_them_as_one() {
    let (reader, writer) = std::os::unix::net::UnixDatagram::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let mut sink = sink(writer.into());
    let mut line = Line::default();
    let data = [b'x'; 7_920];
    let data: Vec<u8> = data.chunks(97).flat_map(|line| [line, b"\n"].concat()).collect();
    let long = [vec![b'z'; 5_000], b"\n".to_vec()].concat();
    let data = Bytes::from([data, long, b"end\n".to_vec()].concat());
    let frame = Frame { stream: Stream::Stdout, offset: OutputOffset::START, time_ns: 0, data: data.clone() };
    print_lines(&mut sink, &mut line, "", &frame, &mut alone()).unwrap();
    let mut found = Vec::new();
    let mut buffer = [0; 8192];
    while let Ok(count) = reader.recv(&mut buffer) {
        found.push(buffer[..count].to_vec());
    }
    assert_eq!(found.concat(), data);
    for piece in &found {
        let lines = piece.split_inclusive(|byte| *byte == b'\n').count();
        assert!(piece.ends_with(b"\n") && (piece.len() <= WRITE_BATCH_BYTES || lines == 1), "{lines} lines");
    }
    assert_eq!(found.len(), 4, "two of many lines, the long one, and the last");
}

#[test]
fn lines_are_told_by_their_prefix_however_they_come() {
    let (mut read, write) = io::pipe().unwrap();
    let mut sink = sink(write.into());
    let (mut line, mut waiting) = (Line::default(), alone());
    for data in ["one\ntw", "o\n\nthr", "", "ee"] {
        let data = Bytes::from_static(data.as_bytes());
        let frame = Frame { stream: Stream::Stdout, offset: OutputOffset::START, time_ns: 0, data };
        print_lines(&mut sink, &mut line, "a: ", &frame, &mut waiting).unwrap();
    }
    drop(sink);
    let mut printed = String::new();
    io::Read::read_to_string(&mut read, &mut printed).unwrap();
    assert_eq!(printed, "a: one\na: two\na: \n");
    assert_eq!(line.pending, b"three");
}

#[test]
fn no_line_writes_over_the_name_before_it() {
    let table: [(&[u8], &[u8]); 4] = [
        (b"plain", b"plain"),
        (b"windows\r", b"windows"),
        (b"10 %\r20 %\r30 %", b"30 %"),
        (b"\rweb-2: backup ok", b"web-2: backup ok"),
    ];
    for (line, shown) in table {
        assert_eq!(last_written(line), shown, "{line:?}");
    }
}
