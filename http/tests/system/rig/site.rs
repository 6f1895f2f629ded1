//! A place where the service runs: its folders, its configuration, its commands.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use ingest::camsim::Camsim;
use tempfile::TempDir;

use super::service::{Refused, Service};

/// The program under test.
const TIERLINE: &str = env!("CARGO_BIN_EXE_tierline");

/// The id of the camera that a farm serves under `number`.
pub(crate) fn camera_id(number: usize) -> String {
    format!("cam-{number}")
}

/// What a command printed, for people.
pub(crate) fn lines(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}\n{out}{err}", output.status)
}

/// Folders and a configuration. Everything is removed when it is dropped.
pub(crate) struct Site {
    folder: TempDir,
    /// Where the index lies.
    pub(crate) data_dir: PathBuf,
    /// Where footage lies, if not in `data_dir`.
    pub(crate) hot: Option<PathBuf>,
    /// How long a segment is, as the configuration writes it.
    pub(crate) segment_duration: &'static str,
    /// The priorities of cameras that have one of their own.
    pub(crate) priorities: BTreeMap<String, u8>,
    /// More TOML for the configuration.
    pub(crate) more: String,
    cameras: Vec<(String, String)>,
    starts: u32,
}

impl Site {
    /// A site that records the first `cameras` cameras of `farm`, in segments of 5 s.
    pub(crate) fn new(farm: &Camsim, cameras: usize) -> Self {
        Self::of((0..cameras).map(|n| (camera_id(n), farm.url(n))).collect())
    }

    /// A site that records `cameras`, each an id and the URL of its one stream, in segments of 5 s.
    pub(crate) fn of(cameras: Vec<(String, String)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            data_dir: folder.path().join("data"),
            folder,
            hot: None,
            segment_duration: "5s",
            priorities: BTreeMap::new(),
            more: String::new(),
            cameras,
            starts: 0,
        }
    }

    /// The ids of its cameras.
    pub(crate) fn cameras(&self) -> Vec<String> {
        self.cameras.iter().map(|(id, _)| id.clone()).collect()
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where footage lies.
    pub(crate) fn hot(&self) -> PathBuf {
        self.hot.clone().unwrap_or_else(|| self.data_dir.join("hot"))
    }

    /// Every segment file, in the order of their paths.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.hot(), &mut found);
        found.retain(|path| path.extension() == Some(OsStr::new("mp4")));
        found.sort_unstable();
        found
    }

    fn write_config(&self) -> PathBuf {
        let mut text = format!("data_dir = {:?}\n", self.data_dir);
        text += "[http]\nlisten = \"127.0.0.1:0\"\n[ingest]\nallow_loopback = true\n";
        let _ = writeln!(
            text,
            "[recording]\nsegment_duration = {:?}",
            self.segment_duration
        );
        if let Some(hot) = &self.hot {
            let _ = writeln!(text, "[tiers.hot]\nurl = \"file://{}\"", hot.display());
        }
        for (id, url) in &self.cameras {
            let _ = writeln!(text, "[[cameras]]\nid = \"{id}\"");
            if let Some(priority) = self.priorities.get(id) {
                let _ = writeln!(text, "priority = {priority}");
            }
            let _ = writeln!(text, "[[cameras.streams]]\nname = \"main\"\nurl = \"{url}\"");
        }
        text += &self.more;
        let path = self.path("site.toml");
        fs::write(&path, text).expect("a configuration");
        path
    }

    /// A command of the product on this site's configuration.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(TIERLINE);
        command.arg(name).arg("--config").arg(self.write_config());
        // A build machine's own settings are none of this site's.
        command.env("RUST_BACKTRACE", "1").env_remove("RUST_LOG");
        command
    }

    /// Starts the service as `alter` wants it.
    pub(crate) fn start_with(&mut self, alter: impl FnOnce(&mut Command)) -> Result<Service, Refused> {
        self.starts += 1;
        let log = self.path(&format!("log-{}.txt", self.starts));
        let mut command = self.command("serve");
        alter(&mut command);
        Service::start(command, log)
    }

    /// Starts the service.
    pub(crate) fn start(&mut self) -> Service {
        match self.start_with(|_| ()) {
            Ok(service) => service,
            Err(refused) => panic!("did not start: {}\n{}", refused.status, refused.log),
        }
    }

    /// Starts the service and kills it a little later, whether it is ready or not.
    pub(crate) fn start_and_kill(&self, after: Duration) {
        let mut command = self.command("serve");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("the service's program");
        thread::sleep(after);
        child.kill().expect("a signal");
        child.wait().expect("a status");
    }

    /// Fails unless the archive, whose service has ended, is whole to the last byte.
    pub(crate) fn assert_whole(&self) {
        let output = self.command("check").arg("--deep").output().expect("check");
        assert!(output.status.success(), "check: {}", lines(&output));
    }

    /// Makes the index anew in `into`.
    pub(crate) fn rebuild(&self, into: &Path) {
        let output = self.command("rebuild").arg("--into").arg(into).output();
        let output = output.expect("rebuild");
        assert!(output.status.success(), "rebuild: {}", lines(&output));
    }

    /// Compares the index with another.
    pub(crate) fn compare(&self, other: &Path) -> Output {
        self.command("check")
            .arg("--index")
            .arg(other)
            .output()
            .expect("check")
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}
