//! Which bytes a request asks for (RFC 9110, section 14).

use actix_web::http::header::{self, HeaderMap};

/// The first byte and the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What the headers ask for of a file of this size and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    Part(Span),
    Unsatisfiable,
}

/// Several ranges at once, and what is no range of bytes, count as asking for all, as the RFC allows.
pub(super) fn wanted(headers: &HeaderMap, size: u64, version: &str) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_other_version = text(header::IF_RANGE).is_some_and(|known| known.trim() != version);
    match text(header::RANGE).and_then(|range| range.trim().strip_prefix("bytes=")) {
        Some(range) if !is_other_version => parse(range, size),
        _ => Wanted::All,
    }
}

fn parse(range: &str, size: u64) -> Wanted {
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number too large to be read is one beyond the end.
        is_plain.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let Some((first, last)) = range.split_once('-') else {
        return Wanted::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let span = match (number(first), number(last)) {
        (Some(start), Some(last)) if start > last => return Wanted::All,
        (Some(start), Some(last)) => Span {
            start,
            end: last.saturating_add(1).min(size),
        },
        (Some(start), None) if last.is_empty() => Span { start, end: size },
        (None, Some(count)) if first.is_empty() => Span {
            start: if count == 0 { size } else { size.saturating_sub(count) },
            end: size,
        },
        _ => return Wanted::All,
    };
    if span.start < span.end {
        Wanted::Part(span)
    } else {
        Wanted::Unsatisfiable
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn ask(range: &'static str, if_range: Option<&'static str>) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static(range));
        if let Some(known) = if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_static(known));
        }
        wanted(&headers, 100, "\"v\"")
    }

    #[test]
    fn one_range_is_understood() {
        let part = |start, end| Wanted::Part(Span { start, end });
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=10-19", part(10, 20)),
            ("bytes=90-", part(90, 100)),
            ("bytes=90-500", part(90, 100)),
            ("bytes=-7", part(93, 100)),
            ("bytes=-500", part(0, 100)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=20-10", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=", Wanted::All),
            ("lines=0-1", Wanted::All),
        ] {
            assert_eq!(ask(range, None), expected, "{range}");
        }
        assert_eq!(ask("bytes=0-0", Some("\"v\"")), part(0, 1));
        assert_eq!(ask("bytes=0-0", Some("\"w\"")), Wanted::All);
    }
}
