//! Durations, sizes and rates as people write them in the configuration: `"90s"`, `"1h30m"`, `"30d"`; `"128MiB"`,
//! `"2TB"`; `"200Mbit"` a second.
//!
//! In a `serde` type: `#[serde(with = "archive::units::duration")]` on a `Duration`,
//! `#[serde(with = "archive::units::size")]` on a `u64` of bytes; `optional_duration`, `optional_size` and
//! `optional_rate`, with `#[serde(default)]`, on an `Option` of them.

use std::fmt;
use std::time::Duration;

/// Units of time and their milliseconds, the largest first.
const TIMES: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
/// Units of size and their bytes. Those that sizes are shown in come first, the largest of them first.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
];
const SIZES_SHOWN: usize = 5;
/// Units of a rate and their bytes a second, the largest first.
const RATES: [(&str, u64); 3] = [("Gbit", 125_000_000), ("Mbit", 125_000), ("kbit", 125)];

/// Why a text is no duration or no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: write {example}")]
pub struct InvalidQuantity {
    what: &'static str,
    example: &'static str,
    text: String,
}

impl InvalidQuantity {
    fn new(what: &'static str, example: &'static str, text: &str) -> Self {
        let text = text.chars().take(40).flat_map(char::escape_default).collect();
        Self { what, example, text }
    }
}

/// Reads a number and its unit off the front of `text`; the unit reaches to the next digit.
fn term<'a>(text: &'a str, units: &[(&str, u64)]) -> Option<(u64, &'a str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(unit_at);
    let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim())?;
    Some((number.parse::<u64>().ok()?.checked_mul(*scale)?, rest))
}

/// Reads a duration: one or more whole numbers, each with `ms`, `s`, `m`, `h`, `d` or `w`.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidQuantity> {
    let invalid = || {
        InvalidQuantity::new(
            "duration",
            "\"500ms\", \"90s\", \"10m\", \"24h\" or \"30d\"",
            text,
        )
    };
    let mut rest = text.trim();
    let mut total: u64 = 0;
    loop {
        let (ms, after) = term(rest, &TIMES).ok_or_else(invalid)?;
        total = total.checked_add(ms).ok_or_else(invalid)?;
        rest = after;
        if rest.is_empty() {
            return Ok(Duration::from_millis(total));
        }
    }
}

/// Writes a duration so that [`parse_duration`] reads it back; parts below a millisecond are left out.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fitting = TIMES
        .iter()
        .find(|(name, scale)| *name != "w" && ms >= *scale && ms.is_multiple_of(*scale));
    match fitting {
        Some((name, scale)) => format!("{}{name}", ms / scale),
        None => "0s".to_owned(),
    }
}

/// Reads a size in bytes: a whole number with `B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB` or `TiB`.
pub fn parse_size(text: &str) -> Result<u64, InvalidQuantity> {
    let invalid = || InvalidQuantity::new("size", "\"128MiB\", \"500GB\" or \"2TB\"", text);
    match term(text.trim(), &SIZES) {
        Some((bytes, "")) => Ok(bytes),
        _ => Err(invalid()),
    }
}

/// Writes a size so that [`parse_size`] reads it back.
pub fn format_size(bytes: u64) -> String {
    let shown = SIZES.iter().take(SIZES_SHOWN);
    let fitting = shown
        .into_iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    fitting.map_or_else(
        || "0B".to_owned(),
        |(name, scale)| format!("{}{name}", bytes / scale),
    )
}

/// Reads a rate in bytes a second: a whole number with `kbit`, `Mbit` or `Gbit`, or a size.
pub fn parse_rate(text: &str) -> Result<u64, InvalidQuantity> {
    let invalid = || InvalidQuantity::new("rate", "\"200Mbit\" or \"25MB\", for each second", text);
    match term(text.trim(), &RATES) {
        Some((bytes, "")) => Ok(bytes),
        _ => parse_size(text).map_err(|_| invalid()),
    }
}

/// Writes a rate so that [`parse_rate`] reads it back.
pub fn format_rate(bytes: u64) -> String {
    let fitting = RATES
        .iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    fitting.map_or_else(
        || format_size(bytes),
        |(name, scale)| format!("{}{name}", bytes / scale),
    )
}

/// A quantity as it is written. Who writes a number alone is told what is missing.
struct Written(String);

impl<'de> serde::Deserialize<'de> for Written {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity with its unit in quotes, like \"10s\" or \"20GB\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<Written, E> {
                Ok(Written(text.to_owned()))
            }
        }
        d.deserialize_str(Text)
    }
}

macro_rules! with {
    ($(#[$doc:meta])* $one:ident, $(#[$optional_doc:meta])* $optional:ident, $type:ty, $parse:path, $format:path) => {
        $(#[$doc])*
        pub mod $one {
            use serde::de::Error;
            use serde::{Deserialize, Deserializer, Serializer};

            /// Writes the text.
            pub fn serialize<S: Serializer>(value: &$type, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&$format(*value))
            }

            /// Reads the text.
            pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<$type, D::Error> {
                $parse(&super::Written::deserialize(d)?.0).map_err(D::Error::custom)
            }
        }

        $(#[$optional_doc])*
        pub mod $optional {
            use serde::de::Error;
            use serde::{Deserialize, Deserializer, Serializer};

            /// Writes the text, if there is one.
            pub fn serialize<S: Serializer>(value: &Option<$type>, s: S) -> Result<S::Ok, S::Error> {
                match value {
                    Some(value) => s.serialize_some(&$format(*value)),
                    None => s.serialize_none(),
                }
            }

            /// Reads the text, if there is one.
            pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<$type>, D::Error> {
                let text = Option::<super::Written>::deserialize(d)?;
                text.map(|text| $parse(&text.0)).transpose().map_err(D::Error::custom)
            }
        }
    };
}

with!(
    /// For `#[serde(with = …)]` on a `Duration`.
    duration,
    /// For `#[serde(with = …)]` on an `Option<Duration>`.
    optional_duration,
    std::time::Duration,
    crate::units::parse_duration,
    crate::units::format_duration
);
with!(
    /// For `#[serde(with = …)]` on a `u64` of bytes.
    size,
    /// For `#[serde(with = …)]` on an `Option<u64>` of bytes.
    optional_size,
    u64,
    crate::units::parse_size,
    crate::units::format_size
);

with!(
    /// For `#[serde(with = …)]` on a `u64` of bytes a second.
    rate,
    /// For `#[serde(with = …)]` on an `Option<u64>` of bytes a second.
    optional_rate,
    u64,
    crate::units::parse_rate,
    crate::units::format_rate
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bits_or_bytes_a_second() {
        for (text, bytes, shown) in [
            ("200Mbit", 25_000_000, "200Mbit"),
            ("1 Gbit", 125_000_000, "1Gbit"),
            ("25MB", 25_000_000, "200Mbit"),
            ("1MiB", 1 << 20, "1MiB"),
            ("8kbit", 1000, "8kbit"),
        ] {
            assert_eq!(parse_rate(text), Ok(bytes), "{text}");
            assert_eq!(format_rate(bytes), shown);
            assert_eq!(parse_rate(shown), Ok(bytes));
        }
        for bad in ["200", "Mbit", "200Mbit/s", "1.5Mbit", "-1Mbit", "200mbit"] {
            let error = parse_rate(bad).expect_err(bad).to_string();
            assert!(error.contains("\"200Mbit\""), "{error}");
        }
    }

    #[test]
    fn durations_read_back_in_the_largest_whole_unit() {
        for (text, ms, shown) in [
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("1h30m", 5_400_000, "90m"),
            ("24h", 86_400_000, "1d"),
            ("2w", 14 * 86_400_000, "14d"),
            ("1d 12h", 36 * 3_600_000, "36h"),
            ("0s", 0, "0s"),
        ] {
            let duration = parse_duration(text).expect(text);
            assert_eq!(duration, Duration::from_millis(ms), "{text}");
            assert_eq!(format_duration(duration), shown);
        }
    }

    #[test]
    fn sizes_read_back_in_the_largest_whole_binary_unit() {
        for (text, bytes, shown) in [
            ("128MiB", 128 << 20, "128MiB"),
            ("1024 KiB", 1 << 20, "1MiB"),
            ("2TB", 2_000_000_000_000, "1953125000KiB"),
            ("0B", 0, "0B"),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(format_size(bytes), shown);
            assert_eq!(parse_size(shown), Ok(bytes));
        }
    }

    #[test]
    fn a_number_without_its_unit_and_what_does_not_fit_are_refused() {
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5h",
            "10 minutes",
            "1h30",
            "1S",
            "99999999999999999999s",
            "300000000000w",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "10",
            "MiB",
            "-1B",
            "1.5GiB",
            "1GiB2MiB",
            "10mb",
            "99999999TiB",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        let error = parse_duration("10 minutes")
            .expect_err("no unit of ours")
            .to_string();
        assert!(
            error.contains("10 minutes") && error.contains("\"90s\""),
            "{error}"
        );
    }
}
