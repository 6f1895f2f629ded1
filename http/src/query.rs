//! Query parameters: each known, at most once, and checked.

use std::time::Duration;

use archive::{TimeRange, WallTime};
use axum::http::Uri;
use url::form_urlencoded;

use crate::problem::{Code, Problem};

const QUERY_BYTES_MAX: usize = 4096;

/// The parameters of a request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of `uri`. A parameter that is not among `known` is refused, because a misspelt one
    /// would change what is meant; those that begin with `_` belong to players and are passed over.
    pub(crate) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let text = uri.query().unwrap_or_default();
        let invalid = |detail: String| Err(Problem::new(Code::InvalidParameter, detail));
        if text.len() > QUERY_BYTES_MAX {
            return invalid(format!("the query is longer than {QUERY_BYTES_MAX} bytes"));
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if name.starts_with('_') {
                continue;
            }
            if !known.contains(&name.as_ref()) {
                let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
                return invalid(format!(
                    "`{shown}` is not a parameter here; there are: {}",
                    known.join(", ")
                ));
            }
            if pairs.iter().any(|(n, _)| *n == name) {
                return invalid(format!("`{name}` is given twice"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A parameter that is a time.
    pub(crate) fn time(&self, name: &str) -> Result<Option<WallTime>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        // A zone's `+` that was not escaped arrives as a space.
        let text = if text.contains('T') {
            text.replace(' ', "+")
        } else {
            text.to_owned()
        };
        text.parse()
            .map(Some)
            .map_err(|e| Problem::new(Code::InvalidTime, format!("{name}: {e}")))
    }

    /// A parameter that is a time and must be there.
    pub(crate) fn required_time(&self, name: &str) -> Result<WallTime, Problem> {
        let missing = || Problem::new(Code::InvalidTime, format!("the parameter `{name}` is missing"));
        self.time(name)?.ok_or_else(missing)
    }

    /// `from` and `to`, which must both be there, not run backwards and not lie further apart than `max`.
    pub(crate) fn range(&self, max: Duration) -> Result<TimeRange, Problem> {
        let (from, to) = (self.required_time("from")?, self.required_time("to")?);
        forwards(from, to, max)
    }
}

/// The range `from..to`.
pub(crate) fn forwards(from: WallTime, to: WallTime, max: Duration) -> Result<TimeRange, Problem> {
    let range = TimeRange::new(from, to).filter(|range| !range.is_empty());
    let range = range.ok_or_else(|| Problem::new(Code::InvalidRange, "`from` must lie before `to`"))?;
    if u128::from(range.micros()) > max.as_micros() {
        let hours = max.as_secs() / 3600;
        return Err(Problem::new(
            Code::RangeTooLarge,
            format!("at most {hours} hours at once"),
        ));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(query: &str) -> Option<Code> {
        let uri: Uri = format!("/x?{query}").parse().expect("uri");
        let range = Query::parse(&uri, &["from", "to"]).and_then(|q| q.range(Duration::from_secs(3600)));
        range.err().map(|p| p.code())
    }

    #[test]
    fn times_are_rfc_3339_or_microseconds() {
        assert_eq!(
            code("from=2026-11-20T08:00:00Z&to=2026-11-20T09:00:00%2B00:00"),
            None
        );
        assert_eq!(
            code("from=2026-11-20T08:00:00+00:00&to=2026-11-20T09:00:00Z"),
            None
        );
        assert_eq!(code("from=1000000&to=2000000&_HLS_msn=3"), None);
    }

    #[test]
    fn what_is_no_time_no_range_or_too_long_is_refused() {
        for bad in [
            "",
            "from=1",
            "from=NaN&to=2",
            "from=1e30&to=2",
            "from=-1&to=2",
            "from=2026-11-20T08:00:00&to=2",
        ] {
            assert_eq!(code(bad), Some(Code::InvalidTime), "{bad}");
        }
        assert_eq!(code("from=2&to=1"), Some(Code::InvalidRange));
        assert_eq!(code("from=1&to=1"), Some(Code::InvalidRange));
        assert_eq!(code("from=0&to=9998-12-31T00:00:00Z"), Some(Code::RangeTooLarge));
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        for bad in [
            "form=1&to=2",
            "from=1&from=1&to=2",
            "__proto=1&from=1&to=2&constructor=1",
        ] {
            assert_eq!(code(bad), Some(Code::InvalidParameter), "{bad}");
        }
    }
}
