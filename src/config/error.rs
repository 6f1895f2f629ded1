//! What is wrong with a configuration: where it stands, which key, and what to do.

use std::fmt;
use std::path::PathBuf;

use super::outline::{KeyPath, Outline};
use super::secret::redact_text;

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A file, and the line where that is known.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// Neither: a value that was left out.
    Default,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(super) origin: Origin,
    /// The key; empty where the whole file is meant.
    pub(super) key: String,
    /// What is wrong and what to do. Never holds credentials.
    pub(super) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File(file, Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            Origin::File(file, None) => write!(f, "{}: ", file.display())?,
            Origin::Variable(name) => write!(f, "environment variable {name}: ")?,
            Origin::Default => f.write_str("configuration: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// A configuration that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ConfigError(pub(super) Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// Says what is wrong in a file that could not be read into a configuration.
pub(super) fn in_file(file: PathBuf, text: &str, error: &toml::de::Error) -> Problem {
    let outline = Outline::of(text);
    let at = error.span().map(|span| span.start);
    let path = at.and_then(|at| outline.key_at(at));
    let line = at.map(|at| outline.line_at(at));
    let what = explain(error.message(), path);
    Problem {
        origin: Origin::File(file, line),
        key: path.map(KeyPath::to_string).unwrap_or_default(),
        what,
    }
}

/// Puts the deserializer's words into ours.
pub(super) fn explain(message: &str, path: Option<&KeyPath>) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((unknown, expected)) = rest.split_once('`')
    {
        return unknown_key(unknown, &quoted(expected));
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        let key = rest.trim_end_matches('`');
        return format!("`{key}` is missing: add it");
    }
    // The value may be a URL with a password that is no URL because of that password.
    let is_url = path.and_then(KeyPath::last_key) == Some("url");
    if is_url && !message.starts_with("invalid type") && !message.starts_with("write ") {
        return "not a URL: write rtsp://USER:PASSWORD@HOST:PORT/PATH, with /, @, :, # and ? \
                in user and password percent-encoded"
            .to_owned();
    }
    if message.starts_with("invalid socket address") {
        return "not an address: write ADDRESS:PORT, such as \"127.0.0.1:8080\" (a name is none)".to_owned();
    }
    redact_text(message.trim_end())
}

/// The texts between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn unknown_key(unknown: &str, known: &[&str]) -> String {
    let distance = |key: &str| strsim::damerau_levenshtein(&unknown.to_lowercase(), key);
    let nearest = known.iter().map(|key| (distance(key), *key)).min();
    // More than half of the letters wrong is another word.
    match nearest {
        Some((distance, key)) if distance * 2 <= key.len() => {
            format!("`{unknown}` is not a key; did you mean `{key}`?")
        }
        _ if known.is_empty() => format!("`{unknown}` is not a key"),
        _ => format!("`{unknown}` is not a key; known here are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_known_one() {
        let message = "unknown field `lisen`, expected one of `listen`, `hosts`";
        assert_eq!(
            explain(message, None),
            "`lisen` is not a key; did you mean `listen`?"
        );
        let message = "unknown field `zzz`, expected `listen` or `hosts`";
        assert_eq!(
            explain(message, None),
            "`zzz` is not a key; known here are listen, hosts"
        );
    }

    #[test]
    fn a_bad_url_is_never_repeated() {
        let url = KeyPath::default().key("cameras").index(0).key("url");
        let shown = explain("invalid port number: \"rtsp://admin:s3#cret@cam/\"", Some(&url));
        assert!(
            !shown.contains("s3") && shown.contains("percent-encoded"),
            "{shown}"
        );
    }
}
