//! Every route that names a camera, asked without a key, with a wrong one, with one for another camera, and
//! with one that may do something else. The list of routes is the service's own.

mod common;

use archive::Sha256;
use common::{Answer, EPOCH, Service, Site, after, epoch};
use tierline_http::{Access, Action, ApiKeyConfig, Route, all_routes};

fn key(name: &str, cameras: &[&str], actions: &[Action]) -> ApiKeyConfig {
    ApiKeyConfig {
        name: name.to_owned(),
        sha256: Sha256::of(name.as_bytes()).to_string(),
        cameras: cameras.iter().map(|c| (*c).to_owned().into()).collect(),
        actions: actions.to_vec(),
        redirect: false,
    }
}

const ALL: [Action; 4] = [Action::View, Action::Export, Action::Hold, Action::Admin];

/// A service with the cameras `lobby` and `garden`, both recorded, and keys whose text is their name.
fn service() -> (Site, Service, String) {
    let site = Site::new();
    let init = site.record("lobby/main", epoch(), 3).init.to_string();
    site.record("garden/main", epoch(), 3);
    let service = site.serve(|config| {
        config.api_keys = vec![
            key("everything", &["*"], &ALL),
            key("lobby-all", &["lobby"], &ALL),
            key("garden-all", &["gard*"], &ALL),
            key("lobby-view", &["lobby"], &[Action::View]),
            key("lobby-export", &["lobby"], &[Action::Export]),
        ];
    });
    (site, service, init)
}

/// A request that would succeed with the right key.
fn path(route: &Route, camera: &str, init: &str) -> String {
    let file = if route.path.contains("/init/") {
        format!("{init}.mp4")
    } else {
        "0.mp4".to_owned()
    };
    let path = route
        .path
        .replace("{camera}", camera)
        .replace("{stream}", "main")
        .replace("{file}", &file);
    let query = match path.rsplit('/').next().unwrap_or_default() {
        "timeline" | "export.mp4" | "index.m3u8" | "media.m3u8" => format!("?from={EPOCH}&to={}", after(4.0)),
        "seek" | "snapshot.jpg" => format!("?at={}", after(1.0)),
        _ => String::new(),
    };
    path + &query
}

fn send(service: &Service, route: &Route, path: &str, key: Option<&str>) -> Answer {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let mut headers = vec![("Content-Type", "application/json")];
    if let Some(bearer) = &bearer {
        headers.push(("Authorization", bearer));
    }
    let body: &[u8] = match route.method {
        "POST" => br#"{"id":"lobby","streams":[{"name":"main","url":"rtsp://10.0.0.2/"}]}"#,
        "PATCH" => b"{}",
        _ => b"",
    };
    service.send(route.method, path, &headers, body)
}

fn camera_routes() -> Vec<Route> {
    let routes: Vec<Route> = all_routes()
        .into_iter()
        .filter(|route| route.path.contains("{camera}"))
        .collect();
    assert!(routes.len() >= 13, "the table lost routes");
    routes
}

#[test]
fn no_camera_route_answers_without_the_right_key() {
    let (_site, service, init) = service();
    for route in camera_routes() {
        let lobby = path(&route, "lobby", &init);
        let name = format!("{} {lobby}", route.method);
        for wrong in [None, Some("wrong"), Some(""), Some("lobby")] {
            let answer = send(&service, &route, &lobby, wrong);
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (401, "unauthenticated"),
                "{name} with {wrong:?}"
            );
            assert!(answer.header("www-authenticate").is_some());
        }
        // To the holder of another camera's key it does not exist, and looks like one that never did.
        let forbidden = send(&service, &route, &lobby, Some("garden-all"));
        let unknown = send(
            &service,
            &route,
            &path(&route, "nowhere", &init),
            Some("everything"),
        );
        assert_eq!((forbidden.status, unknown.status), (404, 404), "{name}");
        let alike = |answer: &Answer| {
            let mut problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            problem["request_id"].take();
            problem["instance"].take();
            problem
        };
        assert_eq!(alike(&forbidden), alike(&unknown), "{name}");
    }
}

#[test]
fn every_camera_route_answers_the_right_key_and_refuses_other_actions() {
    let (_site, service, init) = service();
    for route in camera_routes() {
        let Access::Key(action) = route.access else {
            panic!("{} is public", route.path)
        };
        let lobby = path(&route, "lobby", &init);
        let name = format!("{} {lobby}", route.method);
        for (key, may) in [("lobby-view", Action::View), ("lobby-export", Action::Export)] {
            if may != action {
                let answer = send(&service, &route, &lobby, Some(key));
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (403, "forbidden"),
                    "{name} with {key}"
                );
            }
        }
        // There is footage but no camera to change, and nothing is live: those get past the key and no further.
        let answer = send(&service, &route, &lobby, Some("lobby-all"));
        let past = matches!(route.method, "PATCH" | "DELETE") || route.path.ends_with("live.m3u8");
        assert_eq!(
            answer.status,
            if past { 404 } else { 200 },
            "{name}: {}",
            answer.text()
        );
    }
}

#[test]
fn lists_and_figures_show_only_what_the_key_sees() {
    let (_site, service, _) = service();
    let with = |path: &str, key: &str| service.get_with(path, &[("X-Api-Key", key)]);
    let list = with("/api/v1/cameras", "garden-all").text();
    assert!(list.contains("garden") && !list.contains("lobby"), "{list}");
    assert_eq!(with("/metrics", "garden-all").code(), "forbidden");
    assert_eq!(with("/metrics", "everything").status, 200);
    assert_eq!(service.get("/metrics").code(), "unauthenticated");
    assert_eq!(service.get("/api/v1/cameras").code(), "unauthenticated");
}

#[test]
fn a_camera_can_only_be_added_within_the_keys_scope_and_the_answer_tells_nothing() {
    let (_site, service, _) = service();
    let post = |id: &str, key: &str| {
        let body = format!(r#"{{"id":"{id}","streams":[{{"name":"main","url":"rtsp://10.0.0.2/"}}]}}"#);
        let headers = [("Content-Type", "application/json"), ("X-Api-Key", key)];
        service.send("POST", "/api/v1/cameras", &headers, body.as_bytes())
    };
    assert_eq!(post("garden-2", "garden-all").status, 201);
    // Whether there is such a camera makes no difference.
    let (exists, free) = (post("garden-2", "lobby-all"), post("nowhere", "lobby-all"));
    assert_eq!(
        (exists.code(), free.code()),
        ("forbidden".to_owned(), "forbidden".to_owned())
    );
    let plain = |answer: &Answer| {
        answer
            .text()
            .replace(answer.header("x-request-id").expect("id"), "")
    };
    assert_eq!(plain(&exists), plain(&free));
}

#[test]
fn what_needs_no_key_still_needs_none() {
    let (_site, service, _) = service();
    for path in ["/healthz", "/readyz", "/openapi.json", "/", "/app.js"] {
        assert_eq!(service.get(path).status, 200, "{path}");
    }
    for route in all_routes() {
        let public = ["/healthz", "/readyz", "/openapi.json"].contains(&route.path);
        assert_eq!(route.access == Access::Public, public, "{}", route.path);
    }
}
