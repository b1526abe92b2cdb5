//! Times and figures in the few cells that a row has. Knows no clock and no zone but the one it is given.

use chrono::{DateTime, FixedOffset};

fn local(ms: u64, zone_s: i32) -> DateTime<FixedOffset> {
    let utc = i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    let zone = FixedOffset::east_opt(zone_s).or_else(|| FixedOffset::east_opt(0));
    zone.map_or_else(|| utc.fixed_offset(), |zone| utc.with_timezone(&zone))
}

/// A local time of day: `14:02:11`.
#[must_use]
pub fn clock_time(ms: u64, zone_s: i32) -> String {
    local(ms, zone_s).format("%H:%M:%S").to_string()
}

/// A local moment: the time alone on the day it is, else with its date.
#[must_use]
pub fn local_time(ms: u64, now_ms: u64, zone_s: i32) -> String {
    let moment = local(ms, zone_s);
    let same_day = moment.date_naive() == local(now_ms, zone_s).date_naive();
    moment.format(if same_day { "%H:%M:%S" } else { "%F %H:%M" }).to_string()
}

/// A moment with its zone: `2026-11-23T14:02:11+01:00`.
#[must_use]
pub fn iso_time(ms: u64, zone_s: i32) -> String {
    local(ms, zone_s).format("%FT%T%:z").to_string()
}

/// An uptime in three cells: `18d`, `5h`, `12m`.
#[must_use]
pub fn short_uptime(seconds: u64) -> String {
    match seconds {
        0..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_local_and_say_their_zone_where_they_leave_the_screen() {
        let ms = 1_795_442_531_000;
        assert_eq!(clock_time(ms, 3_600), "15:02:11");
        assert_eq!(local_time(ms, ms + 86_400_000, 0), "2026-11-23 14:02");
        assert_eq!(iso_time(ms, 3_600), "2026-11-23T15:02:11+01:00");
    }
}
