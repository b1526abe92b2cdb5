//! Going through a log file frame by frame, to find what is whole. Reads headers and checks payloads.

use std::{
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use crate::domain::frame::{HEADER, Header};

/// Calls `found` with the position of each whole frame; returns where the whole ones end.
pub(super) fn whole_frames(
    path: &Path,
    first_position: u64,
    mut found: impl FnMut(u64, &Header),
) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let mut position = first_position;
    let mut payload = Vec::new();
    loop {
        let mut head = [0; HEADER];
        if let Err(error) = file.read_exact(&mut head) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(position) } else { Err(error) };
        }
        let Ok(header) = Header::parse(&head) else { return Ok(position) };
        payload.resize(header.length as usize, 0);
        if let Err(error) = file.read_exact(&mut payload) {
            return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(position) } else { Err(error) };
        }
        if header.check(&payload).is_err() {
            return Ok(position);
        }
        found(position, &header);
        position += header.size();
    }
}
