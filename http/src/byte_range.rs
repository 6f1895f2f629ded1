//! The `Range` header (RFC 9110 section 14), for one range.

use std::ops::Range;

/// What part of a representation a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: there was no range, or none that is understood, or more than one.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Nothing that exists: answer 416.
    Nothing,
}

/// Reads the header of a request for something `len` bytes long.
///
/// Several ranges are answered with the whole: that is allowed, and cannot be used to multiply work.
pub(crate) fn wanted(header: Option<&str>, len: u64) -> Wanted {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Wanted::Whole;
    };
    match (number(first), number(last)) {
        (Number::Absent, Number::Is(0)) => Wanted::Nothing,
        (Number::Absent, Number::Is(_)) if len == 0 => Wanted::Nothing,
        (Number::Absent, Number::Is(n)) => Wanted::Part(len.saturating_sub(n)..len),
        (Number::Is(from), _) if from >= len && !matches!(number(last), Number::Bad) => Wanted::Nothing,
        (Number::Is(from), Number::Absent) => Wanted::Part(from..len),
        (Number::Is(from), Number::Is(to)) if from <= to => Wanted::Part(from..to.saturating_add(1).min(len)),
        _ => Wanted::Whole,
    }
}

enum Number {
    Absent,
    Is(u64),
    Bad,
}

/// Digits only; a number too large for any file counts as the largest.
fn number(text: &str) -> Number {
    let text = text.trim();
    match text {
        "" => Number::Absent,
        _ if text.bytes().all(|b| b.is_ascii_digit()) => Number::Is(text.parse().unwrap_or(u64::MAX)),
        _ => Number::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        use Wanted::{Nothing, Part, Whole};
        for (header, expected) in [
            ("bytes=0-0", Part(0..1)),
            ("bytes=10-", Part(10..100)),
            ("bytes=10-19", Part(10..20)),
            ("bytes=10-1000", Part(10..100)),
            ("bytes=99-99999999999999999999999", Part(99..100)),
            ("bytes=-10", Part(90..100)),
            ("bytes=-1000", Part(0..100)),
            ("bytes=-0", Nothing),
            ("bytes=100-", Nothing),
            ("bytes=100-200", Nothing),
            ("bytes=99999999999999999999999-", Nothing),
            ("bytes=9e18-", Whole),
            ("bytes=20-10", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=-", Whole),
            ("bytes=--5", Whole),
            ("bytes=+1-5", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(wanted(Some(header), 100), expected, "{header}");
        }
        assert_eq!(wanted(None, 100), Whole);
    }

    #[test]
    fn nothing_of_an_empty_file_can_be_had() {
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
        assert_eq!(wanted(Some("bytes=-5"), 0), Wanted::Nothing);
    }

    #[test]
    fn a_thousand_ranges_cost_no_more_than_one_answer() {
        let many = format!("bytes={}", vec!["0-"; 1000].join(","));
        assert_eq!(wanted(Some(&many), 100), Wanted::Whole);
    }
}
