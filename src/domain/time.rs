//! Times and durations as people read them. Uses no clock and no time zone except the one that the caller
//! passes.

use std::{
    fmt::Display,
    ops::{Add, Sub},
    time::Duration,
};

use chrono::{DateTime, TimeZone};
use serde::{Deserialize, Serialize};

/// A moment by a wall clock, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// Returns the time from an earlier moment to this one; zero if that one is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for UnixMs {
    type Output = Self;

    /// Returns the moment that is a duration later; the last one that can be expressed if that is earlier.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(milliseconds(duration)))
    }
}

impl Sub<Duration> for UnixMs {
    type Output = Self;

    /// Returns the moment that is a duration earlier; the epoch if that is later.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(milliseconds(duration)))
    }
}

/// Returns a duration in whole milliseconds, as the wire and the store have it.
#[must_use]
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn in_zone<Z: TimeZone>(moment: UnixMs, zone: &Z) -> DateTime<Z> {
    let utc = i64::try_from(moment.0).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    utc.with_timezone(zone)
}

/// Formats a time in a zone: only the time of day if it is today, otherwise with its date.
#[must_use]
pub fn local_time<Z: TimeZone<Offset: Display>>(moment: UnixMs, now: UnixMs, zone: &Z) -> String {
    let (moment, now) = (in_zone(moment, zone), in_zone(now, zone));
    let format = if moment.date_naive() == now.date_naive() { "%H:%M:%S" } else { "%F %H:%M:%S" };
    moment.format(format).to_string()
}

/// Formats the time of day, with milliseconds: `14:02:11.250`.
#[must_use]
pub fn time_of_day<Z: TimeZone<Offset: Display>>(moment: UnixMs, zone: &Z) -> String {
    in_zone(moment, zone).format("%H:%M:%S%.3f").to_string()
}

/// Formats a time with its zone, for files and other programs: `2026-11-23T14:02:11+01:00`.
#[must_use]
pub fn iso_time<Z: TimeZone<Offset: Display>>(moment: UnixMs, zone: &Z) -> String {
    in_zone(moment, zone).format("%FT%T%:z").to_string()
}

/// Formats a duration for a sentence: `12 ms`, `1.2 s`, `3 min 20 s`, `5 h 2 min`, `3 d 4 h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let (seconds, ms) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Formats a duration in at most four characters: `12ms`, `3.1s`, and from ten seconds on as [`short_age`].
#[must_use]
pub fn short_duration(duration: Duration) -> String {
    let ms = milliseconds(duration);
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => short_age(duration),
    }
}

/// Formats an age in at most three characters: `12s`, `3m`, `5h`, `18d`.
#[must_use]
pub fn short_age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6_000 => format!("{}m", seconds / 60),
        6_000..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Formats a duration as a stopwatch does: `1:12`, `2:03:09`.
#[must_use]
pub fn stopwatch(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, Utc};

    use super::*;

    #[test]
    fn times_are_local_and_say_their_zone_where_they_leave_the_screen() {
        let moment = UnixMs(1_795_442_531_250);
        let east = FixedOffset::east_opt(3_600).unwrap();
        assert_eq!(time_of_day(moment, &east), "15:02:11.250");
        assert_eq!(local_time(moment, moment + Duration::from_secs(1), &Utc), "14:02:11");
        assert_eq!(local_time(moment, moment + Duration::from_hours(24), &Utc), "2026-11-23 14:02:11");
        assert_eq!(iso_time(moment, &east), "2026-11-23T15:02:11+01:00");
    }

    #[test]
    fn a_sentence_names_two_units_at_most() {
        for (ms, text) in [
            (12, "12 ms"),
            (1_249, "1.2 s"),
            (200_000, "3 min 20 s"),
            (18_120_000, "5 h 2 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn a_row_names_one_unit() {
        for (ms, took, age) in [
            (12, "12ms", "0s"),
            (3_149, "3.1s", "3s"),
            (42_000, "42s", "42s"),
            (300_000, "5m", "5m"),
            (7_200_000, "2h", "2h"),
            (1_555_200_000, "18d", "18d"),
        ] {
            let ms = Duration::from_millis(ms);
            assert_eq!((short_duration(ms).as_str(), short_age(ms).as_str()), (took, age));
        }
    }

    #[test]
    fn a_stopwatch_shows_hours_where_there_are_any() {
        for (s, shown) in [(7, "0:07"), (72, "1:12"), (7_389, "2:03:09")] {
            assert_eq!(stopwatch(Duration::from_secs(s)), shown);
        }
    }
}
