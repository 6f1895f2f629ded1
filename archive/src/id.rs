//! Identities. Every id in a public signature is one of these types.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id, in bytes. Ids become path components and object names.
pub const ID_BYTES_MAX: usize = 64;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a valid {what}: use 1 to 64 of a-z, A-Z, 0-9, `.`, `_`, `-`, beginning with a letter or digit"
)]
pub struct InvalidId {
    what: &'static str,
    text: String,
}

/// One grammar for all ids: safe as a path component, in a URL and in a header without escaping.
fn validate(what: &'static str, text: &str) -> Result<Arc<str>, InvalidId> {
    let ok = (1..=ID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if ok {
        Ok(text.into())
    } else {
        let text = text.chars().take(80).flat_map(char::escape_default).collect();
        Err(InvalidId { what, text })
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                validate($what, text).map(Self)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// Who owns a camera. One tenant, `default`, where nothing else is configured.
    TenantId,
    "tenant id"
);
id!(
    /// A device.
    CameraId,
    "camera id"
);
id!(
    /// One encoded presentation of a camera, such as `main` or `sub`.
    StreamName,
    "stream name"
);
id!(
    /// A hold.
    HoldId,
    "hold id"
);

impl Default for TenantId {
    fn default() -> Self {
        Self("default".into())
    }
}

/// A stream by its full name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct StreamId {
    /// The owner of the camera.
    pub tenant: TenantId,
    /// The camera.
    pub camera: CameraId,
    /// The stream of that camera.
    pub stream: StreamName,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.camera, self.stream)
    }
}

/// A stream by the number that the index gave it; never reused.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct StreamNo(pub u32);

/// A segment: its stream and its place in the order in which the stream's segments were begun.
///
/// Order comes from `seq`, never from a clock.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId {
    /// The stream.
    pub stream: StreamNo,
    /// Counts up from 0 without holes for each stream.
    pub seq: u64,
}

/// How often this archive was opened for writing. A higher epoch outranks a lower one.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// A SHA-256 digest.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return None;
        }
        let mut out = [0; 32];
        for (to, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *to = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(out))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256 in hexadecimal"))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_safe_as_a_path_component() {
        for good in ["lobby", "Cam-01", "a.b_c", "0"] {
            assert_eq!(good.parse::<CameraId>().map(String::from).as_deref(), Ok(good));
        }
        let long = "x".repeat(65);
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-x",
            "a/b",
            "a\\b",
            "a b",
            "ü",
            "a\0",
            "%2e",
            long.as_str(),
        ] {
            assert!(bad.parse::<CameraId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_digest_reads_back_from_its_hexadecimal_form() {
        let digest = Sha256::of(b"tierline");
        assert_eq!(Sha256::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Sha256::from_hex(&"+1".repeat(32)), None);
        assert_eq!(Sha256::from_hex("ab"), None);
    }
}
