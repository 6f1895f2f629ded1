//! What the child does: everything that writes to an archive, one after the other, by a seed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::buffer::Pool;
use archive::disk::Disk;
use archive::seam::Faults;
use archive::site_key::SiteKey;
use archive::time::SECOND_US;
use archive::{GapCause, TimeRange, WallTime};
use indexer::Index;
use ingest::gap_tracker::GapTracker;
use ingest::import::Import;
use ingest::{Committer, IngestConfig, Submit, recover, seal_left_open};
use serde::{Deserialize, Serialize};
use tiering::{Reaper, RetentionRule, Rules, TieringConfig};

use crate::account::{Account, Sent, Told};
use crate::camera::Camera;
use crate::faults::{Plan, Planned, die};
use crate::site::{Site, start_of};

/// Footage is kept this long, counted from its last instant.
pub(crate) const KEPT: Duration = Duration::from_secs(8);
/// What is neither durable nor missing by then never will be.
const SETTLED_MAX: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Recovery, recording with a lost session in it, an import, deletion, and a stop.
    Everything,
    /// Recovery and the sealing of what was left open.
    Recovery,
    /// Recovery, and recording and deleting until it is killed or the file is there.
    Until(PathBuf),
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) site: Site,
    pub(crate) work: Work,
    pub(crate) plan: Plan,
    /// Which process on this archive it is, from 0.
    pub(crate) run: i64,
    pub(crate) seed: u64,
    pub(crate) clip: Option<PathBuf>,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Does the job. What fails is told, as the service would log it before it ends.
pub(crate) fn run(job: &Job) {
    let account = Account::append_to(&job.site.account);
    let faults: Arc<dyn Faults> = Arc::new(Planned::new(job.plan, &job.site));
    match work(job, &account, &faults) {
        Ok(()) => account.tell(&Told::Done),
        Err(e) => {
            account.tell(&Told::Failed(e.to_string()));
            // What records still runs beside this thread: an ordinary end would take the index from under it.
            die();
        }
    }
}

fn work(job: &Job, account: &Account, faults: &Arc<dyn Faults>) -> Outcome {
    let index = Arc::new(job.site.open_index(Some(faults.clone()))?);
    let disk = job.site.open_disk(Some(faults.clone()))?;
    let pool = Pool::new(16);
    let recovered = recover(&disk, &index)?;
    seal_left_open(&disk, &index, &pool, &recovered.unsealed)?;
    if job.work == Work::Recovery {
        return Ok(());
    }
    account.tell(&Told::Started);
    let mut now = start_of(job.run);
    let mut recording = Recording::start(index.clone(), &disk, &pool, account.clone())?;
    for name in ["lobby", "yard"] {
        let camera = resume(&index, &pool, name, now, job.seed)?;
        recording.cameras.push(camera);
    }
    let mut reaper = reaper(&index, &disk)?;
    if let Work::Until(end) = &job.work {
        while !end.exists() {
            recording.session(&mut now, 7)?;
            recording.reap(&mut reaper, now)?;
        }
        return Ok(());
    }
    recording.session(&mut now, 7)?;
    recording.session(&mut now, 4)?;
    recording.reap(&mut reaper, now)?;
    if let Some(clip) = &job.clip {
        let camera = resume(&index, &pool, "imported", now, job.seed)?;
        recording.import(camera, clip, now)?;
    }
    recording.stop()
}

/// A stream that is new waits for the disk, as it does in the service.
fn resume(
    index: &Index,
    pool: &Pool,
    name: &str,
    now: WallTime,
    seed: u64,
) -> Result<Camera, ingest::IngestError> {
    for _ in 0..50 {
        match Camera::resume(index, pool, name, now, seed) {
            Err(ingest::IngestError::Index(e)) if e.is_disk_full() => {}
            other => return other,
        }
    }
    Camera::resume(index, pool, name, now, seed)
}

pub(crate) fn reaper(index: &Arc<Index>, disk: &Disk) -> Result<Reaper, Box<dyn std::error::Error>> {
    let rule = RetentionRule {
        hot: Some(KEPT),
        ..RetentionRule::default()
    };
    let config = TieringConfig {
        reserve: Some(0),
        low: Some(0),
        floor: Some(0),
        ..TieringConfig::default()
    };
    let rules = Rules::new(vec![rule])?;
    Ok(Reaper::new(
        index.clone(),
        disk.clone(),
        rules,
        config,
        SiteKey::from_secret([1; 32]),
    )?)
}

/// Cameras and what takes their footage.
pub(crate) struct Recording {
    index: Arc<Index>,
    committer: Committer,
    submit: Submit,
    account: Account,
    pub(crate) cameras: Vec<Camera>,
}

impl Recording {
    pub(crate) fn start(
        index: Arc<Index>,
        disk: &Disk,
        pool: &Pool,
        account: Account,
    ) -> Result<Self, std::io::Error> {
        let config = IngestConfig {
            segment_duration: Duration::from_secs(4),
            commit_interval: Duration::from_millis(3),
            ..IngestConfig::default()
        };
        let committer = Committer::start(config, index.clone(), disk.clone(), pool.clone())?;
        Ok(Self {
            index,
            submit: committer.submit(),
            committer,
            account,
            cameras: Vec::new(),
        })
    }

    /// Every camera is there for so many seconds, and then for two is not.
    pub(crate) fn session(&mut self, now: &mut WallTime, seconds: i64) -> Outcome {
        let mut cameras = std::mem::take(&mut self.cameras);
        cameras.iter_mut().for_each(|camera| camera.begin_session(*now));
        for second in 0..=seconds {
            *now = now.plus_micros(SECOND_US);
            let mut sent = Vec::new();
            for camera in &mut cameras {
                let finished = match second < seconds {
                    true => camera.second(),
                    false => camera.end_session(*now, GapCause::SessionLost),
                };
                if let Some((finished, remembered)) = finished {
                    self.submit
                        .fragment(camera.no, finished, std::time::Duration::ZERO)
                        .map_err(|_| "the backlog is full")?;
                    sent.push(remembered);
                }
                if second == seconds {
                    let gaps = camera.fragmenter.gap().pieces().collect();
                    self.submit.gaps(camera.no, gaps);
                }
            }
            self.settle(&cameras, sent)?;
        }
        *now = now.plus_micros(2 * SECOND_US);
        self.cameras = cameras;
        Ok(())
    }

    /// Waits until a reader sees of every fragment that it is there or missing, and tells that.
    fn settle(&self, cameras: &[Camera], mut sent: Vec<Sent>) -> Outcome {
        let begun = Instant::now();
        while !sent.is_empty() {
            let mut left = Vec::new();
            for one in sent {
                let camera = cameras.iter().find(|camera| camera.name == one.camera);
                let no = camera.map(|camera| camera.no).ok_or("no such camera")?;
                let range = TimeRange::new(one.from, one.to).ok_or("no time")?;
                let seen = self.index.fragments(no, range)?;
                let is_there = |f: &archive::FragmentEntry| f.wall_start == one.from;
                // One that is open may have been told by the session before.
                let ended = |g: &archive::Gap| g.to.is_some_and(|to| to >= one.to);
                let gap = self.index.gaps(no, range)?.into_iter().find(ended);
                if seen.iter().flat_map(|s| &s.fragments).any(is_there) {
                    self.account.tell(&Told::Acked(one));
                } else if let Some(gap) = gap {
                    self.account.tell(&Told::Missing(one, gap.cause));
                } else {
                    left.push(one);
                }
            }
            sent = left;
            if sent.is_empty() {
                break;
            }
            if self.committer.has_failed() {
                return Err("recording has ended".into());
            }
            if begun.elapsed() > SETTLED_MAX {
                return Err(format!("neither durable nor missing: {sent:?}").into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    pub(crate) fn reap(&self, reaper: &mut Reaper, now: WallTime) -> Outcome {
        self.account.tell(&Told::MayGo(now.minus(KEPT)));
        // Files that resist are tried again in the next pass, and so is the index when the disk was full.
        for _ in 0..2 {
            match reaper.pass(now, now.micros().unsigned_abs()) {
                Err(e) if !e.is_disk_full() => return Err(e.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// What `tierline import` does.
    fn import(&mut self, mut camera: Camera, clip: &Path, start: WallTime) -> Outcome {
        camera.fragmenter.gap().clone_from(&GapTracker::default());
        let mut import = Import::open(clip, start)?;
        camera.fragmenter.begin_session();
        let mut sent = Vec::new();
        loop {
            let event = import.next_event()?;
            let ended = event.is_none();
            let finished = match event {
                Some(event) => camera.push(event),
                None => camera.end_session(start, GapCause::NotImported),
            };
            if let Some((finished, remembered)) = finished {
                self.submit
                    .fragment(camera.no, finished, std::time::Duration::ZERO)
                    .map_err(|_| "the backlog is full")?;
                sent.push(remembered);
            }
            if ended {
                break;
            }
        }
        self.submit
            .gaps(camera.no, camera.fragmenter.gap().pieces().collect());
        self.submit.close(camera.no);
        self.settle(&[camera], sent)
    }

    /// Everything that was handed in is durable, and what was open sealed.
    pub(crate) fn stop(self) -> Outcome {
        self.account.tell(&Told::Stopping);
        for camera in &self.cameras {
            self.submit.close(camera.no);
        }
        Ok(self.committer.stop()?)
    }
}
