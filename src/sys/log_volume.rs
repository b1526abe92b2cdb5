//! Limits the size of the log: peers that make a daemon log must not be able to fill the disk.
//!
//! A token bucket limits the bytes of the log. Its size permits the burst of a whole fleet that reconnects at
//! once; its slow rate limits what follows. The last part of the bucket is reserved for errors. Lines that do
//! not fit are counted, and the count is logged when there is room again.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::log_format::LogFormat;

/// Maximum number of bytes of a burst.
const AT_ONCE: f64 = 16.0 * 1024.0 * 1024.0;
/// Bytes of the burst that are reserved for errors.
const FOR_ERRORS: f64 = 1024.0 * 1024.0;
/// Bytes per second after a burst: 170 MB a day.
const A_SECOND: f64 = 2.0 * 1024.0;
/// Factor of the limit at log levels that are more detailed than the default.
const IN_DETAIL: f64 = 16.0;

#[derive(Debug)]
struct Bucket {
    /// Factor of the size and of the rate.
    scale: f64,
    left: f64,
    filled: Instant,
    left_out: u64,
}

impl Bucket {
    fn new(scale: f64, now: Instant) -> Self {
        Self { scale, left: AT_ONCE * scale, filled: now, left_out: 0 }
    }

    /// Takes the bytes of a line. Returns the number of lines that were left out before it; `None` if this
    /// line must be left out.
    fn take(&mut self, bytes: usize, is_error: bool, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + passed * A_SECOND * self.scale).min(AT_ONCE * self.scale);
        self.filled = now;
        #[expect(clippy::cast_precision_loss, reason = "no line is that long")]
        let left = self.left - bytes as f64;
        let reserved = if is_error { 0.0 } else { FOR_ERRORS };
        if left < reserved {
            self.left_out += 1;
            return None;
        }
        self.left = left;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Makes the writers of a log of limited volume.
#[derive(Debug)]
pub(super) struct Bounded<W> {
    writers: W,
    format: LogFormat,
    bucket: Arc<Mutex<Bucket>>,
}

impl<W> Bounded<W> {
    /// Creates a log with a full bucket, which is larger for a detailed log.
    pub(super) fn new(writers: W, format: LogFormat, is_detailed: bool) -> Self {
        let scale = if is_detailed { IN_DETAIL } else { 1.0 };
        Self { writers, format, bucket: Arc::new(Mutex::new(Bucket::new(scale, Instant::now()))) }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Bounded<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        self.line(self.writers.make_writer(), false)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        self.line(self.writers.make_writer_for(metadata), *metadata.level() == Level::ERROR)
    }
}

impl<W> Bounded<W> {
    fn line<L>(&self, writer: L, is_error: bool) -> Line<L> {
        Line { writer, format: self.format, bucket: Arc::clone(&self.bucket), is_error }
    }
}

/// The writer of one line, which it receives in a single write.
#[derive(Debug)]
pub(super) struct Line<L> {
    writer: L,
    format: LogFormat,
    bucket: Arc<Mutex<Bucket>>,
    is_error: bool,
}

impl<L: Write> Write for Line<L> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let taken = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(line.len(), self.is_error, Instant::now())
        };
        match taken {
            None => return Ok(line.len()),
            Some(0) => {}
            Some(count) => {
                let text = format!("{count} lines were left out here: there was too much to say");
                match self.format {
                    LogFormat::Text => writeln!(self.writer, "{text}")?,
                    LogFormat::Json => {
                        let line = serde_json::json!({ "level": "WARN", "message": text });
                        writeln!(self.writer, "{line}")?;
                    }
                }
            }
        }
        self.writer.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_errors_are_still_said() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(1.0, begun);
        let line = 1024;
        let mut flood =
            |is_error, now| (0..20_000).filter(|_| bucket.take(line, is_error, now).is_some()).count();
        assert_eq!(flood(false, begun), 15 * 1024);
        assert_eq!(flood(true, begun), 1024);
        // After a day the bucket holds no more than its size.
        assert_eq!(flood(false, begun + Duration::from_hours(24)), 15 * 1024);
    }

    #[test]
    fn what_was_left_out_is_told_with_the_next_line() {
        let mut bucket = Bucket::new(1.0, Instant::now());
        let now = Instant::now();
        bucket.left = FOR_ERRORS;
        assert_eq!(bucket.take(100, false, now), None);
        assert_eq!(bucket.take(100, false, now), None);
        assert_eq!(bucket.take(100, false, now + Duration::from_secs(1)), Some(2));
        assert_eq!(bucket.take(100, false, now + Duration::from_secs(1)), Some(0));

        let mut out = Vec::new();
        for format in [LogFormat::Text, LogFormat::Json] {
            let bucket = Arc::new(Mutex::new(Bucket { left_out: 3, ..Bucket::new(1.0, now) }));
            let mut line = Line { writer: &mut out, format, bucket, is_error: false };
            line.write_all(b"a line\n").unwrap();
        }
        let text = "3 lines were left out here: there was too much to say";
        let json = format!(r#"{{"level":"WARN","message":"{text}"}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{text}\na line\n{json}\na line\n"));
    }
}
