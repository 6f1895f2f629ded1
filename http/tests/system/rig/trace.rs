//! System calls of a running service, seen and made to fail from outside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The calls that change a file.
const WRITES: [&str; 7] = [
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "ftruncate",
    "fallocate",
];
const SYNC: &str = "fdatasync";
/// The call that removes one.
const REMOVAL: &str = "unlink";

/// Whose calls fail.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Those on one file, by any thread.
    File(PathBuf),
    /// Those of the thread with this name, on any file.
    Thread(&'static str),
}

/// What fails, without reaching the disk.
#[derive(Clone, Debug)]
pub(crate) struct Injection {
    pub(crate) target: Target,
    /// The calls, for example `fdatasync`.
    pub(crate) calls: &'static str,
    /// How, for example `EIO`.
    pub(crate) error: &'static str,
    /// Which of them, counted from when the tracing began: `2`, `1..2` or `1+`.
    pub(crate) when: &'static str,
}

/// A service under `strace`.
pub(crate) struct Trace {
    strace: Child,
    log: PathBuf,
}

impl Trace {
    /// Begins to trace the process `pid`; what is seen goes to `log`.
    pub(crate) fn attach(pid: u32, injection: &Injection, log: PathBuf) -> Self {
        let mut command = Command::new("strace");
        command.arg("-y").arg("-o").arg(&log);
        command.args(["-e", &format!("trace={SYNC},{REMOVAL},{}", WRITES.join(","))]);
        let Injection {
            calls, error, when, ..
        } = injection;
        command.args(["-e", &format!("inject={calls}:error={error}:when={when}")]);
        match &injection.target {
            Target::File(path) => command
                .arg("-f")
                .arg("-P")
                .arg(path)
                .args(["-p", &pid.to_string()]),
            Target::Thread(name) => command.args(["-p", &thread_id(pid, name)]),
        };
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut strace = command.spawn().expect("strace, of the package strace");
        let mut stderr = BufReader::new(strace.stderr.take().expect("standard error"));
        let mut said = String::new();
        while !said.contains(" attached") {
            let read = stderr.read_line(&mut said).expect("a line");
            assert!(read > 0, "strace did not attach: {said}");
        }
        // It says more when threads come and go, and must not meet a closed pipe.
        std::thread::spawn(move || stderr.lines().for_each(drop));
        Self { strace, log }
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The file of each call that was made to fail, in order.
    pub(crate) fn failed(&self) -> Vec<PathBuf> {
        let lines = self.lines();
        lines
            .iter()
            .filter(|line| is_failure(line))
            .filter_map(|line| file_of(line))
            .collect()
    }

    /// Changes of a file after the first failure, and tries to sync it, up to its removal.
    pub(crate) fn touched_after_failure(&self, file: &Path) -> Vec<String> {
        let lines = self.lines().into_iter();
        let since = lines.skip_while(|line| !is_failure(line) || file_of(line).as_deref() != Some(file));
        since
            .skip(1)
            .take_while(|line| !(line.contains(REMOVAL) && line.contains(&*file.to_string_lossy())))
            .filter(|line| file_of(line).as_deref() == Some(file))
            .collect()
    }

    /// Lets the service go on alone. What was seen stays.
    pub(crate) fn detach(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            let _ = kill_process(Pid::from_child(&self.strace), Signal::TERM);
        }
        let _ = self.strace.wait();
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.detach();
    }
}

fn is_failure(line: &str) -> bool {
    line.ends_with("(INJECTED)")
}

/// The file that a call is about: `fdatasync(7</a/b.mp4>) = 0`.
fn file_of(line: &str) -> Option<PathBuf> {
    let (_, rest) = line.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    Some(PathBuf::from(path))
}

/// The number of the process's thread with a name.
fn thread_id(pid: u32, name: &str) -> String {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let is_it = |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let found = tasks.flatten().map(|task| task.path()).find(is_it);
    let found = found.unwrap_or_else(|| panic!("no thread `{name}`"));
    found.file_name().expect("a name").to_string_lossy().into_owned()
}
