//! How sizes, durations and paths look to people, and how durations are read from the command line. Pure.

use std::fmt::Write as _;
use std::time::Duration;

/// `1.5 MiB`, `12 B`; three significant digits or so, binary units.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0: it belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 99.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `840 ms`, `2.41 s`, `3 min 20 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_secs() {
        0 if time.as_millis() >= 10 => format!("{} ms", time.as_millis()),
        0 => format!("{:.1} ms", seconds * 1e3),
        1..60 => format!("{seconds:.2} s"),
        total @ 60..3600 => format!("{} min {} s", total / 60, total % 60),
        total => format!("{} h {} min", total / 3600, total % 3600 / 60),
    }
}

/// Bytes a second over `time`, as `310 MiB/s`.
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let nanos = time.as_nanos().max(1);
    let per_second = u128::from(bytes) * 1_000_000_000 / nanos;
    format!("{}/s", size(u64::try_from(per_second).unwrap_or(u64::MAX)))
}

/// `part` of `whole` as `12.3 %`; `-` when there is no whole.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let value = part as f64 * 100.0 / whole as f64;
    format!("{value:.1} %")
}

/// `whole / part` as `3.42x`; `-` when there is no part.
pub(crate) fn ratio(whole: u64, part: u64) -> String {
    quotient(whole, part).map_or_else(|| "-".to_owned(), |value| format!("{value:.2}x"))
}

/// `whole / part`, `None` when there is no part.
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
pub(crate) fn quotient(whole: u64, part: u64) -> Option<f64> {
    (part != 0).then(|| whole as f64 / part as f64)
}

/// `1 file`, `3 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// A path of an artifact for a terminal: UTF-8 as it is, control characters and other bytes as `\xNN`, so that a
/// hostile name cannot steer the terminal and every name stays on one line.
pub(crate) fn path(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                let mut utf8 = [0; 4];
                escape(&mut text, character.encode_utf8(&mut utf8).as_bytes());
            } else {
                text.push(character);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes that hexadecimal digits stand for, `None` if they are not that.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// Reads `10s`, `500ms`, `2m`, `1h`, `30d` or a bare number of seconds; a fraction is fine: `1.5s`. At most a year.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 86_400.0;
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit.trim() {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        other => return Err(format!("{other:?} is not a unit of time: use ms, s, m, h or d")),
    };
    let number: f64 = number.parse().map_err(|_| "a duration looks like 10s, 500ms, 2m or 1h".to_owned())?;
    let seconds = number * scale;
    if seconds > YEAR {
        return Err("a duration is at most a year".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Reads a number of bytes a second, as [`parse_size`] reads bytes, with or without `/s`.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    match parse_size(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err("a rate of 0 lets nothing through".to_owned()),
        rate => Ok(rate),
    }
}

/// Reads `10G`, `512 MiB`, `1.5T` or a bare number of bytes; K, M, G and T are binary, with or without `iB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let shift = match unit.trim().trim_end_matches("iB") {
        "" | "B" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("{:?} is not a unit of size: use K, M, G or T", unit.trim())),
    };
    let malformed = || "a size looks like 10G, 512M or 1.5T".to_owned();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, fraction) = (whole.parse::<u64>(), format!("0.{fraction}").parse::<f64>());
    let (Ok(whole), Ok(fraction)) = (whole, fraction) else { return Err(malformed()) };
    let unit = 1u64 << shift;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of one unit, which is at most 2^40"
    )]
    let part = (fraction * unit as f64) as u64;
    whole.checked_mul(unit).and_then(|whole| whole.checked_add(part)).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_three_digits_and_never_show_1024() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_399, "100 KiB"),
            (1_048_575, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn durations_are_shown_by_magnitude() {
        let table = [
            (0, "0.0 ms"),
            (7, "7.0 ms"),
            (840, "840 ms"),
            (2_410, "2.41 s"),
            (200_000, "3 min 20 s"),
            (7_260_000, "2 h 1 min"),
        ];
        for (ms, text) in table {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        let table = [
            ("10s", 10_000),
            ("500ms", 500),
            ("0", 0),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
        ];
        for (text, ms) in table {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "10 parsecs", "-1s", "1..2s", "1e9s", "99999999h", "NaN"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        let table =
            [("0", 0), ("7B", 7), ("1K", 1024), ("512 MiB", 512 << 20), ("1.5G", 3 << 29), ("16T", 16 << 40)];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "G", "1 parsec", "-1", "1..5G", "99999999999T", ".5G", "1GB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_sizes_a_second() {
        assert_eq!(parse_rate("10M"), Ok(10 << 20));
        assert_eq!(parse_rate("1.5 MiB/s"), Ok(3 << 19));
        for bad in ["0", "M/s", "/s", "1M/min"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_never_reach_the_terminal_raw() {
        assert_eq!(path("bin/é".as_bytes()), "bin/é");
        assert_eq!(path(b"a\x1b[2Jb\n\xff"), "a\\x1b[2Jb\\x0a\\xff");
    }

    #[test]
    fn hexadecimal_digits_come_back() {
        assert_eq!(unhex(&hex(b"\x00a\xff")), Some(b"\x00a\xff".to_vec()));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
    }

    #[test]
    fn counts_agree_with_their_nouns() {
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(2, "directory"), "2 directories");
    }

    #[test]
    fn rates_and_ratios_survive_zero() {
        assert_eq!(rate(0, Duration::ZERO), "0 B/s");
        assert_eq!(ratio(10, 0), "-");
        assert_eq!(percent(1, 0), "-");
        assert_eq!(percent(1, 8), "12.5 %");
    }
}
