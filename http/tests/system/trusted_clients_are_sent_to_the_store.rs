//! A key that the operator marked is sent to the object store for what lies there, by a URL that counts for these bytes
//! and a moment; nobody else is, and nobody for what lies on the disk.

use std::time::Duration;

use archive::{Sha256, WallTime};
use serde_json::Value;

use crate::rig::{Service, Site, beside_others, farm, wait_for};
use crate::servers::{Kind, Server};
use crate::stores;

/// From being recorded to lying in the store alone.
const ALL_THE_WAY: Duration = Duration::from_secs(60);
const LIFETIME: Duration = Duration::from_secs(5);
const TRUSTED: &str = "the key of a trusted player";
const OTHER: &str = "the key of somebody else";

fn site(server: &Server, cameras: &ingest::camsim::Camsim) -> Site {
    let mut site = Site::new(cameras, 1);
    site.segment_duration = "3s";
    let [trusted, other] = [TRUSTED, OTHER].map(|key| Sha256::of(key.as_bytes()));
    let store = stores::section_without_keys("warm", &server.endpoint());
    site.more = format!(
        "{store}\
         [retention]\ninterval = \"300ms\"\ngrace = \"1s\"\n\
         [[rules]]\nhot = \"8s\"\n\
         [[http.api_keys]]\nname = \"player\"\nsha256 = \"{trusted}\"\nredirect = true\n\
         [[http.api_keys]]\nname = \"other\"\nsha256 = \"{other}\"\n",
    );
    site
}

struct Answer {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

/// Asks without following; `url` may be the service's or the store's.
fn ask(url: &str, headers: &[(&str, &str)]) -> Answer {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .max_redirects(0)
        .build();
    let agent: ureq::Agent = config.into();
    let mut request = agent.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = request.call().expect("an answer");
    let location = answer.headers().get("location");
    Answer {
        status: answer.status().as_u16(),
        location: location.and_then(|value| value.to_str().ok().map(str::to_owned)),
        body: answer.body_mut().read_to_vec().expect("a body"),
    }
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// The first fragment of a camera: its tier, the URL of its bytes and the value of `Range`.
fn first(service: &Service, camera: &str) -> Option<(String, String, String)> {
    let base = service.api().base().to_owned();
    let at = WallTime::from_micros(0);
    let url = format!("{base}/api/v1/cameras/{camera}/seek?at={at}");
    let answer = ask(&url, &[("Authorization", &bearer(OTHER))]);
    let found: Value = serde_json::from_slice(&answer.body).ok()?;
    let fragment = &found["fragment"];
    let (offset, len) = (fragment["offset"].as_u64()?, fragment["len"].as_u64()?);
    Some((
        fragment["tier"].as_str()?.to_owned(),
        format!("{base}{}", fragment["url"].as_str()?),
        format!("bytes={offset}-{}", offset + len - 1),
    ))
}

#[test]
fn trusted_clients_are_sent_to_the_store() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    let farm = farm(1);
    let mut site = site(&server, &farm);
    let camera = site.cameras().remove(0);
    let service = site
        .start_with(|command| {
            let lifetime = format!("{}s", LIFETIME.as_secs());
            command.env("TIERLINE__HTTP__REDIRECT_LIFETIME", lifetime);
            stores::give_keys(command);
        })
        .expect("started");
    let (tier, url, range) = wait_for("footage", ALL_THE_WAY, || first(&service, &camera));
    assert_eq!(tier, "hot");
    let (trusted, other) = (bearer(TRUSTED), bearer(OTHER));
    let trusted = [("Authorization", &*trusted), ("Range", &*range)];
    let from_disk = ask(&url, &trusted);
    assert_eq!(from_disk.status, 206, "what lies on the disk is served here");
    wait_for("footage to leave the disk", ALL_THE_WAY, || {
        first(&service, &camera).filter(|(tier, ..)| tier == "warm")
    });

    let sent = ask(&url, &trusted);
    assert_eq!(sent.status, 307);
    let location = sent.location.expect("a URL");
    assert!(location.starts_with(&server.endpoint()), "{location}");
    let from_store = ask(&location, &[("Range", &range)]);
    assert_eq!(
        (from_store.status, &from_store.body),
        (206, &from_disk.body),
        "the same bytes"
    );
    // It is good for nothing else.
    let refused = |url: &str, headers: &[(&str, &str)]| matches!(ask(url, headers).status, 400 | 403);
    assert!(refused(&location, &[("Range", "bytes=0-9")]));
    assert!(refused(&location, &[]));
    assert!(refused(&location.replace(".mp4", ".mp5"), &[("Range", &range)]));

    // Everybody else, and every other request, is served here.
    for headers in [
        vec![("Authorization", &*other), ("Range", &*range)],
        vec![("X-Api-Key", TRUSTED), ("Range", &*range)],
        vec![trusted[0], ("Range", "bytes=4096-")],
        vec![trusted[0]],
    ] {
        let answer = ask(&url, &headers);
        assert!(
            matches!(answer.status, 200 | 206),
            "{headers:?}: {}",
            answer.status
        );
        assert_eq!(answer.location, None);
    }

    std::thread::sleep(LIFETIME + Duration::from_secs(1));
    assert!(refused(&location, &[("Range", &range)]), "its time is over");
    let log = service.log();
    let issued: Vec<_> = log
        .lines()
        .filter(|line| line.contains("sent to the object store"))
        .collect();
    assert_eq!(issued.len(), 1, "{issued:?}");
    assert!(
        issued[0].contains("player") && issued[0].contains("segment="),
        "{issued:?}"
    );
    assert!(!log.contains("X-Amz-"), "no signature is logged");
    service.stop();
}
