//! Makes complete fragments durable, those of all streams together: the only writer of segments.
//!
//! A group: append to every touched segment, `fdatasync` each, then one synced index batch, then tell
//! readers. Footers and their sealed rows follow behind; what they need is durable already.

mod open_segment;
mod rotation;
mod stream;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::segment::hash_samples;
use archive::{Gap, StreamNo, WallTime};
use indexer::{Batch, Index};

use crate::config::IngestConfig;
use crate::fragmenter::Finished;
use open_segment::OpenSegment;
use stream::StreamWriter;

/// More is not made durable in one group, so that one on a slow disk takes seconds.
const GROUP_BYTES_MAX: usize = 64 << 20;

enum Command {
    Fragment(StreamNo, Box<Finished>, Times),
    Gaps(StreamNo, Vec<Gap>),
    /// The stream ends here for now: seal what is open.
    Close(StreamNo),
    Stop,
}

/// When a fragment came.
#[derive(Copy, Clone)]
struct Times {
    /// When its last sample was sent, by a camera whose clock may be wrong: for what is told of lags.
    sent: Instant,
    /// When it was handed in, by our own clock: for what is decided.
    handed: Instant,
}

/// How many bytes wait for the disk.
#[derive(Debug, Default)]
struct Backlog {
    all: AtomicUsize,
    streams: Mutex<BTreeMap<StreamNo, usize>>,
    commits: AtomicU64,
}

impl Backlog {
    fn add(&self, stream: StreamNo, bytes: usize, config: &IngestConfig) -> bool {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = streams.entry(stream).or_default();
        let all = self.all.load(Ordering::Relaxed);
        // One fragment is always taken, however small the bound.
        if *waiting > 0
            && (*waiting + bytes > config.backlog_bytes_max || all + bytes > config.backlog_bytes_max_all)
        {
            return false;
        }
        *waiting += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn remove(&self, stream: StreamNo, bytes: usize) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = streams.get_mut(&stream) {
            *waiting = waiting.saturating_sub(bytes);
        }
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Where complete fragments are handed in. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Submit {
    tx: Sender<Command>,
    backlog: Arc<Backlog>,
    config: IngestConfig,
}

impl Submit {
    /// Hands in a fragment whose last sample was sent so long ago. Gives it back when too much waits for the
    /// disk already.
    pub fn fragment(&self, stream: StreamNo, finished: Finished, age: Duration) -> Result<(), Box<Finished>> {
        if !self.backlog.add(stream, finished.fragment.bytes(), &self.config) {
            return Err(Box::new(finished));
        }
        let handed = Instant::now();
        let times = Times {
            sent: handed.checked_sub(age).unwrap_or(handed),
            handed,
        };
        let _ = self.tx.send(Command::Fragment(stream, Box::new(finished), times));
        Ok(())
    }

    /// Makes the gap in progress known, in pieces; the last is open.
    pub fn gaps(&self, stream: StreamNo, gaps: Vec<Gap>) {
        let _ = self.tx.send(Command::Gaps(stream, gaps));
    }

    /// How much of the memory for what waits is filled, 0 to 1, and how many commits there were.
    pub(crate) fn load(&self) -> (f32, u64) {
        let filled = self.waiting() as f32 / self.config.backlog_bytes_max_all.max(1) as f32;
        (filled, self.backlog.commits.load(Ordering::Relaxed))
    }

    /// Bytes that wait for the disk.
    pub(crate) fn waiting(&self) -> usize {
        self.backlog.all.load(Ordering::Relaxed)
    }

    /// Seals the stream's open segment once what was handed in is durable.
    pub fn close(&self, stream: StreamNo) {
        let _ = self.tx.send(Command::Close(stream));
    }
}

/// The thread that commits.
#[derive(Debug)]
pub struct Committer {
    submit: Submit,
    thread: JoinHandle<Result<(), indexer::IndexError>>,
}

impl Committer {
    /// Starts it. It ends by itself only when the index fails, after which nothing can be acknowledged.
    pub fn start(config: IngestConfig, index: Arc<Index>, disk: Disk, pool: Pool) -> std::io::Result<Self> {
        let (submit, steps) = Steps::new(config, index, disk, pool);
        let thread = std::thread::Builder::new()
            .name("commit".into())
            .spawn(move || steps.worker.run(&steps.rx))?;
        Ok(Self { submit, thread })
    }

    /// Where fragments are handed in.
    pub fn submit(&self) -> Submit {
        self.submit.clone()
    }

    /// Whether it has ended, which it does only when the index fails.
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Makes everything handed in durable and seals what is open.
    pub fn stop(self) -> Result<(), indexer::IndexError> {
        let _ = self.submit.tx.send(Command::Stop);
        // After a panic nothing may be said to be durable.
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// The committer without its thread: each group is committed when it is told to. To drop it is to be killed.
pub struct Steps {
    worker: Worker,
    rx: Receiver<Command>,
}

impl Steps {
    /// A committer that has not begun, and where fragments are handed in.
    pub fn new(config: IngestConfig, index: Arc<Index>, disk: Disk, pool: Pool) -> (Submit, Self) {
        let (tx, rx) = channel();
        let backlog = Arc::<Backlog>::default();
        let submit = Submit {
            tx,
            backlog: backlog.clone(),
            config: config.clone(),
        };
        let worker = Worker {
            config,
            index,
            disk,
            pool,
            backlog,
            streams: BTreeMap::new(),
            sealed: Batch::default(),
            refused: None,
        };
        (submit, Self { worker, rx })
    }

    /// Makes everything handed in durable.
    pub fn commit(&mut self) -> Result<(), indexer::IndexError> {
        let mut group = Group::default();
        self.rx.try_iter().for_each(|command| group.take(command));
        self.worker.commit(group)
    }

    /// The same, and seals what is open.
    pub fn finish(mut self) -> Result<(), indexer::IndexError> {
        self.commit()?;
        self.worker.finish()
    }
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}

struct Worker {
    config: IngestConfig,
    index: Arc<Index>,
    disk: Disk,
    pool: Pool,
    backlog: Arc<Backlog>,
    streams: BTreeMap<StreamNo, StreamWriter>,
    /// Rows of segments that have ended; they go with the next group.
    sealed: Batch,
    /// The group that the index could not take because the disk is full. It is committed again until it is
    /// taken; meanwhile footage is not even written.
    refused: Option<Refused>,
}

/// A group whose footage is durable and whose rows are not.
struct Refused {
    batch: Batch,
    to_seal: Vec<OpenSegment>,
    /// What sessions told since then; the last word of each counts.
    gaps: BTreeMap<StreamNo, Vec<Gap>>,
}

/// What came in since the last group.
#[derive(Default)]
struct Group {
    fragments: BTreeMap<StreamNo, Vec<Finished>>,
    /// When the last sample of each was sent.
    sent: Vec<Instant>,
    /// When the first of them was handed in.
    oldest: Option<Instant>,
    bytes: usize,
    gaps: Vec<(StreamNo, Vec<Gap>)>,
    close: Vec<StreamNo>,
    stop: bool,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.fragments.is_empty() && self.gaps.is_empty() && self.close.is_empty() && !self.stop
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Fragment(stream, f, times) => {
                self.bytes += f.fragment.bytes();
                self.fragments.entry(stream).or_default().push(*f);
                self.sent.push(times.sent);
                self.oldest.get_or_insert(times.handed);
            }
            Command::Gaps(stream, gaps) => self.gaps.push((stream, gaps)),
            Command::Close(stream) => self.close.push(stream),
            Command::Stop => self.stop = true,
        }
    }
}

impl Worker {
    fn run(mut self, rx: &Receiver<Command>) -> Result<(), indexer::IndexError> {
        loop {
            let mut group = self.collect(rx);
            let stop = group.stop;
            let was_full = self.refused.is_some();
            let sent = std::mem::take(&mut group.sent);
            self.index.pulse().set_waiting(group.oldest);
            let began = Instant::now();
            let result = match self.refused.take() {
                None => self.commit(group),
                Some(refused) => self.commit_again(refused, group),
            };
            self.measured(began, &sent, result.is_ok());
            if let Err(e) = &result {
                // Nothing was acknowledged; readers go on, and the same group is tried again.
                let is_full = self.refused.is_some();
                if !is_full {
                    tracing::error!(error = %e, "the index failed: recording stops");
                } else if !was_full {
                    tracing::error!(error = %e, "the index cannot grow: the disk is full");
                }
                if is_full && !stop {
                    continue;
                }
                return result;
            }
            if stop {
                return self.finish();
            }
        }
    }

    /// Tells how long a commit took that began at `began`, and what that means for the footage in it.
    fn measured(&mut self, began: Instant, sent: &[Instant], durable: bool) {
        let (pulse, now) = (self.index.pulse(), Instant::now());
        let took = now.duration_since(began);
        self.backlog.commits.fetch_add(1, Ordering::Relaxed);
        pulse.update(|keeping| keeping.commit = took);
        if durable {
            sent.iter()
                .for_each(|sent| pulse.durable(now.duration_since(*sent)));
        }
    }

    /// Waits for the next group. An idle archive does not wake up. Where much waits already there is no waiting
    /// for more, and what is too much for one group is left to the next: so that what is durable grows steadily
    /// on a slow disk too.
    fn collect(&mut self, rx: &Receiver<Command>) -> Group {
        let mut group = Group::default();
        let take_all = |group: &mut Group| {
            while group.bytes < GROUP_BYTES_MAX
                && let Ok(command) = rx.try_recv()
            {
                group.take(command);
            }
            group.bytes >= GROUP_BYTES_MAX
        };
        if take_all(&mut group) {
            return group;
        }
        self.index.pulse().set_waiting(group.oldest);
        if self.sealed.is_empty() && self.refused.is_none() && group.is_empty() {
            match rx.recv() {
                Ok(command) => group.take(command),
                Err(_) => group.stop = true,
            }
        }
        let deadline = Instant::now() + self.config.commit_interval;
        while !group.stop && !take_all(&mut group) {
            let left = deadline.saturating_duration_since(Instant::now());
            match rx.recv_timeout(left) {
                Ok(command) => group.take(command),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => group.stop = true,
            }
            // Commands need no answer: one wake-up for many of them.
            if left > Duration::from_millis(50) && !group.stop {
                std::thread::sleep(left.min(Duration::from_millis(100)));
            }
        }
        group
    }

    fn writer(&mut self, stream: StreamNo) -> Result<&mut StreamWriter, indexer::IndexError> {
        use std::collections::btree_map::Entry;
        Ok(match self.streams.entry(stream) {
            Entry::Occupied(e) => e.into_mut(),
            Entry::Vacant(e) => e.insert(StreamWriter::open(&self.index, stream)?),
        })
    }

    fn commit(&mut self, mut group: Group) -> Result<(), indexer::IndexError> {
        let complete = group.fragments.values_mut().flatten();
        hash_samples(complete.map(|finished| &mut finished.fragment));
        let mut batch = std::mem::take(&mut self.sealed);
        let mut to_seal = Vec::new();
        let mut written: BTreeMap<StreamNo, Option<WallTime>> = BTreeMap::new();
        let (config, disk, pool, index) = (
            self.config.clone(),
            self.disk.clone(),
            self.pool.clone(),
            self.index.clone(),
        );
        let mut bytes = Vec::new();
        for (stream, fragments) in group.fragments {
            bytes.push((
                stream,
                fragments.iter().map(|f| f.fragment.bytes()).sum::<usize>(),
            ));
            let writer = self.writer(stream)?;
            written.insert(stream, writer.durable_until());
            let context = stream::Context {
                config: &config,
                disk: &disk,
                pool: &pool,
                index: &index,
            };
            writer.append(&context, fragments, &mut batch, &mut to_seal);
            written.insert(stream, writer.durable_until());
        }
        for (stream, gaps) in group.gaps {
            // What was recorded since the gap was told has the last word.
            let until = written.get(&stream).copied().flatten();
            let lasts = |first: &Gap| until.is_none_or(|until| first.from >= until);
            if gaps.first().is_some_and(lasts) {
                batch.gap_in_progress(stream, gaps);
            }
        }
        for stream in group.close {
            to_seal.extend(self.writer(stream)?.take_open());
        }
        let committed = match batch.is_empty() {
            true => Ok(()),
            false => self.index.commit(&batch),
        };
        for (stream, bytes) in bytes {
            self.backlog.remove(stream, bytes);
        }
        if let Err(e) = committed {
            if e.is_disk_full() {
                self.refused = Some(Refused {
                    batch,
                    to_seal,
                    gaps: BTreeMap::new(),
                });
            }
            return Err(e);
        }
        for open in to_seal {
            open.seal(&self.pool, &mut self.sealed);
        }
        Ok(())
    }

    /// Commits once more what the index did not take, with the gaps that this has left since. Only when it
    /// refuses again is what has come meanwhile lost.
    fn commit_again(&mut self, mut refused: Refused, group: Group) -> Result<(), indexer::IndexError> {
        let mut batch = refused.batch.clone();
        self.streams
            .values()
            .for_each(|writer| writer.tell_lost(&mut batch));
        for (stream, gaps) in &refused.gaps {
            let until = self.streams.get(stream).and_then(StreamWriter::durable_until);
            let lasts = |first: &Gap| until.is_none_or(|until| first.from >= until);
            if gaps.first().is_some_and(lasts) {
                batch.gap_in_progress(*stream, gaps.clone());
            }
        }
        let error = match self.index.commit(batch) {
            Ok(()) => {
                for open in refused.to_seal {
                    open.seal(&self.pool, &mut self.sealed);
                }
                tracing::info!("the index grows again");
                return self.commit(group);
            }
            Err(e) => e,
        };
        if error.is_disk_full() {
            for (stream, fragments) in group.fragments {
                self.writer(stream)?.shed(&fragments);
                let bytes = fragments.iter().map(|f| f.fragment.bytes()).sum();
                self.backlog.remove(stream, bytes);
            }
            for stream in group.close {
                refused.to_seal.extend(self.writer(stream)?.take_open());
            }
            refused.gaps.extend(group.gaps);
            self.refused = Some(refused);
        }
        Err(error)
    }

    fn finish(mut self) -> Result<(), indexer::IndexError> {
        let mut sealed = std::mem::take(&mut self.sealed);
        for writer in self.streams.values_mut() {
            if let Some(open) = writer.take_open() {
                open.seal(&self.pool, &mut sealed);
            }
        }
        self.index.commit(sealed)
    }
}
