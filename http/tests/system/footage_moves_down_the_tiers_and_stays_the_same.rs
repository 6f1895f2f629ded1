//! Footage is copied to object stores as it ages and leaves the disk, and nobody who reads it notices: not over what lies on
//! three tiers at once, not when the store goes down, not when the service is killed at any step of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use archive::{Sha256, WallTime};

use crate::rig::{
    Api, Chance, Fragment, Oracle, Service, Site, Timeline, beside_others, farm, lines, wait_for,
};
use crate::servers::{Kind, Server};
use crate::stores;

const CAMERAS: usize = 4;
const TIERS: [&str; 3] = ["cold", "warm", "hot"];
/// From being recorded to lying on the last tier, and some.
const ALL_THE_WAY: Duration = Duration::from_secs(60);
/// Kills of the service while segments move.
const KILLS: u32 = 6;

/// A site whose warm tier is `server` and whose cold one is a folder.
fn site(server: &Server, folder: &Path, cameras: &ingest::camsim::Camsim) -> Site {
    let mut site = Site::new(cameras, CAMERAS);
    site.segment_duration = "3s";
    let store = stores::section("warm", &server.endpoint(), folder);
    site.more = format!(
        "{store}\
         [tiers.cold]\nurl = \"file://{}\"\n\
         [retention]\ninterval = \"300ms\"\ngrace = \"1s\"\n\
         [[rules]]\nhot = \"8s\"\nwarm = \"20s\"\n",
        folder.join("cold").display(),
    );
    site
}

/// The tiers on which footage of a camera lies.
fn tiers(service: &Service, camera: &str) -> BTreeSet<String> {
    let timeline = service.api().timeline(camera).expect("a timeline");
    timeline.runs.into_iter().map(|run| run.tier).collect()
}

fn wait_until_on(service: &Service, cameras: &[String], wanted: &[&str]) {
    for camera in cameras {
        wait_for("footage to reach the tiers", ALL_THE_WAY, || {
            let found = tiers(service, camera);
            wanted.iter().all(|tier| found.contains(*tier)).then_some(())
        });
    }
}

/// The first and the last moment of all that a camera recorded, while some of it lies on each tier.
fn on_three_tiers(timeline: &Timeline, until: Option<WallTime>) -> Option<(WallTime, WallTime)> {
    let runs = timeline.runs.iter();
    let runs: Vec<_> = runs
        .filter(|run| until.is_none_or(|until| run.from < until))
        .collect();
    let is_on = |tier: &&str| runs.iter().any(|run| run.tier == **tier);
    let (first, last) = (runs.first()?, runs.last()?);
    TIERS.iter().all(is_on).then_some((first.from, last.to))
}

/// The pictures of a file in their order, as ffmpeg finds them and without decoding: length and hash of each.
fn pictures(file: &Path, decoded: bool) -> Vec<String> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        .args(["-v", "error", "-xerror", "-i"])
        .arg(file)
        .args(["-map", "0:v"]);
    if !decoded {
        ffmpeg.args(["-c", "copy"]);
    }
    let output = ffmpeg.args(["-f", "framemd5", "-"]).output().expect("ffmpeg");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        lines(&output)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    // Behind the times, which begin elsewhere in each file.
    let what = rows.filter_map(|row| row.splitn(5, ',').nth(4));
    what.map(str::to_owned).collect()
}

/// The fragment of a camera that came to a tier last, and the hash of its bytes.
fn find_on(api: &Api, camera: &str, tier: &str) -> (Fragment, Sha256) {
    wait_for("a fragment on the tier", ALL_THE_WAY, || {
        let runs = api.timeline(camera).ok()?.runs;
        let last = runs.iter().rfind(|run| run.tier == tier)?.to;
        let at = last.minus(Duration::from_micros(1));
        let fragment = api.seek(camera, at).ok().filter(|found| found.tier == tier)?;
        assert!(fragment.from <= at && at < fragment.to, "{at}: {fragment:?}");
        let hash = api.hash(&fragment).ok()?;
        Some((fragment, hash))
    })
}

/// Fails unless one export over all tiers has every picture that a camera recorded meanwhile, as it was remembered, and
/// seeks and stills find what lies on each tier.
fn assert_read_across_the_tiers(api: &Api, oracle: &Oracle, camera: &str, folder: &Path) {
    let base = format!("/api/v1/cameras/{camera}");
    let ((from, to), export) = wait_for("an export over three tiers", ALL_THE_WAY, || {
        let (from, to) = on_three_tiers(&api.timeline(camera).ok()?, None)?;
        let export = api.fetch(&format!("{base}/export.mp4?from={from}&to={to}"));
        // They were three all the time.
        on_three_tiers(&api.timeline(camera).ok()?, Some(to))?;
        Some(((from, to), export))
    });
    let claims = oracle.claims();
    let remembered = |from: WallTime| -> Option<Sha256> {
        let mut all = claims.fragments.iter();
        let known = all.find(|known| known.camera == camera && known.from == from);
        known.map(|known| known.hash)
    };
    let mut recorded = Vec::new();
    let (mut at, mut fragments, mut known) = (from, 0, 0);
    while at < to {
        let fragment = api.seek(camera, at).expect("a fragment");
        assert_eq!(fragment.from, at, "nothing is missing between {from} and {to}");
        if recorded.is_empty() {
            recorded = api.fetch(&fragment.init_url);
        }
        let bytes = api.bytes(&fragment).expect("its bytes");
        if let Some(hash) = remembered(at) {
            assert!(
                Sha256::of(&bytes) == hash,
                "{at} on {} is another one",
                fragment.tier
            );
            known += 1;
        }
        recorded.extend(bytes);
        (at, fragments) = (fragment.to, fragments + 1);
    }
    assert!(known * 2 > fragments, "{known} of {fragments} are remembered");
    let files = [("recorded.mp4", recorded), ("export.mp4", export)].map(|(name, bytes)| {
        let path = folder.join(name);
        fs::write(&path, bytes).expect("a file");
        path
    });
    let [expected, exported] = [&files[0], &files[1]].map(|file| pictures(file, false));
    assert!(
        expected == exported,
        "{} pictures instead of {}",
        exported.len(),
        expected.len()
    );
    let shown = pictures(&files[1], true).len();
    assert_eq!(shown, expected.len(), "all of them decode");
    println!("{shown} pictures of {fragments} fragments in one export, {known} of them remembered");

    for tier in TIERS {
        let (fragment, hash) = find_on(api, camera, tier);
        let still = api.fetch(&format!("{base}/snapshot.jpg?at={}", fragment.from));
        assert!(still.starts_with(&[0xff, 0xd8, 0xff]), "{tier}: no picture");
        assert!(
            remembered(fragment.from).is_none_or(|known| known == hash),
            "{tier}"
        );
    }
}

#[test]
fn footage_moves_down_the_tiers_and_stays_the_same() {
    let _turn = beside_others();
    let folder = tempfile::tempdir().expect("folder");
    let mut server = Server::start(Kind::Minio, folder.path());
    let farm = farm(CAMERAS);
    let mut site = site(&server, folder.path(), &farm);
    let cameras = site.cameras();
    let mut chance = Chance::new();
    let oracle = Oracle::new(cameras.clone());
    let mut service = site.start();
    oracle.watch(&service);
    wait_until_on(&service, &cameras, &TIERS);
    oracle.assert_kept(&service, &mut chance);
    assert_read_across_the_tiers(&service.api(), &oracle, &cameras[0], folder.path());

    // The store is away: recording and what lies on the disk go on, and nothing leaves the disk uncopied.
    server.kill();
    std::thread::sleep(Duration::from_secs(12));
    for camera in &cameras {
        let status = service.api().status(camera).expect("a status");
        assert_eq!(status.state, "recording", "{camera}");
    }
    server.restart();
    wait_until_on(&service, &cameras, &TIERS);
    oracle.assert_kept(&service, &mut chance);

    for _ in 0..KILLS {
        std::thread::sleep(chance.between(Duration::from_millis(500), Duration::from_secs(4)));
        service.kill();
        oracle.rest();
        site.assert_whole();
        service = site.start();
        oracle.assert_kept(&service, &mut chance);
        oracle.watch(&service);
    }
    // What the kills left half done is done.
    wait_until_on(&service, &cameras, &TIERS);
    let claims = oracle.claims().fragments.len();
    oracle.assert_kept(&service, &mut chance);
    oracle.rest();
    service.stop();
    site.assert_whole();
    // What the objects and the files tell is what the index says.
    let anew = site.path("anew");
    site.rebuild(&anew);
    let compared = site.compare(&anew);
    assert!(compared.status.success(), "{}", lines(&compared));
    println!("{claims} fragments remembered, none lost");
    assert!(claims > 20, "the cameras were hardly recorded");
}
