//! The binary as scripts use it: what it prints, how it exits, and that it leaves a whole archive.

mod lost_machine;
mod promises;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ingest::camsim::{self, Camsim};
use rustix::process::{Pid, Signal, kill_process};

const STOP_MAX: Duration = Duration::from_secs(10);

struct Site {
    dir: tempfile::TempDir,
    config: PathBuf,
}

/// A configuration for `cameras` of a farm, in a folder of its own.
fn site(farm: Option<&Camsim>, cameras: usize) -> Site {
    let dir = tempfile::tempdir().expect("folder");
    let mut text =
        "data_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n[recording]\nsegment_duration = \"4s\"\n"
            .to_owned();
    for i in 0..cameras {
        let url = farm.expect("a farm").url(i);
        text += &format!(
            "[[cameras]]\nid = \"cam-{i}\"\n[[cameras.streams]]\nname = \"main\"\nurl = \"{url}\"\n"
        );
    }
    let config = dir.path().join("site.toml");
    fs::write(&config, text).expect("written");
    Site { dir, config }
}

fn farm(cameras: usize) -> Camsim {
    camsim::start(camsim::Config {
        cameras,
        ..camsim::Config::default()
    })
    .expect("farm")
}

fn tierline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierline"));
    command.args(args);
    command
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = tierline(&[name, "--config"]);
        command.arg(&self.config);
        command
    }

    fn run(&self, name: &str, args: &[&str]) -> Output {
        self.command(name).args(args).output().expect("runs")
    }

    fn serve(&self) -> Running {
        Running::start(self.command("serve"))
    }
}

/// A process that says where it listens; killed when dropped.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.as_mut().expect("piped"));
        out.read_line(&mut line).expect("a line");
        let Some(address) = line.trim_end().strip_prefix("listening on http://") else {
            let mut error = String::new();
            child
                .stderr
                .take()
                .expect("piped")
                .read_to_string(&mut error)
                .expect("text");
            panic!("{line}{error}");
        };
        Self {
            address: address.to_owned(),
            child,
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answer");
        answer
    }

    fn wait_until_durable(&self, camera: &str) {
        let path = format!("/api/v1/cameras/{camera}/status");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.get(&path).contains("\"durable_until\":\"") {
            assert!(Instant::now() < deadline, "{}", self.get(&path));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks it to stop and returns its exit status.
    fn stop(mut self, signal: Signal) -> Option<i32> {
        kill_process(self.pid(), signal).expect("alive");
        let asked = Instant::now();
        let status = self.child.wait().expect("ends");
        assert!(asked.elapsed() < STOP_MAX, "stopping took {:?}", asked.elapsed());
        status.code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32, part: &str) {
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(all.contains(part), "`{part}` is not in: {all}");
}

#[test]
fn a_service_is_ready_when_it_says_so_and_leaves_a_whole_archive() {
    let farm = farm(2);
    let site = site(Some(&farm), 2);
    let service = site.serve();
    assert!(
        service.get("/readyz").starts_with("HTTP/1.1 200"),
        "{}",
        service.get("/readyz")
    );
    service.wait_until_durable("cam-0");
    service.wait_until_durable("cam-1");
    let pid = service.pid().as_raw_nonzero().to_string();
    assert_exit(&site.run("serve", &[]), 1, &format!("in use (process {pid})"));
    assert_exit(&site.run("check", &[]), 0, "clean");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(service.stop(Signal::TERM), Some(0));

    assert_exit(&site.run("check", &["--deep"]), 0, "clean");
    let anew = site.path("anew");
    let anew = anew.to_str().expect("text");
    assert_exit(
        &site.run("rebuild", &["--into", anew]),
        0,
        "to use it, stop the service",
    );
    assert_exit(&site.run("check", &["--index", anew]), 0, "clean");
    assert_exit(&site.run("rebuild", &["--into", anew]), 1, "is not empty");

    let out = site.path("out.mp4");
    let name = out.to_str().expect("text");
    let all = [
        "--camera",
        "cam-0",
        "--from",
        "2020-01-01T00:00:00Z",
        "--to",
        "2020-01-01T00:01:00Z",
        "--out",
        name,
    ];
    assert_exit(&site.run("export", &all), 1, "the nearest footage");
    let sum: u64 = files(&site.path("data/hot/default/cam-0"), "mp4")
        .iter()
        .map(|f| f.metadata().expect("file").len())
        .sum();
    assert!(sum > 100_000, "{sum} bytes recorded");
    let range = recorded(&site);
    let all = [
        "--camera", "cam-0", "--from", &range.0, "--to", &range.1, "--out", name,
    ];
    assert_exit(&site.run("export", &all), 0, "0 gaps");
    assert_eq!(fs::read(&out).expect("file").get(4..8), Some(&b"ftyp"[..]));
    assert_exit(&site.run("export", &all), 1, "is there already");

    // A byte of a picture changes on the disk: its fragment is left out, and said to be.
    let segment = files(&site.path("data/hot/default/cam-0"), "mp4")
        .into_iter()
        .min();
    let segment = segment.expect("a segment");
    let mut bytes = fs::read(&segment).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).expect("written");
    let whole = out.metadata().expect("file").len();
    fs::remove_file(&out).expect("removed");
    assert_exit(&site.run("export", &all), 0, "1 damaged fragments left out");
    assert!(out.metadata().expect("file").len() < whole);
}

/// Three seconds in the midst of what a stopped service recorded.
fn recorded(site: &Site) -> (String, String) {
    let view = indexer::Index::open_read_only(&site.path("data/index")).expect("index");
    let (no, _) = view.streams().remove(0);
    let span = view.span(no).expect("read").expect("footage");
    (
        span.from().plus_micros(500_000).to_string(),
        span.from().plus_micros(3_500_000).to_string(),
    )
}

#[test]
fn a_killed_service_starts_again_on_a_whole_archive() {
    let farm = farm(1);
    let site = site(Some(&farm), 1);
    let service = site.serve();
    service.wait_until_durable("cam-0");
    kill_process(service.pid(), Signal::KILL).expect("alive");
    drop(service);
    assert_exit(&site.run("check", &[]), 0, "clean");
    let service = site.serve();
    assert_eq!(service.stop(Signal::INT), Some(0));
    assert_exit(&site.run("check", &["--deep"]), 0, "clean");
}

#[test]
fn a_disk_that_is_not_mounted_is_told_before_anything_is_written() {
    let farm = farm(1);
    let site = site(Some(&farm), 1);
    let service = site.serve();
    service.wait_until_durable("cam-0");
    assert_eq!(service.stop(Signal::TERM), Some(0));
    let (hot, aside) = (site.path("data/hot"), site.path("aside"));
    fs::rename(&hot, &aside).expect("moved");
    assert_exit(&site.run("serve", &[]), 1, "Mount the disk");
    assert_eq!(files(&hot, "mp4"), Vec::<PathBuf>::new());
    assert_exit(&site.run("check", &[]), 1, "the file is missing");
    fs::remove_dir_all(&hot).expect("removed");
    assert_exit(&site.run("check", &[]), 2, "is not a folder");
    fs::rename(&aside, &hot).expect("moved");
    fs::rename(site.path("data/index"), &aside).expect("moved");
    assert_exit(&site.run("serve", &[]), 1, "tierline rebuild");
    assert_exit(&site.run("check", &[]), 2, "there is no index");
    assert!(!site.path("data/index").exists());

    fs::rename(&aside, site.path("data/index")).expect("moved");
    fs::write(hot.join(".tierline"), "another\n").expect("written");
    assert_exit(&site.run("serve", &[]), 1, "another archive");
    let elsewhere = format!("data_dir = \"{}\"", site.path("not-there/data").display());
    fs::write(&site.config, elsewhere).expect("written");
    assert_exit(&site.run("serve", &[]), 1, "is not there: mount its disk");
}

#[test]
fn damage_is_a_finding_in_text_and_in_json() {
    let farm = farm(1);
    let site = site(Some(&farm), 1);
    let service = site.serve();
    service.wait_until_durable("cam-0");
    assert_eq!(service.stop(Signal::TERM), Some(0));
    let file = files(&site.path("data/hot/default"), "mp4").remove(0);
    let mut bytes = fs::read(&file).expect("file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("written");
    assert_exit(
        &site.run("check", &["--deep"]),
        1,
        "readable: default/cam-0/main/",
    );
    let json = site.run("check", &["--deep", "--json"]);
    assert_exit(&json, 1, "\"clean\": false");
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(report["findings"][0]["invariant"], "readable");
}

#[test]
fn a_tier_that_holds_footage_must_stay_where_it_is() {
    let farm = farm(1);
    let site = site(Some(&farm), 1);
    let plain = fs::read_to_string(&site.config).expect("configuration");
    let with = |tier: &str, folder: &str| {
        let url = site.path(folder).display().to_string();
        let more = format!("[retention]\ninterval = \"100ms\"\n[tiers.{tier}]\nurl = \"file://{url}\"\n");
        fs::write(&site.config, format!("{plain}{more}")).expect("written");
    };
    with("warm", "warm");
    let service = site.serve();
    let copied = || files(&site.path("warm/default"), "mp4");
    let deadline = Instant::now() + Duration::from_secs(30);
    while copied().is_empty() {
        assert!(Instant::now() < deadline, "nothing is copied");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(service.stop(Signal::TERM), Some(0));
    assert_exit(&site.run("check", &["--deep"]), 0, "clean");
    fs::write(&site.config, &plain).expect("written");
    assert_exit(
        &site.run("serve", &[]),
        1,
        "[tiers.warm] is not configured any more",
    );
    with("warm", "elsewhere");
    assert_exit(&site.run("serve", &[]), 1, "does not hold the footage");
    with("warm", "not/mounted");
    assert_exit(&site.run("serve", &[]), 1, "mount its disk");
    with("warm", "warm");
    fs::write(site.path("warm/.tierline"), "another warm\n").expect("written");
    assert_exit(&site.run("serve", &[]), 1, "belongs to another archive");
}

#[test]
fn an_index_that_is_damaged_anywhere_is_told_with_the_remedy() {
    let farm = farm(1);
    let site = site(Some(&farm), 1);
    // What a process wrote is in a table of the index when the next one has opened it.
    for _ in 0..2 {
        let service = site.serve();
        service.wait_until_durable("cam-0");
        assert_eq!(service.stop(Signal::TERM), Some(0));
    }
    // Stopped, not killed: a file that a compaction has just replaced is no part of the index.
    assert_eq!(site.serve().stop(Signal::TERM), Some(0));
    let tables = files(&site.path("data/index"), "sst");
    assert!(tables.len() >= 3, "{tables:?}");
    for table in tables {
        let sound = fs::read(&table).expect("table");
        let mut damaged = sound.clone();
        damaged[20] ^= 1;
        fs::write(&table, damaged).expect("written");
        assert_exit(&site.run("check", &["--deep"]), 2, "tierline rebuild");
        fs::write(&table, sound).expect("written");
    }
    assert_exit(&site.run("check", &["--deep"]), 0, "clean");
}

#[test]
fn files_are_imported_behind_each_other_and_never_into_the_past() {
    let site = site(None, 0);
    let mut names = Vec::new();
    for name in ["a.mp4", "b.mp4"] {
        let file = site.path(name);
        let options = "-v error -f lavfi -i testsrc=s=160x120:r=25:d=4 -pix_fmt yuv420p -g 25 -bf 2 -movflags +faststart";
        let made = Command::new("ffmpeg")
            .args(options.split(' '))
            .arg(&file)
            .status()
            .expect("ffmpeg runs");
        assert!(made.success());
        names.push(file.to_str().expect("text").to_owned());
    }
    let import = |start: &str, files: &[&str]| {
        site.run(
            "import",
            &[&["--camera", "old", "--start", start][..], files].concat(),
        )
    };
    let both = import("2026-01-01T00:00:00Z", &[&names[0], &names[1]]);
    assert_exit(
        &both,
        0,
        "b.mp4: 2026-01-01T00:00:04.000000Z to 2026-01-01T00:00:08.000000Z",
    );
    assert_exit(
        &import("2026-01-01T00:00:07Z", &[&names[0]]),
        1,
        "has footage until 2026-01-01T00:00:08",
    );
    assert_exit(&import("9000-01-01T00:00:00Z", &[&names[0]]), 1, "in the future");
    assert_exit(
        &import("2026-02-01T00:00:00Z", &["/not/there.mp4"]),
        1,
        "/not/there.mp4",
    );
    let bytes = fs::read(&names[0]).expect("file");
    fs::write(&names[1], bytes.get(..bytes.len() * 3 / 4).expect("longer")).expect("written");
    assert_exit(
        &import("2026-01-01T00:01:00Z", &[&names[1]]),
        1,
        "what came before is imported",
    );

    assert_exit(&site.run("check", &["--deep"]), 0, "clean");
    let out = site.path("out.mp4");
    let out = out.to_str().expect("text");
    let range = [
        "--from",
        "2026-01-01T00:00:00Z",
        "--to",
        "2026-01-01T00:00:04Z",
        "--out",
        out,
    ];
    assert_exit(
        &site.run("export", &[&["--camera", "old"][..], &range].concat()),
        0,
        "0 gaps",
    );
    assert_eq!(pictures(out), pictures(&names[0]));
}

/// The hashes of the decoded pictures of a file.
fn pictures(file: &str) -> Vec<String> {
    let args = [
        "-v",
        "error",
        "-i",
        file,
        "-map",
        "0:v",
        "-f",
        "framehash",
        "-hash",
        "md5",
        "-",
    ];
    let output = Command::new("ffmpeg").args(args).output().expect("ffmpeg runs");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        text(&output.stderr)
    );
    let lines = text(&output.stdout);
    let pictures = lines
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.rsplit(' ').next());
    let pictures: Vec<String> = pictures.map(str::to_owned).collect();
    assert!(pictures.len() >= 100, "{} pictures", pictures.len());
    pictures
}

#[test]
fn a_demo_shows_its_cameras_and_ends_with_control_c() {
    let dir = tempfile::tempdir().expect("folder");
    let mut command = tierline(&["demo", "--listen", "127.0.0.1:0", "--dir"]);
    command.arg(dir.path().join("demo"));
    let demo = Running::start(command);
    demo.wait_until_durable("front-door");
    assert!(demo.get("/api/v1/cameras").contains("Loading dock"));
    assert!(demo.get("/").starts_with("HTTP/1.1 200"));
    assert_eq!(demo.stop(Signal::INT), Some(0));
}

#[test]
fn simulated_cameras_say_where_they_are_and_stop_on_request() {
    let mut child = tierline(&["camsim", "--listen", "127.0.0.1:0", "--cameras", "3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    assert!(
        line.starts_with("serving rtsp://127.0.0.1:") && line.ends_with("/cam/2\n"),
        "{line}"
    );
    kill_process(Pid::from_child(&child), Signal::TERM).expect("alive");
    let output = child.wait_with_output().expect("ends");
    assert_exit(&output, 0, "camsim: active 0");
}

#[test]
fn a_configuration_is_checked_and_explained() {
    let site = site(None, 0);
    let file = site.config.to_str().expect("text").to_owned();
    assert_exit(
        &tierline(&["config", "--check", &file]).output().expect("runs"),
        0,
        "fine, 0 cameras",
    );
    assert_exit(
        &tierline(&["config"]).output().expect("runs"),
        0,
        "[[cameras.streams]]",
    );
    assert_exit(&site.run("config", &["--show"]), 0, "segment_duration = \"4s\"");
    fs::write(&site.config, "[http]\nlisen = \"127.0.0.1:0\"\n").expect("written");
    let wrong = format!("{file}:2: http.lisen: `lisen` is not a key; did you mean `listen`?");
    assert_exit(
        &tierline(&["config", "--check", &file]).output().expect("runs"),
        1,
        &wrong,
    );
    assert_exit(&site.run("check", &[]), 2, &wrong);
    fs::write(&site.config, "[http]\nlisten = \"0.0.0.0:0\"\n").expect("written");
    assert_exit(&site.run("serve", &[]), 1, "[[http.api_keys]]");
}

#[test]
fn every_subcommand_explains_itself() {
    for name in [
        "serve", "demo", "camsim", "import", "export", "check", "rebuild", "report", "config",
    ] {
        assert_exit(
            &tierline(&[name, "--help"]).output().expect("runs"),
            0,
            &format!("  tierline {name}"),
        );
    }
}

/// Every file below a folder whose name ends like this; every one when nothing is said.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if extension.is_empty() || path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}
