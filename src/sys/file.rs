//! Reads and writes files in pieces, and names files by the position of their first byte. Does not know the contents.

use std::{
    fs::File,
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

use bytes::Bytes;

/// The file of a sequence that begins at `first`; its name sorts as the number does.
#[must_use]
pub fn numbered(directory: &Path, first: u64, ending: &str) -> PathBuf {
    directory.join(format!("{first:020}.{ending}"))
}

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

/// How much of the volume that holds a path is used, in per cent of what its users may have.
///
/// # Errors
/// When the system does not tell.
pub fn volume_used_percent(path: &Path) -> io::Result<u8> {
    let volume = rustix::fs::statvfs(path)?;
    let used = volume.f_blocks.saturating_sub(volume.f_bfree);
    let all = used + volume.f_bavail;
    Ok(u8::try_from((used * 100).div_ceil(all.max(1))).unwrap_or(100))
}

/// Brings the names in a directory to the disk.
///
/// # Errors
/// When it is not there, or the disk does not take them.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Enlarges the buffer of a pipe to a number of bytes. Anything else, and a pipe that may not grow, is left unchanged.
pub fn widen_pipe(pipe: &File, bytes: usize) {
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|size| size < bytes) {
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, bytes);
    }
}

/// Writes pieces as one at a position, all of them whole.
///
/// # Errors
/// When the disk does not take them; a part of them may be there then.
pub fn write_pieces_at(file: &File, position: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    let (mut rest, mut written) = (pieces, 0);
    // Empty pieces in front would look like a file that takes nothing.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match rustix::io::pwritev(file, rest, position + written).map_err(io::Error::from) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                written += count as u64;
                IoSlice::advance_slices(&mut rest, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
