//! What may be answered: what the undamaged archive answers, or less, and never anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::ops::Range;

use archive::{Sha256, WallTime};
use ingest::event::Event;
use ingest::import::Import;
use serde_json::Value;

use super::{Answer, Source};

/// A fragment as a playlist names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Fragment {
    /// The path of its segment.
    pub(crate) path: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// How long it lasts, as it is written.
    duration: String,
}

impl Fragment {
    pub(crate) fn bytes(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// What a service was seen to answer.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    /// In the order of the playlists.
    pub(crate) fragments: Vec<Fragment>,
    /// Those listed that could not be had whole.
    pub(crate) refused: BTreeSet<Fragment>,
    /// Answers that were cut or errors, of all routes.
    pub(crate) failures: usize,
    /// Good answers that were compared.
    pub(crate) compared: usize,
    /// What must not be: bytes that the undamaged archive does not have.
    pub(crate) wrong: Vec<String>,
}

/// All that an undamaged archive answers.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) cameras: Vec<String>,
    from: String,
    to: String,
    /// Whole files by their paths, with their ETags.
    files: BTreeMap<String, (String, Vec<u8>)>,
    inits: BTreeMap<String, Vec<u8>>,
    pub(crate) fragments: BTreeSet<Fragment>,
    exports: BTreeMap<String, (Vec<u8>, Vec<Sha256>)>,
    stills: BTreeSet<Vec<u8>>,
    /// When each camera's fragments begin.
    starts: BTreeMap<String, Vec<String>>,
}

impl Truth {
    /// Asks an undamaged archive for everything.
    pub(crate) fn of(source: Source, cameras: &[String], stills: bool) -> Self {
        let hour = 3_600_000_000;
        let first = times(source, &cameras[0]).expect("a timeline");
        let mut truth = Self {
            cameras: cameras.to_vec(),
            from: first.0.plus_micros(-hour).to_string(),
            to: first.0.plus_micros(hour).to_string(),
            ..Self::default()
        };
        for camera in cameras {
            let playlist = source
                .get(&truth.playlist(camera), None)
                .text()
                .expect("a playlist");
            let (fragments, inits, starts) = read_playlist(camera, &playlist);
            assert!(fragments.len() > 5, "{camera} has {} fragments", fragments.len());
            for path in fragments.iter().map(|f| f.path.clone()).collect::<BTreeSet<_>>() {
                let answer = source.get(&path, None);
                assert!(answer.status == 200 && answer.whole, "{path}");
                truth.files.insert(path, (answer.etag, answer.body));
            }
            for path in inits {
                let answer = source.get(&path, None);
                assert!(answer.status == 200 && answer.whole, "{path}");
                truth.inits.insert(path, answer.body);
            }
            let export = source.get(&truth.export(camera), None);
            assert!(export.status == 200 && export.whole, "{camera}: no export");
            let samples = samples(&export.body).0;
            assert!(samples.len() > 100, "{camera}: {} samples", samples.len());
            truth.exports.insert(camera.clone(), (export.body, samples));
            if stills {
                for at in &starts {
                    let still = source.get(&still(camera, at), None);
                    assert!(still.status == 200 && still.whole, "{camera}: no still");
                    truth.stills.insert(still.body);
                }
            }
            truth.starts.insert(camera.clone(), starts);
            truth.fragments.extend(fragments);
        }
        truth
    }

    fn playlist(&self, camera: &str) -> String {
        format!("/hls/{camera}/main/media.m3u8?from={}&to={}", self.from, self.to)
    }

    fn export(&self, camera: &str) -> String {
        format!(
            "/api/v1/cameras/{camera}/export.mp4?from={}&to={}",
            self.from, self.to
        )
    }

    /// Asks for everything by every route and compares. `stills`: pictures too, which take long.
    pub(crate) fn compare(&self, source: Source, stills: bool) -> Seen {
        let mut seen = Seen::default();
        for camera in &self.cameras {
            self.playlists(source, camera, &mut seen);
            let export = source.get(&self.export(camera), None);
            seen.count(&export);
            if export.is_good()
                && let Err(what) = self.judge_export(camera, &export)
            {
                seen.wrong.push(what);
            }
            for at in self.starts.get(camera).into_iter().flatten().filter(|_| stills) {
                let still = source.get(&still(camera, at), None);
                seen.count(&still);
                if still.is_good() && still.whole && !self.stills.contains(&still.body) {
                    seen.wrong.push(format!("{camera}: another still at {at}"));
                }
            }
        }
        for path in self.inits.keys() {
            let answer = source.get(path, None);
            seen.count(&answer);
            if answer.is_good() && !self.inits[path].starts_with(&answer.body) {
                seen.wrong.push(format!("{path}: another init segment"));
            }
        }
        for path in self.files.keys() {
            self.file(source, path, &mut seen);
        }
        seen
    }

    fn playlists(&self, source: Source, camera: &str, seen: &mut Seen) {
        let vod = source.get(&self.playlist(camera), None);
        let live = source.get(&format!("/hls/{camera}/main/live.m3u8"), None);
        let growing = source.get(&format!("/hls/{camera}/main/media.m3u8?from={}", self.from), None);
        seen.count(&vod);
        for text in [vod, growing, live].iter().filter_map(Answer::text) {
            let (fragments, inits, _) = read_playlist(camera, &text);
            for fragment in fragments {
                if !self.fragments.contains(&fragment) {
                    seen.wrong
                        .push(format!("{camera}: an unknown fragment {fragment:?}"));
                    continue;
                }
                if seen.fragments.contains(&fragment) {
                    continue;
                }
                let answer = source.get(&fragment.path, Some(&fragment.bytes()));
                seen.count(&answer);
                if answer.is_good() {
                    let written =
                        &self.files[&fragment.path].1[fragment.start as usize..fragment.end as usize];
                    if !written.starts_with(&answer.body) {
                        seen.wrong.push(format!("{fragment:?}: other bytes"));
                    }
                }
                if !(answer.is_good() && answer.whole) {
                    seen.refused.insert(fragment.clone());
                }
                seen.fragments.push(fragment);
            }
            for path in inits.iter().filter(|path| !self.inits.contains_key(*path)) {
                seen.wrong
                    .push(format!("{camera}: an unknown init segment {path}"));
            }
        }
    }

    /// A whole file: as it was, or where the damage made its end another, each fragment as it was.
    fn file(&self, source: Source, path: &str, seen: &mut Seen) {
        let answer = source.get(path, None);
        seen.count(&answer);
        let (etag, written) = &self.files[path];
        if !answer.is_good() || written.starts_with(&answer.body) {
            return;
        }
        let known = self.fragments.iter().filter(|f| f.path == *path);
        let as_written = |f: &Fragment| {
            let range = f.start as usize..(f.end as usize).min(answer.body.len());
            range.is_empty() || answer.body.get(range.clone()) == written.get(range)
        };
        let last = known.clone().map(|f| f.end as usize).max().unwrap_or(0);
        let same_length = answer.etag == *etag;
        if same_length || !known.clone().all(as_written) || answer.body.len() < last {
            let at = answer.body.iter().zip(written).position(|(a, b)| a != b);
            seen.wrong.push(format!("{path}: other bytes from {at:?} on"));
        }
    }

    /// An export is the same, or its samples are some of those that it should have, in order.
    fn judge_export(&self, camera: &str, export: &Answer) -> Result<(), String> {
        let (whole, all) = &self.exports[camera];
        if whole.starts_with(&export.body) {
            return Ok(());
        }
        let (found, complete) = samples(&export.body);
        if export.whole && !complete {
            return Err(format!("{camera}: an export that ends in mid-sample"));
        }
        let mut left = all.iter();
        for (n, sample) in found.iter().enumerate() {
            if !left.any(|s| s == sample) {
                return Err(format!("{camera}: sample {n} of the export was never recorded"));
            }
        }
        Ok(())
    }
}

impl Seen {
    fn count(&mut self, answer: &Answer) {
        if answer.is_good() && answer.whole {
            self.compared += 1;
        } else {
            self.failures += 1;
        }
    }
}

fn still(camera: &str, at: &str) -> String {
    format!("/api/v1/cameras/{camera}/snapshot.jpg?at={at}&width=160")
}

/// From when to when a camera has footage.
pub(crate) fn times(source: Source, camera: &str) -> Option<(WallTime, WallTime)> {
    let (runs, _) = timeline(source, camera)?;
    Some((runs.first()?.0, runs.last()?.1))
}

/// Runs and gaps of a camera.
pub(crate) type Timeline = (Vec<(WallTime, WallTime)>, Vec<(WallTime, WallTime)>);

pub(crate) fn timeline(source: Source, camera: &str) -> Option<Timeline> {
    let day = std::time::Duration::from_secs(86_400);
    let (from, to) = (crate::rig::now().minus(day), crate::rig::now().plus(day));
    let path = format!("/api/v1/cameras/{camera}/timeline?from={from}&to={to}&stream=main");
    let value: Value = serde_json::from_slice(&source.get(&path, None).body).ok()?;
    let time = |v: &Value| v.as_str()?.parse().ok();
    let spans = |key: &str| -> Option<Vec<(WallTime, WallTime)>> {
        let each = |v: &Value| Some((time(&v["from"])?, time(&v["to"])?));
        value[key].as_array()?.iter().map(each).collect()
    };
    Some((spans("runs")?, spans("gaps")?))
}

/// The hashes of a file's samples, and whether it has all that it promises.
fn samples(file: &[u8]) -> (Vec<Sha256>, bool) {
    let mut hashes = Vec::new();
    let Ok(mut import) = Import::new(Cursor::new(file), WallTime::MIN) else {
        return (hashes, false);
    };
    loop {
        match import.next_event() {
            Ok(Some(Event::Sample(sample))) => hashes.push(Sha256::of(&sample.data)),
            Ok(Some(_)) => {}
            Ok(None) => return (hashes, true),
            Err(_) => return (hashes, false),
        }
    }
}

/// Fragments, the paths of init segments, and the times that are given.
fn read_playlist(camera: &str, text: &str) -> (Vec<Fragment>, BTreeSet<String>, Vec<String>) {
    let (mut fragments, mut inits, mut starts) = (Vec::new(), BTreeSet::new(), Vec::new());
    let (mut duration, mut range, mut absent) = (String::new(), None, false);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("#EXTINF:") {
            duration = rest.to_owned();
        } else if let Some(rest) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            range = rest.split_once('@').and_then(|(len, at)| {
                let (len, at): (u64, u64) = (len.parse().ok()?, at.parse().ok()?);
                Some(at..at + len)
            });
        } else if let Some(rest) = line.strip_prefix("#EXT-X-MAP:URI=\"") {
            inits.insert(format!("/hls/{camera}/main/{}", rest.trim_end_matches('"')));
        } else if let Some(rest) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            starts.push(rest.to_owned());
        } else if line == "#EXT-X-GAP" {
            absent = true;
        } else if !line.starts_with('#') && !line.is_empty() {
            let range = range.take().expect("a byte range");
            if std::mem::take(&mut absent) {
                continue;
            }
            fragments.push(Fragment {
                path: format!("/hls/{camera}/main/{line}"),
                start: range.start,
                end: range.end,
                duration: std::mem::take(&mut duration),
            });
        }
    }
    (fragments, inits, starts)
}
