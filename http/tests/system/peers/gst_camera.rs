//! The GStreamer camera of `ingest/tests/camera`, and its log of what it sent.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

/// Debian's own: it sees GStreamer's bindings.
const PYTHON: &str = "/usr/bin/python3";

/// A camera that runs. It is killed when this is dropped.
pub(crate) struct GstCamera {
    process: Child,
    /// Where it is watched.
    pub(crate) url: String,
    logs: PathBuf,
    arguments: Vec<String>,
    starts: u32,
}

/// An access unit as it went to the payloader.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SentPicture {
    /// How often the camera had built its pipeline.
    pub(crate) media: u32,
    /// When it is shown, in nanoseconds of the pipeline's clock for pictures.
    #[serde(rename = "pts")]
    pub(crate) pts_ns: i64,
    pub(crate) key: bool,
    /// Of the form that MP4 stores, without parameter sets.
    #[serde(rename = "mp4_bare_sha256")]
    pub(crate) hash: String,
}

/// A frame of AAC as it went to the payloader.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SentSound {
    /// When it is heard, in nanoseconds of the pipeline's clock for sound.
    #[serde(rename = "pts")]
    pub(crate) pts_ns: i64,
    #[serde(rename = "sha256")]
    pub(crate) hash: String,
}

#[derive(Deserialize)]
struct Line {
    track: String,
}

impl GstCamera {
    /// Starts a camera on a free port; its logs lie in `folder` under `name`.
    pub(crate) fn start(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let logs = folder.join(name);
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (process, url) = spawn(&logs, 1, &arguments);
        Self {
            process,
            url,
            logs,
            arguments,
            starts: 1,
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the camera runs");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("a signal");
        self.process.wait().expect("a status");
    }

    /// Starts it again on the same port, with an empty log.
    pub(crate) fn start_again(&mut self) {
        let (_, port) = self
            .url
            .trim_end_matches("/stream")
            .rsplit_once(':')
            .expect("a port");
        let mut arguments = self.arguments.clone();
        arguments.extend(["--port".to_owned(), port.to_owned()]);
        self.starts += 1;
        let (process, url) = spawn(&self.logs, self.starts, &arguments);
        self.process = process;
        assert_eq!(url, self.url);
    }

    /// The pictures sent since it was started, in the order of sending.
    pub(crate) fn pictures(&self) -> Vec<SentPicture> {
        self.lines("video")
    }

    /// The sound sent since it was started.
    pub(crate) fn sound(&self) -> Vec<SentSound> {
        self.lines("audio")
    }

    /// The elementary stream sent since it was started.
    pub(crate) fn elementary_stream(&self) -> PathBuf {
        log_path(&self.logs, self.starts, "es")
    }

    fn lines<T: for<'a> Deserialize<'a>>(&self, track: &str) -> Vec<T> {
        let log = fs::read_to_string(log_path(&self.logs, self.starts, "jsonl")).expect("a log");
        let of_track = |line: &&str| serde_json::from_str::<Line>(line).is_ok_and(|l| l.track == track);
        let parse = |line| serde_json::from_str(line).expect("a line of the log");
        log.lines().filter(of_track).map(parse).collect()
    }
}

impl Drop for GstCamera {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn log_path(logs: &Path, start: u32, extension: &str) -> PathBuf {
    logs.with_extension(format!("{start}.{extension}"))
}

fn spawn(logs: &Path, start: u32, arguments: &[String]) -> (Child, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ingest/tests/camera/gst_camera.py");
    let mut command = Command::new(PYTHON);
    command.arg(script).args(arguments);
    command.arg("--hash-log").arg(log_path(logs, start, "jsonl"));
    command.arg("--es-log").arg(log_path(logs, start, "es"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = command.spawn().expect("the GStreamer camera");
    let mut url = String::new();
    let output = process.stdout.take().expect("standard output");
    let mut output = BufReader::new(output);
    output.read_line(&mut url).expect("the camera's address");
    assert!(url.starts_with("rtsp://"), "the GStreamer camera said: {url:?}");
    // It must not die of a closed pipe when it says more.
    std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(drop));
    (process, url.trim().to_owned())
}
