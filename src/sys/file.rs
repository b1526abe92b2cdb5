//! Reads and writes files in pieces, and names files by the position of their first byte. Does not know the contents.

use std::{
    fs::File,
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

use bytes::Bytes;

/// Returns the path of the file of a sequence that begins at position `first`. The names sort as the numbers
/// do.
#[must_use]
pub fn numbered(directory: &Path, first: u64, ending: &str) -> PathBuf {
    directory.join(format!("{first:020}.{ending}"))
}

/// Returns the bytes of `before`, followed by at most `room` bytes that are read at `position`. The buffer is
/// not zeroed first, which would cost as much as the read.
///
/// # Errors
/// When the file cannot be read.
pub fn read_more(file: &File, position: u64, before: &Bytes, room: usize) -> io::Result<Bytes> {
    let mut buffer = Vec::with_capacity(before.len() + room);
    buffer.extend_from_slice(before);
    rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), position)?;
    Ok(buffer.into())
}

/// Returns the used space of the volume that contains a path, in percent of the space that users may use.
///
/// # Errors
/// When the system does not report it.
pub fn volume_used_percent(path: &Path) -> io::Result<u8> {
    let volume = rustix::fs::statvfs(path)?;
    let used = volume.f_blocks.saturating_sub(volume.f_bfree);
    let all = used + volume.f_bavail;
    Ok(u8::try_from((used * 100).div_ceil(all.max(1))).unwrap_or(100))
}

/// Syncs the names in a directory to the disk.
///
/// # Errors
/// When the directory does not exist, or the sync fails.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Enlarges the buffer of a pipe to a number of bytes. Anything else, and a pipe that may not grow, is left unchanged.
pub fn widen_pipe(pipe: &File, bytes: usize) {
    if rustix::pipe::fcntl_getpipe_size(pipe).is_ok_and(|size| size < bytes) {
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, bytes);
    }
}

/// Writes all pieces completely, one after the other, beginning at a position.
///
/// # Errors
/// When the write fails. A part of the pieces may be written then.
pub fn write_pieces_at(file: &File, position: u64, pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    let (mut rest, mut written) = (pieces, 0);
    // Skips empty pieces at the front: a write of 0 bytes would look like an error.
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
