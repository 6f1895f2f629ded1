//! Requests that are wrong get the right answer, and the registry keeps its secrets.

mod common;

use common::{Answer, EPOCH, Site, after, epoch, raw};

fn status(bytes: &[u8]) -> u16 {
    Answer::parse(bytes).map_or(0, |answer| answer.status)
}

#[test]
fn wrong_times_and_ranges_are_answered_with_a_code_that_says_which() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 3);
    let service = site.serve(|_| ());
    let timeline = |query: &str| service.get(&format!("/api/v1/cameras/lobby/timeline?{query}"));
    for (query, status, code) in [
        ("from=NaN&to=2", 400, "invalid_time"),
        ("from=1e30&to=2", 400, "invalid_time"),
        ("from=-5&to=2", 400, "invalid_time"),
        (
            "from=2026-03-01T12:00:00&to=2026-03-01T13:00:00",
            400,
            "invalid_time",
        ),
        ("from=2&to=1", 400, "invalid_range"),
        (
            "from=2016-12-31T23:59:60Z&to=2016-12-31T23:59:59Z",
            400,
            "invalid_range",
        ),
        ("from=0&to=9998-01-01T00:00:00Z", 413, "range_too_large"),
        ("from=1&to=2&strem=main", 400, "invalid_parameter"),
        ("from=1&to=2&from=3", 400, "invalid_parameter"),
        ("from=1&to=2&stream=other", 404, "not_found"),
    ] {
        let answer = timeline(query);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{query}");
    }
    let long = "/hls/lobby/index.m3u8?from=2026-01-01T00:00:00Z&to=2026-03-01T12:00:00Z";
    assert_eq!(service.get(long).code(), "range_too_large");
    let long = "/api/v1/cameras/lobby/export.mp4?from=2026-02-01T00:00:00Z&to=2026-03-01T12:00:00Z";
    assert_eq!(service.get(long).code(), "range_too_large");
}

#[test]
fn footage_that_is_not_there_is_answered_with_where_it_is() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 3);
    let service = site.serve(|_| ());
    let range = format!("from={}&to={}", after(100.0), after(200.0));
    for path in [
        format!("/hls/lobby/index.m3u8?{range}"),
        format!("/hls/lobby/main/media.m3u8?{range}"),
        format!("/api/v1/cameras/lobby/export.mp4?{range}"),
        format!("/api/v1/cameras/lobby/snapshot.jpg?at={}", after(100.0)),
        "/hls/lobby/live.m3u8".to_owned(),
        "/hls/lobby/main/live.m3u8".to_owned(),
    ] {
        let answer = service.get(&path);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "no_media"),
            "{path}"
        );
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert!(
            problem["nearest"]["before"]
                .as_str()
                .is_some_and(|t| t.starts_with("2026-03-01T12:00:0")),
            "{problem}"
        );
        assert!(problem["nearest"]["after"].is_null());
    }
}

#[test]
fn ids_that_are_no_ids_are_not_found_and_open_nothing() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 1);
    let service = site.serve(|_| ());
    let long = "x".repeat(8000);
    for id in [
        "constructor",
        "__proto__",
        "%00",
        "..",
        "..%2f..%2fetc",
        "%252e%252e",
        "..%5c",
        "%c0%ae",
        &long,
    ] {
        for path in [
            format!("/api/v1/cameras/{id}/status"),
            format!("/hls/{id}/live.m3u8"),
        ] {
            let answer = service.get(&path);
            assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
            answer.code();
        }
    }
    for file in [
        "0",
        "-1.mp4",
        "1e3.mp4",
        "99.mp4",
        "..%2f..%2findex.mp4",
        "18446744073709551616.mp4",
    ] {
        assert_eq!(
            service.get(&format!("/hls/lobby/main/seg/{file}")).status,
            404,
            "{file}"
        );
    }
    assert_eq!(service.get("/hls/lobby/main/init/abc.mp4").status, 404);
    for path in [
        "/README.md",
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/vendor/README.md",
        "//etc/passwd",
        "/api",
    ] {
        assert_eq!(service.get(path).status, 404, "{path}");
    }
}

#[test]
fn ranges_and_ids_beyond_all_measure_are_answered_at_once() {
    let site = Site::new();
    let row = site.record("lobby/main", epoch(), 2);
    let service = site.serve(|_| ());
    let media = "/hls/lobby/main/seg/0.mp4";
    let many = (0..1000)
        .map(|n| format!("{n}-{}", n + 500))
        .collect::<Vec<_>>()
        .join(",");
    let few = (0..200).map(|_| "0-").collect::<Vec<_>>().join(",");
    for (range, expected) in [
        ("bytes=-0".to_owned(), &[416][..]),
        ("bytes=9000000000000000000-".to_owned(), &[416]),
        (
            "bytes=18446744073709551615-18446744073709551615".to_owned(),
            &[416],
        ),
        ("bytes=9e18-".to_owned(), &[200]),
        (format!("bytes={few}"), &[200]),
        (format!("bytes={many}"), &[200]),
    ] {
        let started = std::time::Instant::now();
        let answer = service.get_with(media, &[("Range", &range)]);
        assert!(
            expected.contains(&answer.status),
            "{}: {}",
            &range[..range.len().min(40)],
            answer.status
        );
        assert!(answer.status != 200 || answer.body.len() as u64 == row.bytes);
        assert!(started.elapsed() < std::time::Duration::from_secs(2));
    }
    for id in ["hasOwnProperty", "toString", "%00", "\u{fdfa}"] {
        assert!(
            [400, 404].contains(&service.get(&format!("/api/v1/cameras/{id}/status")).status),
            "{id}"
        );
    }
    let huge = format!(
        "GET /api/v1/cameras/{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "%EF%B7%BA".repeat(111_000)
    );
    assert!([0, 400, 414, 431].contains(&status(&raw(service.address, huge.as_bytes()))));
    // A line may end with a line feed alone (RFC 9112 section 2.2): that smuggles nothing past what stands alone.
    let bare = status(&raw(
        service.address,
        b"GET /healthz HTTP/1.1\nHost: localhost\nConnection: close\n\n",
    ));
    assert!([200, 400].contains(&bare), "{bare}");
    assert_eq!(service.get("/healthz").status, 200);
}

#[test]
fn methods_that_a_path_does_not_have_are_refused_with_those_it_has() {
    let service = Site::new().serve(|_| ());
    let answer = service.send("DELETE", "/api/v1/cameras", &[], b"");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (405, "method_not_allowed")
    );
    let allow = answer.header("allow").expect("Allow");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    assert_eq!(service.send("TRACE", "/healthz", &[], b"").status, 501);
    assert_eq!(service.send("BREW", "/healthz", &[], b"").status, 501);
    let connect = raw(
        service.address,
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(status(&connect), 501);
}

#[test]
fn malformed_http_is_refused_and_the_connection_closed() {
    let service = Site::new().serve(|_| ());
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000));
    let headers = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "y".repeat(20_000)
    );
    let method = format!(
        "{} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "M".repeat(10_000)
    );
    let cases: [(&[u8], &[u16]); 9] = [
        (b"POST /api/v1/cameras HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", &[400]),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c: d\r\n\r\n", &[400]),
        (b"GET /\r\n\r\n", &[400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[0, 400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400, 505]),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n", &[400]),
        (long.as_bytes(), &[400, 414, 431]),
        (headers.as_bytes(), &[431]),
        (method.as_bytes(), &[400, 431, 501]),
    ];
    for (bytes, expected) in cases {
        let got = status(&raw(service.address, bytes));
        assert!(
            expected.contains(&got),
            "{got} for {}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
        );
    }
    // Both lengths at once are how requests are smuggled; hyper lets chunked win, so nothing may be left over.
    let both = b"POST /api/v1/cameras HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answers = String::from_utf8_lossy(&raw(service.address, both)).into_owned();
    assert!(!answers.contains("200 OK"), "{answers}");
}

#[test]
fn bodies_are_bounded_and_must_be_json_of_the_right_shape() {
    let service = Site::new().serve(|_| ());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_short = "[".repeat(10_000);
    for (body, status, code) in [
        ("{", 400, "invalid_json"),
        ("{\"id\":1e400,\"streams\":[]}", 400, "invalid_json"),
        ("[]", 422, "invalid_body"),
        (deep.as_str(), 413, "body_too_large"),
        (deep_short.as_str(), 422, "invalid_body"),
        ("{\"id\":\"a\",\"id\":\"b\",\"streams\":[]}", 422, "invalid_body"),
        (
            "{\"id\":\"a/b\",\"streams\":[{\"name\":\"main\",\"url\":\"rtsp://10.0.0.2/\"}]}",
            422,
            "invalid_body",
        ),
        ("{\"id\":\"a\",\"streams\":[]}", 422, "invalid_body"),
        (
            "{\"id\":\"a\",\"streams\":[{\"name\":\"main\"}]}",
            422,
            "invalid_body",
        ),
        (
            "{\"id\":\"a\",\"name\":\"x\\r\\ny\",\"streams\":[{\"name\":\"m\",\"url\":\"rtsp://10.0.0.2/\"}]}",
            422,
            "invalid_body",
        ),
        (
            "{\"id\":\"a\",\"name\":\"x\\u202ey\",\"streams\":[{\"name\":\"m\",\"url\":\"rtsp://10.0.0.2/\"}]}",
            422,
            "invalid_body",
        ),
        (
            "{\"id\":\"a\",\"priority\":10,\"streams\":[{\"name\":\"m\",\"url\":\"rtsp://10.0.0.2/\"}]}",
            422,
            "invalid_body",
        ),
    ] {
        let answer = service.post("/api/v1/cameras", body);
        let shown = &body[..body.len().min(80)];
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{shown}: {}",
            answer.text()
        );
    }
    let unknown = service.post("/api/v1/cameras", "{\"id\":\"a\",\"streams\":[],\"nmae\":\"x\"}");
    assert!(
        unknown.status == 422 && unknown.text().contains("nmae"),
        "{}",
        unknown.text()
    );
    let text = service.send(
        "POST",
        "/api/v1/cameras",
        &[("Content-Type", "text/plain")],
        b"{}",
    );
    assert_eq!(
        (text.status, text.code().as_str()),
        (415, "unsupported_media_type")
    );
}

#[test]
fn camera_urls_that_reach_what_is_no_camera_are_refused() {
    let service = Site::new().serve(|_| ());
    for url in [
        "http://10.0.0.2/",
        "rtsps://10.0.0.2/",
        "file:///etc/passwd",
        "exec:ffmpeg",
        "rtsp://127.0.0.1/",
        "rtsp://[::1]/",
        "rtsp://0x7f.1/",
        "rtsp://localhost:8554/",
        "rtsp://[::ffff:169.254.169.254]/",
        "rtsp://169.254.169.254/latest",
        "rtsp://10.0.0.2/a\\r\\nb",
    ] {
        let answer = service.post(
            "/api/v1/cameras",
            &format!(r#"{{"id":"a","streams":[{{"name":"main","url":"{url}"}}]}}"#),
        );
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "camera_url_not_allowed"),
            "{url}"
        );
    }
    assert_eq!(
        service.json("/api/v1/cameras")["cameras"]
            .as_array()
            .map(Vec::len),
        Some(0)
    );
}

#[test]
fn a_camera_is_added_shown_changed_and_removed_and_its_password_never_comes_back() {
    let service = Site::new().serve(|_| ());
    let mut said = String::new();
    let mut note = |answer: Answer| {
        said += &answer.text();
        answer
    };
    let added = note(service.post(
        "/api/v1/cameras",
        r#"{"id":"lobby","name":"Lobby","streams":[{"name":"main","url":"rtsp://user:hunter2@10.0.0.2/one"}]}"#,
    ));
    assert_eq!(
        (added.status, added.header("location")),
        (201, Some("/api/v1/cameras/lobby")),
        "{}",
        added.text()
    );
    let again = r#"{"id":"lobby","streams":[{"name":"main","url":"rtsp://10.0.0.9/"}]}"#;
    assert_eq!(
        note(service.post("/api/v1/cameras", again)).code(),
        "already_exists"
    );

    let shown = service.json("/api/v1/cameras/lobby");
    assert_eq!(shown["streams"][0]["url"], "rtsp://10.0.0.2/one");
    assert_eq!(shown["streams"][0]["has_credentials"], true);
    assert_eq!(shown["priority"], 5);

    // What was shown can be sent back without losing what was not shown.
    let json = [("Content-Type", "application/json")];
    let change =
        br#"{"name":"Front","streams":[{"name":"main","url":"rtsp://10.0.0.2/one","transport":"udp"}]}"#;
    let changed = note(service.send("PATCH", "/api/v1/cameras/lobby", &json, change));
    assert_eq!(changed.status, 200, "{}", changed.text());
    let shown = service.json("/api/v1/cameras/lobby");
    assert_eq!(
        (&shown["name"], &shown["streams"][0]["transport"]),
        (&"Front".into(), &"udp".into())
    );
    assert_eq!(shown["streams"][0]["has_credentials"], true);
    let status = service.json("/api/v1/cameras/lobby/status");
    assert_eq!(status["streams"][0]["state"], "connecting");

    let wrong = br#"{"streams":[{"name":"main","url":["rtsp://user:hunter2@10.0.0.2/one"]}]}"#;
    assert_eq!(
        note(service.send("PATCH", "/api/v1/cameras/lobby", &json, wrong)).code(),
        "invalid_body"
    );
    assert_eq!(
        note(service.send("DELETE", "/api/v1/cameras/lobby", &[], b"")).status,
        204
    );
    assert_eq!(note(service.get("/api/v1/cameras/lobby")).code(), "not_found");
    assert_eq!(
        note(service.send("DELETE", "/api/v1/cameras/lobby", &[], b"")).code(),
        "not_found"
    );
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_password_in_the_query_of_a_camera_is_not_shown_and_stays() {
    let site = Site::new();
    let service = site.serve(|_| ());
    let added = service.post(
        "/api/v1/cameras",
        r#"{"id":"lobby","streams":[{"name":"main","url":"rtsp://10.0.0.2/one?user=admin&password=hunter2#x"}]}"#,
    );
    assert_eq!(added.status, 201, "{}", added.text());
    let json = [("Content-Type", "application/json")];
    let change = br#"{"streams":[{"name":"main","url":"rtsp://10.0.0.2/one","transport":"udp"}]}"#;
    let changed = service.send("PATCH", "/api/v1/cameras/lobby", &json, change);
    for answer in [added, changed, service.get("/api/v1/cameras")] {
        assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    }
    let shown = service.json("/api/v1/cameras/lobby");
    assert_eq!(shown["streams"][0]["url"], "rtsp://10.0.0.2/one");
    assert_eq!(shown["streams"][0]["has_credentials"], true);
    let rows = site.index.cameras().expect("cameras");
    assert_eq!(
        rows[0].streams[0].url.expose().query(),
        Some("user=admin&password=hunter2")
    );
}

#[test]
fn removing_a_camera_leaves_its_footage_playable() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 2);
    let service = site.serve(|_| ());
    let camera = r#"{"id":"lobby","streams":[{"name":"main","url":"rtsp://10.0.0.2/"}]}"#;
    assert_eq!(service.post("/api/v1/cameras", camera).status, 201);
    assert_eq!(
        service.send("DELETE", "/api/v1/cameras/lobby", &[], b"").status,
        204
    );
    let list = service.json("/api/v1/cameras");
    assert_eq!(
        list["cameras"][0]["streams"][0]["url"],
        serde_json::Value::Null,
        "{list}"
    );
    assert_eq!(
        service
            .get(&format!("/hls/lobby/index.m3u8?from={EPOCH}&to={}", after(4.0)))
            .status,
        200
    );
    // When it was removed is kept, for retention, and where it was recorded from is not.
    let row = site.index.camera(&"lobby".parse().expect("id")).expect("read");
    let row = row.expect("as long as there may be footage");
    assert!(row.removed.is_some() && row.streams.is_empty());
    assert!(list["cameras"][0]["removed"].is_string(), "{list}");
    let again = service.send("DELETE", "/api/v1/cameras/lobby", &[], b"");
    assert_eq!(again.status, 404);
    assert_eq!(service.post("/api/v1/cameras", camera).status, 201);
    assert_eq!(
        service.json("/api/v1/cameras/lobby")["removed"],
        serde_json::Value::Null
    );
}

#[test]
fn pages_of_other_sites_can_neither_change_nor_read() {
    let service = Site::new().serve(|config| config.hosts.push("nvr.example".to_owned()));
    let json = ("Content-Type", "application/json");
    let camera = br#"{"id":"a","streams":[{"name":"main","url":"rtsp://10.0.0.2/"}]}"#;
    let post = |headers: &[(&str, &str)]| service.send("POST", "/api/v1/cameras", headers, camera);
    assert_eq!(post(&[json, ("Origin", "https://evil.example")]).code(), "csrf");
    assert_eq!(post(&[json, ("Origin", "null")]).code(), "csrf");
    assert_eq!(post(&[json, ("Sec-Fetch-Site", "cross-site")]).code(), "csrf");
    let rebound = service.get_with("/api/v1/cameras", &[("Host", "evil.example:8080")]);
    assert_eq!(
        (rebound.status, rebound.code().as_str()),
        (403, "host_not_allowed")
    );
    assert_eq!(
        service
            .get_with("/api/v1/cameras", &[("Host", "nvr.example")])
            .status,
        200
    );
    let own = format!("http://{}", service.address);
    assert_eq!(post(&[json, ("Origin", &own)]).status, 201);
    let answer = service.get("/api/v1/cameras");
    assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn the_page_is_served_with_its_policy_and_not_sent_twice() {
    let service = Site::new().serve(|_| ());
    let page = service.get("/");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = page.header("content-security-policy").expect("policy");
    assert!(
        policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let tag = page.header("etag").expect("ETag").to_owned();
    assert_eq!(service.get_with("/", &[("If-None-Match", &tag)]).status, 304);
    let script = service.get("/app.js");
    assert_eq!(
        (script.status, script.header("content-type")),
        (200, Some("text/javascript; charset=utf-8"))
    );
    assert_eq!(script.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn readiness_follows_the_program_and_metrics_name_what_is_measured() {
    let site = Site::new();
    site.record("lobby/main", epoch(), 1);
    site.gap(
        "lobby/main",
        epoch().plus_micros(2_000_000),
        common::now(),
        archive::GapCause::Unreachable,
    );
    let service = site.serve(|_| ());
    assert_eq!(
        (service.get("/healthz").status, service.get("/readyz").status),
        (200, 200)
    );
    service.ready.send(false).expect("told");
    assert_eq!(service.get("/readyz").code(), "not_ready");
    site.index.set_shed_below(3);
    let metrics = service.get("/metrics").text();
    for line in [
        "tierline_http_requests_total{route=\"/readyz\",method=\"GET\",status=\"200\"} 1",
        "tierline_http_requests_total{route=\"/readyz\",method=\"GET\",status=\"503\"} 1",
        "tierline_stream_recording{camera=\"lobby\",stream=\"main\"} 0",
        "tierline_stream_durable_lag_seconds{camera=\"lobby\",stream=\"main\"}",
        "tierline_stream_gap_seconds{camera=\"lobby\",stream=\"main\",cause=\"unreachable\"}",
        "tierline_http_connections 1",
        "tierline_disk_free_bytes ",
        "tierline_disk_size_bytes ",
        "tierline_shed_below_priority 3",
        "tierline_index_memory_bytes{part=\"cache\"}",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}
