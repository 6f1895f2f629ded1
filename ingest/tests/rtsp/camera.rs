//! The GStreamer camera as a process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A running camera; killed when dropped.
pub(crate) struct Camera {
    process: Child,
    pub(crate) url: String,
    log: tempfile::NamedTempFile,
}

impl Camera {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/camera/gst_camera.py");
        let log = tempfile::NamedTempFile::new().expect("a log");
        let mut process = Command::new("/usr/bin/python3")
            .arg(script)
            .args(arguments)
            .arg("--hash-log")
            .arg(log.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the camera starts");
        let mut url = String::new();
        let output = process.stdout.as_mut().expect("piped");
        BufReader::new(output).read_line(&mut url).expect("a line");
        assert!(url.starts_with("rtsp://"), "{url}");
        Self {
            process,
            url: url.trim().to_owned(),
            log,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the camera runs");
    }

    /// What was sent on a track since the first client came.
    pub(crate) fn sent(&self, track: &str) -> Vec<Value> {
        let log = std::fs::read_to_string(self.log.path()).expect("a log");
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["track"] == track).collect()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
