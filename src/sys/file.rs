//! Reading and writing files in pieces. Knows nothing of what is in them.

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
};

use bytes::Bytes;

/// What `before` holds and what comes at `position`, at most `room` bytes more. Nothing is cleared before it is read
/// into, which would cost as much as the reading.
///
/// # Errors
/// When the disk does not give them.
pub fn read_more(file: &File, position: u64, before: &Bytes, room: usize) -> io::Result<Bytes> {
    let mut buffer = Vec::with_capacity(before.len() + room);
    buffer.extend_from_slice(before);
    rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), position)?;
    Ok(buffer.into())
}

/// Writes two pieces as one, both whole.
///
/// # Errors
/// When the disk does not take them; a part of them may be there then.
pub fn write_both(mut file: &File, head: &[u8], payload: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(payload)];
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
