//! The forecast that retention makes is answered to those who may see all cameras, and told by figures.

mod common;

use archive::Sha256;
use common::{Site, forecast};
use tierline_http::{Action, ApiKeyConfig};

const PATH: &str = "/api/v1/storage/forecast";

#[test]
fn there_is_none_before_retention_has_begun_and_then_it_is_told_whole() {
    let site = Site::new();
    let service = site.serve(|_| ());
    let answer = service.get(PATH);
    assert_eq!((answer.status, answer.code().as_str()), (503, "not_ready"));
    assert!(answer.header("retry-after").is_some());
    site.index.pulse().set_forecast(forecast());
    let told = service.json(PATH);
    assert_eq!(told, serde_json::to_value(forecast()).expect("JSON"));
    assert_eq!(told["rules"][0]["risks"][0]["cause"], "disk");
    assert_eq!(told["streams"][0]["days_will_hold"], 30.0);
}

#[test]
fn it_has_the_fields_that_the_description_names() {
    let site = Site::new();
    site.index.pulse().set_forecast(forecast());
    let service = site.serve(|_| ());
    let (told, document) = (service.json(PATH), service.json("/openapi.json"));
    let mut pending = vec![(told, document["components"]["schemas"]["Forecast"].clone())];
    let mut seen = 0;
    while let Some((value, schema)) = pending.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                let described: Vec<_> = schema["properties"]
                    .as_object()
                    .expect("an object")
                    .keys()
                    .collect();
                let mut named: Vec<_> = fields.keys().collect();
                named.sort_unstable();
                let mut sorted = described.clone();
                sorted.sort_unstable();
                assert_eq!(named, sorted);
                seen += named.len();
                for (name, value) in &fields {
                    pending.push((value.clone(), schema["properties"][name].clone()));
                }
            }
            serde_json::Value::Array(all) => {
                pending.extend(all.into_iter().map(|one| (one, schema["items"].clone())));
            }
            _ => {}
        }
    }
    assert!(seen > 40, "{seen} fields");
}

#[test]
fn a_key_for_some_cameras_is_refused() {
    let key = |name: &str, cameras: &[&str]| ApiKeyConfig {
        name: name.to_owned(),
        sha256: Sha256::of(name.as_bytes()).to_string(),
        cameras: cameras.iter().map(|c| (*c).to_owned().into()).collect(),
        actions: vec![Action::View],
        redirect: false,
    };
    let site = Site::new();
    site.index.pulse().set_forecast(forecast());
    let service = site.serve(|config| config.api_keys = vec![key("all", &["*"]), key("lobby", &["lobby"])]);
    let with = |key: &str| service.get_with(PATH, &[("X-Api-Key", key)]);
    assert_eq!(with("all").status, 200);
    assert_eq!(
        (with("lobby").status, with("lobby").code().as_str()),
        (403, "forbidden")
    );
    assert_eq!(with("none").status, 401);
}

#[test]
fn figures_tell_what_is_at_risk_and_when_tiers_are_full() {
    let site = Site::new();
    let service = site.serve(|_| ());
    assert!(!service.get("/metrics").text().contains("retention_at_risk"));
    site.index.pulse().set_forecast(forecast());
    let text = service.get("/metrics").text();
    for line in [
        "tierline_retention_at_risk{rule=\"1\"} 1",
        "tierline_retention_breaks_in_days{rule=\"1\"} 4.5",
        "tierline_retention_will_hold_days{rule=\"1\"} 30.0",
        "tierline_days_to_full{tier=\"hot\"} 4.5",
        "tierline_days_to_full{tier=\"warm\"} 200.0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
}
