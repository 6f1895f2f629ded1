//! The examples in `docs/http-api.md` are requests that are answered as it says.

mod common;

use archive::GapCause;
use common::{Site, epoch, forecast};
use serde_json::Value;

struct Example<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a str,
    status: u16,
    /// What the answer holds: JSON, header lines, or how its text begins.
    expected: &'a str,
}

/// Reads ```` ```http ```` blocks: request line, headers, body; then the status and what the answer holds.
fn examples(text: &str) -> Vec<Example<'_>> {
    let blocks = text
        .split("```http\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block));
    blocks.map(example).collect()
}

fn example(block: &str) -> Example<'_> {
    let parts: Vec<&str> = block.split("\n\n").collect();
    let (request, answer) = (parts[0], parts[parts.len() - 1]);
    let mut lines = request.lines();
    let (method, path) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .expect("request line");
    let (status, expected) = answer.split_once('\n').unwrap_or((answer, ""));
    Example {
        method,
        path,
        headers: lines.filter_map(|line| line.split_once(": ")).collect(),
        body: if parts.len() == 3 { parts[1] } else { "" },
        status: status.parse().unwrap_or_else(|_| panic!("no status in {block}")),
        expected,
    }
}

/// Whether `actual` has all that `expected` has.
fn holds(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(a), Value::Object(e)) => e.iter().all(|(k, v)| a.get(k).is_some_and(|a| holds(a, v))),
        (Value::Array(a), Value::Array(e)) => a.len() == e.len() && a.iter().zip(e).all(|(a, e)| holds(a, e)),
        _ => actual == expected,
    }
}

#[test]
fn every_example_is_answered_as_it_says() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 5);
    site.gap(
        "lobby/main",
        epoch().plus_micros(10_000_000),
        epoch().plus_micros(30_000_000),
        GapCause::Unreachable,
    );
    site.record("lobby/main", epoch().plus_micros(30_000_000), 5);
    site.index.pulse().set_forecast(forecast());
    let service = site.serve(|_| ());
    let examples = examples(include_str!("../../docs/http-api.md"));
    assert!(examples.len() >= 10, "{} examples", examples.len());
    for example in examples {
        let name = format!("{} {}", example.method, example.path);
        let answer = service.send(
            example.method,
            example.path,
            &example.headers,
            example.body.as_bytes(),
        );
        assert_eq!(answer.status, example.status, "{name}: {}", answer.text());
        if example.expected.starts_with('{') {
            let expected: Value = serde_json::from_str(example.expected).expect(&name);
            let actual: Value = serde_json::from_slice(&answer.body).expect(&name);
            assert!(
                holds(&actual, &expected),
                "{name}: {actual} does not hold {expected}"
            );
        } else if example.expected.starts_with('#') {
            assert!(
                answer.text().starts_with(example.expected),
                "{name}: {}",
                answer.text()
            );
        } else {
            for (header, value) in example.expected.lines().filter_map(|line| line.split_once(": ")) {
                assert_eq!(answer.header(&header.to_lowercase()), Some(value), "{name}");
            }
        }
    }
}
