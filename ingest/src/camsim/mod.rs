//! A farm of simulated RTSP cameras, cheap enough to load-test a recorder on the same machine.
//!
//! Camera `n` is served at `rtsp://ADDRESS:PORT/cam/<n>` to any number of clients over interleaved TCP. Each
//! is a free-running encoder that repeats a clip: whether anybody watches or not its clock runs on, its
//! frames and keyframes fall at other times than its neighbours', clients join in mid-GOP, and sender
//! reports every 5 s tie its RTP clock to wall time. A clip is cut into RTP packets once; sending a frame is
//! one copy, a patch of sequence numbers and timestamps, and one `send` that never blocks. A client that
//! falls 16 MiB behind is cut.
//!
//! Faults are part of it: cameras can stall, go down, lose frames, drop sessions, run on a wrong clock and
//! change their parameter sets in mid-session; a log of hashes says what was sent.

mod annexb;
mod bits;
mod clip;
mod clock;
mod codec;
mod counters;
mod encoder;
mod farm;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod h264;
mod h265;
mod link;
mod mp4;
mod order;
mod pacer;
mod packetize;
mod report;
mod rtsp;
mod sdp;
mod session;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

pub use clip::{Clip, ClipError};
pub use codec::Codec;
pub use counters::Counters;
pub use encoder::SentFrame;

use clock::FarmClock;
use encoder::Encoder;
use farm::Farm;
use link::Link;

/// Connections that are served at a time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 20_000;

/// One pacer thread per so many cameras: well below what one core sends.
const CAMERAS_PER_PACER: usize = 300;

/// Enough for a connection's thread, which parses requests only.
const SESSION_STACK_BYTES: usize = 128 << 10;

/// How long [`Camsim::stop`] waits for connection threads to end.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Number of cameras, at least 1.
    pub cameras: usize,
    /// Clip files, given to the cameras in turn; none means the built-in clip.
    pub clips: Vec<PathBuf>,
    /// Frame rate of raw clips; `None` takes the clip's own, or 30 where it states none.
    pub fps: Option<u32>,
    /// Cuts each session after this time, as a flaky network does.
    pub drop_after: Option<Duration>,
    /// Writes a line with the [`Counters`] to standard error at this interval.
    pub report_every: Option<Duration>,
}

impl Default for Config {
    /// One camera with the built-in clip on a free loopback port.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            cameras: 1,
            clips: Vec::new(),
            fps: None,
            drop_after: None,
            report_every: None,
        }
    }
}

/// A running farm. Dropping it stops it.
pub struct Camsim {
    farm: Arc<Farm>,
    clips: Vec<Arc<Clip>>,
    listener: Arc<TcpListener>,
    local_addr: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    reporter: Option<Sender<()>>,
}

/// Loads the clips and starts the farm.
///
/// # Errors
/// `InvalidInput` with a [`ClipError`] inside for a clip that cannot be used and for a farm without
/// cameras; otherwise what binding the address or starting a thread says.
pub fn start(config: Config) -> io::Result<Camsim> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let mut clips = Vec::new();
    for path in &config.clips {
        clips.push(Clip::load(path, config.fps).map_err(invalid)?);
    }
    if clips.is_empty() {
        clips.push(Clip::demo().map_err(invalid)?);
    }
    if config.cameras == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a farm needs at least one camera",
        ));
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "a camera is a device with a clock of its own"
    )]
    let clock = FarmClock::new(Instant::now(), SystemTime::now());
    let turns = clips.iter().cycle().take(config.cameras).enumerate();
    let cameras = turns
        .map(|(number, clip)| Encoder::new(number, clip.clone()))
        .collect();
    let pacers = config
        .cameras
        .div_ceil(CAMERAS_PER_PACER)
        .min(thread::available_parallelism()?.get());
    let listener = Arc::new(TcpListener::bind(config.listen)?);
    let mut camsim = Camsim {
        farm: Arc::new(Farm::new(clock, cameras, pacers, config.drop_after)),
        clips,
        local_addr: listener.local_addr()?,
        listener,
        threads: Vec::new(),
        reporter: None,
    };
    camsim.spawn_threads(config.report_every)?;
    Ok(camsim)
}

impl Camsim {
    fn spawn_threads(&mut self, report_every: Option<Duration>) -> io::Result<()> {
        for pacer in 0..self.farm.pacers.len() {
            let farm = self.farm.clone();
            self.spawn("camsim-pacer", move || farm.pacers[pacer].run(&farm))?;
        }
        let (farm, listener) = (self.farm.clone(), self.listener.clone());
        self.spawn("camsim-accept", move || accept(&farm, &listener))?;
        if let Some(every) = report_every {
            let (stop, stopped) = mpsc::channel::<()>();
            let farm = self.farm.clone();
            self.reporter = Some(stop);
            self.spawn("camsim-report", move || {
                while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    // Nobody may be reading standard error; the farm goes on.
                    drop(writeln!(io::stderr(), "camsim: {}", farm.tally.snapshot()));
                }
            })?;
        }
        Ok(())
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads
            .push(thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    /// Where the farm listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address of camera `number`.
    pub fn url(&self, number: usize) -> String {
        format!("rtsp://{}/cam/{number}", self.local_addr)
    }

    /// The clips in use, as configured.
    pub fn clips(&self) -> &[Arc<Clip>] {
        &self.clips
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        self.farm.tally.snapshot()
    }

    /// Whether camera `number` stalls: its sessions stay open and receive nothing. It resumes with a
    /// keyframe under the timestamps of that time.
    ///
    /// # Panics
    /// Like every method with a camera number, if there is no such camera.
    pub fn set_stalled(&self, number: usize, stalled: bool) {
        self.camera(number).set_stalled(stalled);
    }

    /// Whether camera `number` is down: its sessions are cut and requests for it get no answer but the end
    /// of the connection.
    pub fn set_down(&self, number: usize, down: bool) {
        self.camera(number).set_down(down);
        if down {
            self.farm.close_camera(number);
        }
    }

    /// Cuts all sessions of camera `number` once; clients may connect again at once.
    pub fn drop_sessions(&self, number: usize) {
        drop(self.camera(number));
        self.farm.close_camera(number);
    }

    /// Lets camera `number` play another clip from its next frame on, beginning with a keyframe that has
    /// its parameter sets in band. Timestamps and sequence numbers go on; sessions go on too unless the
    /// codec changes.
    pub fn switch_clip(&self, number: usize, clip: Arc<Clip>) {
        self.camera(number)
            .switch_clip(clip, Instant::now(), &self.farm.clock);
    }

    /// Lets the next `frames` frames of camera `number` get lost: clients see a jump in sequence numbers.
    pub fn lose_frames(&self, number: usize, frames: u32) {
        self.camera(number).lose_frames(frames);
    }

    /// Sets how far the wall clock of camera `number` is ahead of the host's, in microseconds. Sender
    /// reports say so from the next frame on.
    pub fn set_wall_offset_us(&self, number: usize, offset_us: i64) {
        self.camera(number).set_wall_offset_us(offset_us);
    }

    /// Starts a new log of what camera `number` sends, or ends it. Off at first.
    pub fn set_logging(&self, number: usize, on: bool) {
        self.camera(number).set_logging(on);
    }

    /// The frames that camera `number` sent since logging began, in decoding order. Frames that went to
    /// nobody, because the camera stalled or had no client, are not among them; lost ones are.
    pub fn logged_frames(&self, number: usize) -> Vec<SentFrame> {
        self.camera(number).logged_frames()
    }

    fn camera(&self, number: usize) -> MutexGuard<'_, Encoder> {
        self.farm
            .camera(number)
            .unwrap_or_else(|| panic!("there is no camera {number}"))
    }

    /// Cuts all sessions and ends all threads.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Camsim {
    fn drop(&mut self) {
        self.farm.stop();
        self.reporter = None;
        // Wakes the thread in accept(2); if that fails, the thread ends with the next connection.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        let deadline = Instant::now() + STOP_WAIT;
        while self.farm.links_open() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn accept(farm: &Arc<Farm>, listener: &TcpListener) {
    while !farm.is_stopping() {
        match listener.accept() {
            Ok((socket, _)) => welcome(farm, socket),
            // Out of descriptors, most likely: they come back as clients leave.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn welcome(farm: &Arc<Farm>, socket: TcpStream) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let link = Arc::new(Link::new(socket));
    let Some(number) = farm.open(&link, CONNECTIONS_MAX) else {
        return;
    };
    let shared = farm.clone();
    let serve = move || {
        session::serve(&shared, &link);
        shared.close(number);
    };
    let named = thread::Builder::new()
        .name("camsim-session".into())
        .stack_size(SESSION_STACK_BYTES);
    if named.spawn(serve).is_err() {
        farm.close(number);
    }
}
