//! The description of the API describes the API.

mod common;

use std::collections::BTreeSet;

use common::Site;
use serde_json::Value;
use tierline_http::{Access, all_routes};

fn document() -> Value {
    let service = Site::new().serve(|_| ());
    let answer = service.get("/openapi.json");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[test]
fn it_has_the_routes_of_the_service_and_no_others() {
    let document = document();
    let methods = |path: &Value| -> Vec<String> {
        let keys = path.as_object().expect("operations").keys();
        keys.filter(|k| *k != "parameters")
            .map(|k| k.to_uppercase())
            .collect()
    };
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, ops)| methods(ops).into_iter().map(|m| (m, path.clone())))
        .collect();
    let served: BTreeSet<(String, String)> = all_routes()
        .iter()
        .map(|r| (r.method.to_owned(), r.path.to_owned()))
        .collect();
    assert_eq!(described, served);
    for route in all_routes() {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        assert_eq!(
            operation["security"] == serde_json::json!([]),
            route.access == Access::Public,
            "{}",
            route.path
        );
    }
}

#[test]
fn every_reference_in_it_leads_somewhere_and_every_path_parameter_is_described() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("local");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (path, item) in document["paths"].as_object().expect("paths") {
        for name in path.split(['{', '}']).skip(1).step_by(2) {
            let operations = item.as_object().expect("operations");
            let described = operations.iter().all(|(key, operation)| {
                key == "parameters" || has(&document, item, name) || has(&document, operation, name)
            });
            assert!(described, "{path} does not describe {name}");
        }
    }
}

fn has(document: &Value, holder: &Value, name: &str) -> bool {
    let resolve = |p: &Value| match p["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).cloned().unwrap_or_default(),
        None => p.clone(),
    };
    let all = holder["parameters"].as_array().into_iter().flatten().map(resolve);
    all.into_iter().any(|p| p["name"] == name && p["in"] == "path")
}

fn collect(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|v| collect(v, out));
        }
        Value::Array(all) => all.iter().for_each(|v| collect(v, out)),
        _ => {}
    }
}
