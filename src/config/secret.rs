//! Keeps credentials out of what is shown.

use toml::{Table, Value};

/// What stands where something was taken out.
const HIDDEN: &str = "***";

/// Takes user and password out of every URL in a text, well-formed or not.
pub(super) fn redact_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '`'))
            .unwrap_or(after.len());
        let (url, next) = after.split_at(end);
        out.push_str(before);
        out.push_str("://");
        match url.rsplit_once('@') {
            Some((_, host)) => out.extend([HIDDEN, "@", host]),
            None => out.push_str(url),
        }
        rest = next;
    }
    out.push_str(rest);
    out
}

/// Takes credentials, queries of camera URLs and hashes of API keys out of a configuration.
pub(super) fn redact_table(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        redact_value(key, value);
    }
}

fn redact_value(key: &str, value: &mut Value) {
    match value {
        Value::String(text) if key == "sha256" => HIDDEN.clone_into(text),
        Value::String(text) => {
            let mut shown = redact_text(text);
            // Some cameras take user and password in the query.
            if key == "url"
                && let Some((before, _)) = shown.split_once('?')
            {
                shown = format!("{before}?{HIDDEN}");
            }
            *text = shown;
        }
        Value::Array(values) => values.iter_mut().for_each(|v| redact_value(key, v)),
        Value::Table(table) => redact_table(table),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_out_wherever_a_url_stands() {
        for (text, shown) in [
            ("rtsp://admin:s3cret@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),
            (
                "bad: \"rtsp://a:p@ss/w@cam/x\", and `rtsp://b:c@d`",
                "bad: \"rtsp://***@cam/x\", and `rtsp://***@d`",
            ),
            ("rtsp://cam/live", "rtsp://cam/live"),
            ("no url", "no url"),
        ] {
            assert_eq!(redact_text(text), shown);
        }
    }

    #[test]
    fn queries_of_camera_urls_and_key_hashes_are_taken_out() {
        let text = "x = { sha256 = \"abc\", streams = [{ url = \"rtsp://u:p@cam/live?password=quiet\" }] }";
        let mut table: Table = toml::from_str(text).expect("TOML");
        redact_table(&mut table);
        let shown = table.to_string();
        assert!(
            !shown.contains("abc") && !shown.contains("quiet") && !shown.contains("u:p"),
            "{shown}"
        );
        assert!(shown.contains("rtsp://***@cam/live?***"), "{shown}");
    }
}
