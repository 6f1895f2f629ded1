//! Certificates under fuzzing: lines that somebody signed or damaged, and chains of which files tell.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use archive::fuzzing::Input;
use archive::site_key::SiteKey;
use archive::{CameraId, Epoch, GapCause, Sha256, StreamNo, TimeRange, WallTime};

use super::restore::{take, tell};
use super::text::{KEY, KEY_DIGITS, hash, parse, seal, sign};
use super::{Certificate, DeletedSegment, GapBefore, HoldCheck, read_stretch, stretch_row};
use super::{uncertified, verify_chain};
use crate::db::{CERTIFICATES, CERTIFIED, GAPS, META};
use crate::index::{Index, IndexOptions};
use crate::rows::Ended;

static SITE: LazyLock<SiteKey> = LazyLock::new(|| SiteKey::from_secret([7; 32]));
static OTHER: LazyLock<SiteKey> = LazyLock::new(|| SiteKey::from_secret([8; 32]));

/// One line: who changes anything of it has none, and what is signed is told as it was signed.
pub fn certificates(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8();
    let key = &*SITE;
    match kind % 3 {
        0 => {
            let Ok(line) = std::str::from_utf8(input.rest()) else {
                return;
            };
            if let Ok((certificate, public)) = parse(line) {
                assert!(line.contains(&format!("{KEY}{public}")) && public.len() == KEY_DIGITS);
                sound(&certificate, key);
            }
        }
        1 => {
            let Ok(body) = std::str::from_utf8(input.rest()) else {
                return;
            };
            let meant = serde_json::from_str::<Certificate>(body).ok();
            match parse(&seal(body, key)) {
                Ok((certificate, public)) => {
                    assert_eq!(public, key.public());
                    assert_eq!(Some(&certificate), meant.as_ref(), "another one than was signed");
                    sound(&certificate, key);
                }
                Err(why) => {
                    assert_ne!(why, "its signature does not hold", "{body}");
                    assert!(meant.is_none_or(|meant| !meant.is_possible()), "{why}: {body}");
                }
            }
        }
        _ => {
            let line = sign(&some(1, None, &mut 1_700_000_000_000_000, &mut input), key).expect("signed");
            let damaged = damaged(&line, &mut input);
            let Ok(text) = std::str::from_utf8(&damaged) else {
                return;
            };
            assert_eq!(
                parse(text).is_ok(),
                text == line,
                "a damaged certificate was believed"
            );
        }
    }
}

/// What anybody signed: it can be written again, and its rows can be read.
fn sound(certificate: &Certificate, key: &SiteKey) {
    let line = sign(certificate, key).expect("signed");
    assert_eq!(parse(&line).map(|(read, _)| read).as_ref(), Ok(certificate));
    let stretches = certificate.stretches();
    let segments: u64 = certificate.segments.len() as u64;
    let told: u64 = stretches.iter().map(|s| s.seqs.1 - s.seqs.0 + 1).sum();
    assert_eq!(told, segments);
    for stretch in stretches {
        let (key, row) = stretch_row(StreamNo(3), certificate.number, &stretch);
        assert_eq!(read_stretch(&key, &row), Ok((certificate.number, stretch)));
    }
    let path = super::ledger::file_path(certificate);
    assert!(path.split('/').count() == 3 && !path.contains(".."), "{path}");
}

fn damaged(line: &str, input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    let cut = input.u16();
    while !input.is_empty() {
        let at = usize::from(input.u16()) % bytes.len();
        let with = input.piece(16);
        (bytes.iter_mut().skip(at).zip(with)).for_each(|(to, from)| *to = *from);
    }
    if cut & 0x8000 != 0 {
        bytes.truncate(usize::from(cut & 0x7fff) % (bytes.len() + 1));
    }
    bytes
}

/// A certificate of a few segments that begin at `time` or later, which moves to their end.
fn some(number: u64, previous: Option<Sha256>, time: &mut i64, input: &mut Input<'_>) -> Certificate {
    let camera: CameraId = if input.u8() & 1 == 0 { "lobby" } else { "yard" }
        .parse()
        .expect("an id");
    let at = |time: &i64| WallTime::from_micros(*time);
    let mut seq = number * 100;
    let mut segments = Vec::new();
    for n in 0..1 + input.u8() % 4 {
        let gap = *time;
        *time += i64::from(input.u16());
        let from = *time;
        *time += 1 + i64::from(input.u16());
        seq += u64::from(input.u8().is_multiple_of(3) || n == 0) + 1;
        segments.push(DeletedSegment {
            seq,
            epoch: Epoch(1),
            from: at(&from),
            to: at(time),
            bytes: 4096,
            head: Sha256::of(&seq.to_be_bytes()),
            name: format!("default/{camera}/main/{seq}"),
            tiers: Vec::new(),
            gaps_before: (gap < from)
                .then(|| GapBefore {
                    from: at(&gap),
                    to: at(&from),
                    cause: GapCause::NoData,
                })
                .into_iter()
                .collect(),
        });
    }
    let (first, last) = (segments.first().expect("one"), segments.last().expect("one"));
    Certificate {
        number,
        format: super::FORMAT,
        previous,
        tenant: Default::default(),
        camera,
        stream: "main".parse().expect("a name"),
        from: first.from,
        to: last.to,
        bytes: 4096 * segments.len() as u64,
        reason: "age".to_owned(),
        rule: "max = \"1h\"".to_owned(),
        rule_sha256: Sha256::of(b"max = \"1h\""),
        hold_check: HoldCheck {
            hold_epoch: 3,
            overlaps: Vec::new(),
        },
        begun: last.to,
        archive_time: last.to,
        wall: last.to,
        actor: "fuzz".to_owned(),
        places: Vec::new(),
        predecessor: None,
        segments,
    }
}

/// Chains of which links are missing, wrong, damaged, doubled or somebody else's, in two files in any order: what is
/// taken is what was signed, and the chain is called broken exactly when it is.
pub fn chain(data: &[u8]) {
    thread_local! {
        static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
    }
    PLACE.with_borrow_mut(|place| {
        let there = place.take().filter(|there| there.runs < RUNS_MAX);
        let there = place.insert(there.unwrap_or_else(Place::new));
        there.runs += 1;
        there.run(&mut Input(data));
    });
}

/// An index is made anew after so many, or its tombstones would be what takes the time.
const RUNS_MAX: u32 = 80;

struct Place {
    index: Option<Index>,
    dir: PathBuf,
    runs: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.index.take());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Place {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let root = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        let thread = std::thread::current().id();
        let dir = root.join(format!("tierline-fuzz-{}-{thread:?}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let index = Index::open(&dir, &IndexOptions::default()).expect("an index");
        let (index, runs) = (Some(index), 0);
        Self { index, dir, runs }
    }

    fn run(&self, input: &mut Input<'_>) {
        let index = self.index.as_ref().expect("is open");
        empty(index);
        let files = written(input);
        let (mut left_out, mut refused) = (Vec::new(), 0);
        // What is to be there.
        let mut known: BTreeMap<u64, (String, Certificate)> = BTreeMap::new();
        for (n, file) in files.iter().enumerate() {
            take(index, &n.to_string(), file, &mut left_out).expect("taken");
            // A last line without its end was being written; what is there before it is read as it was written.
            let lines = file.split_inclusive(|byte| *byte == b'\n');
            for line in lines
                .filter_map(|line| line.strip_suffix(b"\n"))
                .filter(|line| !line.is_empty())
            {
                let line = String::from_utf8_lossy(line).into_owned();
                match parse(&line) {
                    Ok((certificate, _)) => {
                        let first = known.entry(certificate.number);
                        let (kept, _) = first.or_insert((line.clone(), certificate));
                        refused += usize::from(*kept != line);
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert_eq!(left_out.len(), refused, "{left_out:?}");
        assert_eq!(tell(index).expect("told"), known.len() as u64);
        for (number, (line, _)) in &known {
            assert_eq!(index.certificate(*number).expect("read").as_ref(), Some(line));
        }
        let last = known.keys().last().copied().unwrap_or_default();
        assert_eq!(index.last_certificate().expect("read"), last);
        let mut before = None;
        let mut unbroken = true;
        for (n, (number, (line, certificate))) in (1..).zip(&known) {
            unbroken &= *number == n && certificate.previous == before;
            before = Some(hash(line));
        }
        let mut found = Vec::new();
        verify_chain(index, |name, what| found.push((name, what))).expect("verified");
        assert_eq!(found.is_empty(), unbroken, "{found:?}");
        for (no, _) in index.streams() {
            let gaps = index.gap_rows(no, TimeRange::ALL).expect("gaps");
            assert!(gaps.iter().all(|gap| gap.to.is_some_and(|to| to >= gap.from)));
            assert_eq!(uncertified(index, no).expect("looked"), [], "of {gaps:?}");
        }
    }
}

/// Takes everything out of the tables that are filled.
fn empty(index: &Index) {
    let mut out = rocksdb::WriteBatch::default();
    for table in [CERTIFICATES, CERTIFIED, GAPS] {
        let cf = index.cf(table).expect("a table");
        for row in index.db.iterator_cf(cf, rocksdb::IteratorMode::Start) {
            out.delete_cf(cf, row.expect("a row").0);
        }
    }
    let meta = index.cf(META).expect("a table");
    out.delete_cf(meta, super::ChainEnd::KEY);
    for (no, _) in index.streams() {
        out.delete_cf(meta, Ended::key(no));
    }
    index.write(out).expect("emptied");
}

/// Two files of lines.
fn written(input: &mut Input<'_>) -> [Vec<u8>; 2] {
    let mut files = [Vec::new(), Vec::new()];
    let mut time = 1_700_000_000_000_000;
    let (mut number, mut before) = (0, None);
    let mut lines: Vec<Vec<u8>> = Vec::new();
    while !input.is_empty() && lines.len() < 5 {
        let how = input.u8();
        let mut certificate = some(number + 1, before, &mut time, input);
        let by = if how & 0x40 == 0 { &*SITE } else { &*OTHER };
        match how % 8 {
            3 => certificate.previous = Some(Sha256::of(&[how])),
            4 => certificate.number = input.skewed(),
            _ => {}
        }
        let line = sign(&certificate, by).expect("signed");
        (number, before) = (number + 1, Some(hash(&line)));
        let line = match how % 8 {
            5 => damaged(&line, &mut Input(input.piece(40))),
            6 => input.piece(200).to_vec(),
            7 => lines
                .get(usize::from(how >> 3) % (lines.len() + 1))
                .cloned()
                .unwrap_or_default(),
            _ => line.into_bytes(),
        };
        // One of them nobody has.
        if how % 8 != 2 {
            let file = usize::from(how & 0x80 != 0);
            if let Some(file) = files.get_mut(file) {
                file.extend_from_slice(&line);
                file.push(b'\n');
            }
        }
        lines.push(line);
    }
    files
}
