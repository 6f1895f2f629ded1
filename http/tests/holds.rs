//! Holds over the API: who may put them, what they say, and where they lie when they are answered.

mod common;

use archive::Sha256;
use common::{EPOCH, Service, Site, after, epoch};
use indexer::Cause;
use serde_json::{Value, json};
use tierline_http::{Action, ApiKeyConfig};

fn key(name: &str, cameras: &[&str], actions: &[Action]) -> ApiKeyConfig {
    ApiKeyConfig {
        name: name.to_owned(),
        sha256: Sha256::of(name.as_bytes()).to_string(),
        cameras: cameras.iter().map(|c| (*c).to_owned().into()).collect(),
        actions: actions.to_vec(),
        redirect: false,
    }
}

fn put(service: &Service, camera: &str, key: Option<&str>, more: Value) -> common::Answer {
    let mut body = json!({"camera": camera, "from": EPOCH, "to": after(4.0), "reason": "case 12"});
    let fields = more.as_object().expect("fields").clone();
    body.as_object_mut().expect("object").extend(fields);
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(key.map(|key| ("X-Api-Key", key)));
    service.send("POST", "/api/v1/holds", &headers, body.to_string().as_bytes())
}

fn read(answer: &common::Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[test]
fn a_hold_is_in_force_and_lies_beside_the_footage_when_it_is_answered() {
    let site = Site::new();
    let row = site.record("lobby/main", epoch(), 3);
    let service = site.serve(|_| ());
    let answer = put(&service, "lobby", None, json!({}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let hold = read(&answer);
    let id = hold["id"].as_str().expect("id");
    assert_eq!(answer.header("location"), Some(&*format!("/api/v1/holds/{id}")));
    let now = archive::WallTime::from_micros(epoch().micros() + 1_000_000_000_000_000);
    assert!(site.index.held(row.id.stream, row.range(), now).expect("held"));
    let file = site.disk.path(&format!(".holds/{id}.1.json"));
    let stored: Value = serde_json::from_slice(&std::fs::read(file).expect("file")).expect("JSON");
    assert_eq!(
        (&stored["reason"], &stored["author"]),
        (&json!("case 12"), &json!("local"))
    );

    let timeline = service.json(&format!(
        "/api/v1/cameras/lobby/timeline?from={EPOCH}&to={}",
        after(2.0)
    ));
    let shown =
        json!([{"id": id, "from": epoch(), "to": epoch().plus_micros(2_000_000), "reason": "case 12"}]);
    assert_eq!(timeline["holds"], shown);

    // Released: once, and then it stays as it is.
    let path = format!("/api/v1/holds/{id}");
    let blank = format!("{path}?reason=%20");
    assert_eq!(service.send("DELETE", &blank, &[], b"").code(), "invalid_body");
    let released = service.send("DELETE", &format!("{path}?reason=closed"), &[], b"");
    assert_eq!(released.status, 200, "{}", released.text());
    assert_eq!(read(&released)["released"]["reason"], "closed");
    assert!(!site.index.held(row.id.stream, row.range(), now).expect("held"));
    let again = service.send("DELETE", &format!("{path}?reason=again"), &[], b"");
    assert_eq!(read(&again)["released"]["reason"], "closed");
    assert!(site.disk.path(&format!(".holds/{id}.2.json")).exists());
    let list = service.json("/api/v1/holds?camera=lobby");
    assert_eq!(
        (
            list["holds"].as_array().map(Vec::len),
            &list["holds"][0]["active"]
        ),
        (Some(1), &json!(false))
    );
}

#[test]
fn who_may_not_see_a_camera_sees_and_touches_none_of_its_holds() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 3);
    site.record("garden/main", epoch(), 3);
    let service = site.serve(|config| {
        config.api_keys = vec![
            key("lobby-hold", &["lobby"], &[Action::Hold, Action::View]),
            key("lobby-view", &["lobby"], &[Action::View]),
            key("garden-hold", &["garden"], &[Action::Hold, Action::View]),
        ];
    });
    assert_eq!(put(&service, "lobby", None, json!({})).code(), "unauthenticated");
    assert_eq!(
        put(&service, "lobby", Some("lobby-view"), json!({})).code(),
        "forbidden"
    );
    let (hidden, unknown) = (
        put(&service, "lobby", Some("garden-hold"), json!({})),
        put(&service, "nowhere", Some("garden-hold"), json!({})),
    );
    assert_eq!(
        (hidden.code(), unknown.code()),
        ("not_found".into(), "not_found".into())
    );
    let held = put(&service, "lobby", Some("lobby-hold"), json!({}));
    assert_eq!(read(&held)["author"], "lobby-hold");
    let path = format!(
        "/api/v1/holds/{}?reason=x",
        read(&held)["id"].as_str().expect("id")
    );
    for (key, code) in [("garden-hold", "not_found"), ("lobby-view", "forbidden")] {
        assert_eq!(
            service.send("DELETE", &path, &[("X-Api-Key", key)], b"").code(),
            code
        );
    }
    let seen = |key: &str| {
        let answer = service.get_with("/api/v1/holds", &[("X-Api-Key", key)]);
        read(&answer)["holds"].as_array().map(Vec::len)
    };
    assert_eq!((seen("garden-hold"), seen("lobby-view")), (Some(0), Some(1)));
    let asked = service.get_with("/api/v1/holds?camera=lobby", &[("X-Api-Key", "garden-hold")]);
    assert_eq!(asked.code(), "not_found");
}

#[test]
fn what_would_hold_nothing_is_refused_and_what_was_deleted_is_told() {
    let site = Site::new();
    let first = site.record("lobby/main", epoch(), 3);
    site.record("lobby/main", first.wall_end, 3);
    let service = site.serve(|_| ());
    for (more, code) in [
        (json!({"to": EPOCH}), "invalid_range"),
        (json!({"reason": " "}), "invalid_body"),
        (json!({"until": "2026-03-01T12:00:00Z"}), "invalid_body"),
        (json!({"streams": ["sub"]}), "invalid_body"),
        (json!({"author": "somebody else"}), "invalid_body"),
        (json!({"to": "9999-01-01T00:00:00Z"}), "range_too_large"),
    ] {
        assert_eq!(put(&service, "lobby", None, more.clone()).code(), code, "{more}");
    }
    let cause = Cause {
        reason: "age".into(),
        rule: String::new(),
    };
    let begun = site
        .index
        .begin_deletion(&[(first.clone(), cause)], first.wall_end)
        .expect("begin");
    let mut batch = indexer::Batch::default();
    batch.delete(&begun[0]);
    site.index.commit(batch).expect("commit");
    let answer = put(&service, "lobby", None, json!({"to": first.wall_end}));
    assert_eq!((answer.status, answer.code().as_str()), (409, "already_deleted"));
    let answer = put(
        &service,
        "lobby",
        None,
        json!({"to": first.wall_end.plus_micros(1)}),
    );
    let gone = json!([{"stream": "main", "from": epoch(), "to": first.wall_end}]);
    assert_eq!((answer.status, &read(&answer)["already_gone"]), (201, &gone));
    assert_eq!(
        service.json("/api/v1/holds")["holds"].as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn an_incident_is_held_until_the_age_that_its_rule_names() {
    let site = Site::new();
    let begun = common::now().plus_micros(-3_600_000_000);
    site.record("lobby/main", begun, 3);
    site.record("garden/main", begun, 3);
    let service = site.serve(|_| ());
    let to = begun.plus_micros(4_000_000);
    let incident = |camera: &str, more: Value| {
        let mut fields = json!({"kind": "incident", "from": begun, "to": to});
        let more = more.as_object().expect("fields").clone();
        fields.as_object_mut().expect("object").extend(more);
        put(&service, camera, None, fields)
    };
    let held = read(&incident("lobby", json!({})));
    let until = to.plus(std::time::Duration::from_secs(60 * 24 * 3600));
    assert_eq!(
        (&held["kind"], &held["until"]),
        (&json!("incident"), &json!(until))
    );
    assert_eq!(incident("garden", json!({})).code(), "invalid_body");
    assert_eq!(incident("lobby", json!({"until": until})).code(), "invalid_body");
    // Sixty days after 2026-03-01 may have passed or not; after 1970 they have.
    let old = json!({"from": "1970-01-02T00:00:00Z", "to": "1970-01-03T00:00:00Z"});
    assert_eq!(incident("lobby", old).code(), "invalid_body");
}
