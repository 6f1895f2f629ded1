//! One run of the service.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::api::Api;
use super::wait_for;

/// What the service prints when it is ready, before its address.
const READY: &str = "listening on ";
/// A service that is not ready by then never will be.
const READY_MAX: Duration = Duration::from_secs(30);
/// A service that was asked to end and has not by then hangs.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Lines of its log that a failed test shows.
const LOG_LINES: usize = 80;

/// A service that runs. It is killed when this is dropped.
pub(crate) struct Service {
    child: Child,
    api: Api,
    log: PathBuf,
    begun: Instant,
}

/// Why there is no service.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: ExitStatus,
    pub(crate) log: String,
}

impl Service {
    /// Starts `command`, which logs into `log`, and waits until it is ready.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Self, Refused> {
        let begun = Instant::now();
        let stderr = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("the service's program");
        let stdout = BufReader::new(child.stdout.take().expect("standard output"));
        let (tell, told) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let text = || fs::read_to_string(&log).unwrap_or_default();
        let base = loop {
            match told.recv_timeout(READY_MAX.saturating_sub(begun.elapsed())) {
                Ok(line) => {
                    if let Some(base) = line.strip_prefix(READY) {
                        break base.to_owned();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = child.wait().expect("a status");
                    return Err(Refused { status, log: text() });
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("not ready after {READY_MAX:?}:\n{}", text());
                }
            }
        };
        Ok(Self {
            child,
            api: Api::new(&base),
            log,
            begun,
        })
    }

    /// How to ask it.
    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long ago it was started.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until all `cameras` are recorded; how long ago it was started then.
    pub(crate) fn wait_until_recording(&self, cameras: &[String], limit: Duration) -> Duration {
        let is_recording = |camera: &String| self.api.status(camera).is_ok_and(|s| s.state == "recording");
        wait_for("all cameras are recorded", limit, || {
            cameras.iter().all(is_recording).then(|| self.age())
        })
    }

    /// Waits until footage of all `cameras` from now on is durable.
    pub(crate) fn wait_until_durable(&self, cameras: &[String], limit: Duration) {
        let now = super::now();
        let is_durable = |camera: &String| {
            let status = self.api.status(camera);
            status.is_ok_and(|s| s.durable_until.is_some_and(|until| until > now))
        };
        wait_for("footage of all cameras is durable", limit, || {
            cameras.iter().all(is_durable).then_some(())
        });
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("a status");
    }

    /// Asks it to end, and waits for it.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("a signal");
        self.ended(STOP_MAX)
    }

    /// Asks it to end, which must go well.
    pub(crate) fn stop(self) {
        let log = self.log.clone();
        let status = self.terminate();
        let log = fs::read_to_string(log).unwrap_or_default();
        assert!(status.success(), "stopped with {status}:\n{log}");
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self, limit: Duration) -> ExitStatus {
        wait_for("the service ends", limit, || {
            self.child.try_wait().expect("a status")
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let from = log.lines().count().saturating_sub(LOG_LINES);
            let tail: Vec<_> = log.lines().skip(from).collect();
            eprintln!("the service logged:\n{}", tail.join("\n"));
        }
    }
}
