//! Reading timestamps and the window in which they count.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    Refusal,
    scheme::{TimeUnit, TimestampRule},
};
use crate::EventTime;

/// Reads a time strictly: digits only for numbers, RFC 3339 for text.
pub(super) fn read(unit: TimeUnit, text: &str) -> Option<EventTime> {
    let number = || {
        let digits = !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok()).flatten()
    };
    match unit {
        TimeUnit::S => EventTime::from_millis(number()?.checked_mul(1000)?),
        TimeUnit::Ms => EventTime::from_millis(number()?),
        TimeUnit::Rfc3339 => EventTime::from_rfc3339(text),
    }
}

/// Whether an authentic request is recent enough, in whole seconds, both ends included.
pub(super) fn check_window(rule: &TimestampRule, time: EventTime, now: SystemTime) -> Result<(), Refusal> {
    let age = age(time, now);
    if age > rule.past.get().as_secs().cast_signed() {
        return Err(Refusal::TimestampTooOld);
    }
    if -age > rule.future.get().as_secs().cast_signed() {
        return Err(Refusal::TimestampInFuture);
    }
    Ok(())
}

/// Whether an event is no older than this, in whole seconds, the end included.
pub(super) fn check_age(most: Duration, happened: EventTime, now: SystemTime) -> Result<(), Refusal> {
    let fits = age(happened, now) <= i64::try_from(most.as_secs()).unwrap_or(i64::MAX);
    fits.then_some(()).ok_or(Refusal::EventTooOld)
}

fn age(time: EventTime, now: SystemTime) -> i64 {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    now - time.unix_seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(read(TimeUnit::S, "1768219881").unwrap().unix_seconds(), 1_768_219_881);
        assert_eq!(read(TimeUnit::Ms, "1768219881999").unwrap().unix_seconds(), 1_768_219_881);
        for text in
            ["", "+1768219881", "-1", "1768219881.5", " 1", "1768219881 ", "yesterday", "9999999999999999"]
        {
            assert!(read(TimeUnit::S, text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn rfc3339_with_offset_and_nanoseconds() {
        let time = read(TimeUnit::Rfc3339, "2026-01-12T05:12:28-07:00").unwrap();
        assert_eq!(time.to_string(), "2026-01-12T12:12:28Z");
        let time = read(TimeUnit::Rfc3339, "2026-01-12T18:40:12.268041371Z").unwrap();
        assert_eq!(time.to_string(), "2026-01-12T18:40:12.268041371Z");
        for text in [
            "2026-01-12",
            "2026-01-12 18:40:12Z",
            "2026-01-12T18:40:12",
            "20260112T184012Z",
            "x",
            "é".repeat(20).as_str(),
        ] {
            assert!(read(TimeUnit::Rfc3339, text).is_none(), "{text:?}");
        }
    }
}
