//! Footage in an archive class: whoever asks for it is told when to come back, its restore begins and is seen through
//! although the service is killed meanwhile, and then the same URL plays.

use std::path::Path;
use std::time::Duration;

use archive::{Sha256, WallTime};
use serde_json::Value;

use crate::rig::{Fragment, Service, Site, beside_others, farm, lines, wait_for};
use crate::servers::{Kind, Server};
use crate::stores;

/// From being recorded to lying in the archive class alone.
const ALL_THE_WAY: Duration = Duration::from_secs(60);
/// How long moto takes over a restore here.
const RESTORE: Duration = Duration::from_secs(6);

/// A site whose only tier below the disk is in an archive class.
fn site(server: &Server, folder: &Path, cameras: &ingest::camsim::Camsim) -> Site {
    let mut site = Site::new(cameras, 1);
    site.segment_duration = "3s";
    let store = stores::section("cold", &server.endpoint(), folder);
    site.more = format!(
        "{store}\
         storage_class = \"GLACIER\"\n\
         [retention]\ninterval = \"300ms\"\ngrace = \"1s\"\n\
         [[rules]]\nhot = \"8s\"\n",
    );
    site
}

/// What a request was answered.
struct Answer {
    status: u16,
    retry_after: Option<u64>,
    body: Vec<u8>,
}

fn ask(service: &Service, path: &str, range: Option<&str>) -> Answer {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .build();
    let agent: ureq::Agent = config.into();
    let mut request = agent.get(format!("{}{path}", service.api().base()));
    if let Some(range) = range {
        request = request.header("Range", range);
    }
    let mut answer = request.call().expect("an answer");
    let retry_after = answer.headers().get("retry-after");
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    Answer {
        status: answer.status().as_u16(),
        retry_after,
        body: answer.body_mut().read_to_vec().expect("a body"),
    }
}

/// Fails unless a request is told to come back when something was restored.
fn assert_restoring(answer: &Answer, what: &str) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    assert_eq!(
        (answer.status, &body["code"]),
        (503, &Value::from("restoring")),
        "{what}: {body}"
    );
    let ready_at: WallTime = body["ready_at"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{what}: {body}"));
    let in_s = ready_at.micros_since(crate::rig::now()) / 1_000_000;
    // Five hours is what Amazon says of this class.
    assert!((4 * 3600..=5 * 3600).contains(&in_s), "{what}: in {in_s} s");
    assert!(
        answer.retry_after.is_some_and(|s| (30..=3600).contains(&s)),
        "{what}"
    );
}

fn timeline(service: &Service, camera: &str) -> Value {
    let (from, to) = (
        crate::rig::now().minus(Duration::from_secs(3600)),
        crate::rig::now(),
    );
    let path = format!("/api/v1/cameras/{camera}/timeline?from={from}&to={to}");
    serde_json::from_slice(&ask(service, &path, None).body).expect("a timeline")
}

/// Whether the runs that hold `at` have to be restored; `None` where none does.
fn archived(timeline: &Value, at: WallTime) -> Option<bool> {
    let runs = timeline["runs"].as_array().expect("runs");
    let time = |run: &Value, key: &str| -> WallTime {
        run[key]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a time")
    };
    let run = runs
        .iter()
        .find(|run| time(run, "from") <= at && at < time(run, "to"))?;
    Some(run["archived"].as_bool().unwrap_or(false))
}

struct Found {
    fragment: Fragment,
    url: String,
    range: String,
    sha256: Sha256,
}

/// The first footage of a camera, while it lies on the disk.
fn find(service: &Service, camera: &str) -> Found {
    let api = service.api();
    let fragment = wait_for("footage", ALL_THE_WAY, || {
        api.seek(camera, WallTime::from_micros(0)).ok()
    });
    let sha256 = api.hash(&fragment).expect("it can be read from the disk");
    let (url, range) = fragment.place();
    Found {
        fragment,
        url,
        range,
        sha256,
    }
}

#[test]
fn archived_footage_is_restored_when_somebody_asks_for_it() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Moto, folder.path());
    server.restores_take(RESTORE);
    let farm = farm(1);
    let mut site = site(&server, folder.path(), &farm);
    let camera = site.cameras().remove(0);
    let service = site.start();
    let found = find(&service, &camera);
    let (from, to) = (found.fragment.from, found.fragment.to);
    let at = from.plus_micros(100_000);
    wait_for("footage to leave the disk", ALL_THE_WAY, || {
        (archived(&timeline(&service, &camera), at) == Some(true)).then_some(())
    });
    // moto is in no hurry only with what is older than this.
    std::thread::sleep(RESTORE);

    let base = format!("/api/v1/cameras/{camera}");
    let snapshot = format!("{base}/snapshot.jpg?at={at}");
    let export = format!("{base}/export.mp4?from={from}&to={to}");
    let playlist = format!("/hls/{camera}/index.m3u8?from={from}&to={to}");
    let media = format!("/hls/{camera}/main/media.m3u8?from={from}&to={to}");
    let seek = format!("{base}/seek?at={at}");
    for path in [&seek, &snapshot, &export, &playlist, &media] {
        assert_restoring(&ask(&service, path, None), path);
    }
    assert_restoring(&ask(&service, &found.url, Some(&found.range)), &found.url);
    let told = timeline(&service, &camera);
    let restoring = told["restoring"].as_array().expect("it says what is restored");
    assert!(
        !restoring.is_empty() && restoring[0]["ready_at"].is_string(),
        "{told}"
    );
    // A range that reaches what lies on the disk is listed whole.
    let now = crate::rig::now();
    let across = format!("/hls/{camera}/main/media.m3u8?from={from}&to={now}");
    let listed = ask(&service, &across, None);
    assert_eq!(listed.status, 200);
    let listed = String::from_utf8_lossy(&listed.body).into_owned();
    let (_, file) = found.url.rsplit_once("/main/").expect("a path");
    assert!(listed.contains(file), "the player is told later: {listed}");

    wait_for("the store to be asked", Duration::from_secs(10), || {
        service.log().contains("is being restored").then_some(())
    });
    service.kill();
    let service = site.start();
    let answer = wait_for("the restore", ALL_THE_WAY, || {
        let answer = ask(&service, &found.url, Some(&found.range));
        (answer.status != 503).then_some(answer)
    });
    assert_eq!(answer.status, 206, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(
        Sha256::of(&answer.body),
        found.sha256,
        "the same bytes by the same URL"
    );
    assert_eq!(archived(&timeline(&service, &camera), at), Some(false));
    for path in [&seek, &snapshot, &export, &playlist, &media] {
        let answer = ask(&service, path, None);
        assert_eq!(
            answer.status,
            200,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    service.stop();
    site.assert_whole();
    let anew = site.path("anew");
    site.rebuild(&anew);
    let compared = site.compare(&anew);
    assert!(compared.status.success(), "{}", lines(&compared));
}
