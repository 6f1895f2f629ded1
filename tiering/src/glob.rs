//! Patterns of ids: `*` stands for any text, `?` for one character, everything else for itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A pattern of camera ids or stream names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(String);

impl From<&str> for Glob {
    fn from(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Glob {
    /// Whether the whole of `text` matches. Takes at most pattern times text steps.
    pub fn matches(&self, text: &str) -> bool {
        // Bit by bit of the pattern: reached[i] says whether its first i bytes match the text so far.
        let pattern = self.0.as_bytes();
        let mut reached = vec![false; pattern.len() + 1];
        let open = pattern.iter().take_while(|c| **c == b'*').count();
        reached.iter_mut().take(open + 1).for_each(|r| *r = true);
        for byte in text.bytes() {
            let mut next = vec![false; pattern.len() + 1];
            for (i, c) in pattern.iter().enumerate() {
                let before = reached.get(i).copied().unwrap_or_default();
                let here = reached.get(i + 1).copied().unwrap_or_default();
                let skipped = next.get(i).copied().unwrap_or_default();
                let matched = match c {
                    b'*' => before || here || skipped,
                    b'?' => before,
                    c => before && *c == byte,
                };
                next.iter_mut().skip(i + 1).take(1).for_each(|n| *n = matched);
            }
            reached = next;
        }
        reached.last().copied().unwrap_or_default()
    }

    /// Whether every id matches.
    pub fn is_everything(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }

    /// Whether any id could match: ids have no other characters.
    pub(crate) fn is_possible(&self) -> bool {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'*' | b'?');
        !self.0.is_empty() && self.0.bytes().all(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        for (pattern, text, expected) in [
            ("*", "lobby", true),
            ("**", "", true),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("lobby-*", "lobby-north", true),
            ("lobby-*", "lobby", false),
            ("*-north", "lobby-north", true),
            ("*-north", "lobby-north-2", false),
            ("cam-?", "cam-1", true),
            ("cam-?", "cam-", false),
            ("cam-?", "cam-12", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("?*", "", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(Glob::from(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let glob = Glob("*a".repeat(200));
        assert!(!glob.matches(&"a".repeat(199)));
    }
}
