//! `Range` and `If-Range`, `If-None-Match`, `If-Match`: which part of a representation is asked for (RFC 9110, 13 and 14).
//!
//! Of ranges, one is answered. Several at once, units other than bytes and what is no range are ignored, as the standard
//! has it: the answer is the whole.

use std::ops::Range;

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// These bytes: some, all of which there are.
    Bytes(Range<u64>),
    /// 416: none of the bytes that are asked for is there.
    Unsatisfiable,
    /// 304: whoever asks has it.
    NotModified,
    /// 412: it is not what whoever asks wants it to be.
    Failed,
}

/// What is to be sent of `size` bytes that have this strong entity tag, quotes and all. `is_get` tells GET from HEAD, for
/// which ranges mean nothing.
pub(crate) fn part(headers: &HeaderMap, etag: &str, size: u64, is_get: bool) -> Part {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if text(IF_MATCH).is_some_and(|tags| !has(tags, etag, false)) {
        return Part::Failed;
    }
    if text(IF_NONE_MATCH).is_some_and(|tags| has(tags, etag, true)) {
        return Part::NotModified;
    }
    let Some(range) = text(RANGE).filter(|_| is_get) else { return Part::Whole };
    // A date is never a strong validator here.
    if text(IF_RANGE).is_some_and(|tag| tag.trim() != etag) {
        return Part::Whole;
    }
    parse(range, size)
}

/// Whether a list of tags has this one. Weak comparison takes `W/"x"` for `"x"`.
fn has(tags: &str, etag: &str, is_weak: bool) -> bool {
    // No tag of ours has a comma in it.
    tags.split(',').map(str::trim).any(|tag| {
        let tag = if is_weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        tag == "*" || tag == etag
    })
}

fn parse(text: &str, size: u64) -> Part {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More than there can be is as good as all.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let ends = || {
        let (unit, set) = text.split_once('=')?;
        let is_one = unit.trim().eq_ignore_ascii_case("bytes") && !set.contains(',');
        let (first, last) = set.split_once('-').filter(|_| is_one)?;
        let (first, last) = (first.trim(), last.trim());
        Some(match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
            (Some(first), None) if last.is_empty() => first..size,
            (None, Some(len)) if first.is_empty() => size.saturating_sub(len)..size,
            _ => return None,
        })
    };
    match ends() {
        None => Part::Whole,
        Some(range) if range.start >= range.end => Part::Unsatisfiable,
        Some(range) => Part::Bytes(range),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TAG: &str = "\"abc\"";

    fn asked(headers: &[(HeaderName, &str)]) -> Part {
        let map = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()));
        part(&map.collect(), TAG, 100, true)
    }

    #[test]
    fn one_range_is_answered() {
        for (range, expected) in [
            ("bytes=0-9", Part::Bytes(0..10)),
            ("Bytes = 5-5", Part::Bytes(5..6)),
            ("bytes=90-", Part::Bytes(90..100)),
            ("bytes=90-1000", Part::Bytes(90..100)),
            ("bytes=0-99999999999999999999999", Part::Bytes(0..100)),
            ("bytes=-10", Part::Bytes(90..100)),
            ("bytes=-1000", Part::Bytes(0..100)),
            ("bytes=100-", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=9-0", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=1--2", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("0-1", Part::Whole),
        ] {
            assert_eq!(asked(&[(RANGE, range)]), expected, "{range}");
        }
        assert_eq!(asked(&[]), Part::Whole);
        let range = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-"))]);
        assert_eq!(part(&range, TAG, 0, true), Part::Unsatisfiable);
        assert_eq!(part(&range, TAG, 10, false), Part::Whole);
    }

    #[test]
    fn conditions_are_looked_at_first() {
        let range = (RANGE, "bytes=0-9");
        assert_eq!(asked(&[(IF_NONE_MATCH, TAG)]), Part::NotModified);
        assert_eq!(asked(&[(IF_NONE_MATCH, "\"x\", W/\"abc\""), range.clone()]), Part::NotModified);
        assert_eq!(asked(&[(IF_NONE_MATCH, "*")]), Part::NotModified);
        assert_eq!(asked(&[(IF_NONE_MATCH, "\"x\""), range.clone()]), Part::Bytes(0..10));
        assert_eq!(asked(&[(IF_RANGE, TAG), range.clone()]), Part::Bytes(0..10));
        for other in ["\"x\"", "W/\"abc\"", "Sat, 29 Oct 1994 19:43:31 GMT", ""] {
            assert_eq!(asked(&[(IF_RANGE, other), range.clone()]), Part::Whole, "{other}");
        }
        assert_eq!(asked(&[(IF_MATCH, "\"x\""), range.clone()]), Part::Failed);
        assert_eq!(asked(&[(IF_MATCH, "W/\"abc\"")]), Part::Failed);
        assert_eq!(asked(&[(IF_MATCH, "\"x\", \"abc\""), range]), Part::Bytes(0..10));
    }
}
