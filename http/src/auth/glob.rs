//! Globs over camera ids: `*` stands for any text, `?` for any one character.

use serde::Deserialize;

/// A pattern of camera ids.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Glob(String);

impl From<String> for Glob {
    fn from(pattern: String) -> Self {
        Self(pattern)
    }
}

impl Glob {
    /// Whether `text` matches. Takes at most pattern times text steps.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where to go on when the text after the last `*` does not match: one character further.
        let mut star = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p + 1, t));
                    p += 1;
                }
                Some(b'?') => (p, t) = (p + 1, t + 1),
                Some(c) if text.get(t) == Some(c) => (p, t) = (p + 1, t + 1),
                _ => match star {
                    Some((after, from)) => {
                        star = Some((after, from + 1));
                        (p, t) = (after, from + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern.iter().skip(p).all(|&c| c == b'*')
    }

    /// Whether every text matches.
    pub fn is_everything(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("*", "lobby", true),
            ("*", "", true),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("lobby-*", "lobby-north", true),
            ("*-north", "lobby-north", true),
            ("*-north", "lobby-north-2", false),
            ("cam?", "cam1", true),
            ("cam?", "cam", false),
            ("a*b*c", "a-b-b-c", true),
            ("", "x", false),
            ("", "", true),
        ] {
            assert_eq!(
                Glob::from(pattern.to_owned()).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let glob = Glob::from("*a".repeat(40));
        assert!(!glob.matches(&"a".repeat(39)));
    }
}
