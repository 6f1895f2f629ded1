//! Whatever is damaged on the disk: every answer is what was recorded, or an error, or says less.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::{Command, Output};

use crate::damage::{self, Copy, Fragment, Harm, Part, Recorded, Seen, Source, Truth};
use crate::rig::{Chance, Service, beside_others, lines};

/// Damages of the ordinary run.
const FLIPS: usize = 60;
/// Damages of the long run, unless `TIERLINE_SOAK_FLIPS` says otherwise.
const FLIPS_SOAK: usize = 2000;
/// One damage in so many is looked at in pictures too, which a decoder makes.
const STILLS_EVERY: usize = 25;

#[test]
fn a_damaged_byte_never_reaches_a_reader() {
    campaign(FLIPS);
}

#[test]
#[ignore = "soak: TIERLINE_SOAK_FLIPS damages, a quarter of an hour for 2,000"]
fn soak_a_damaged_byte_never_reaches_a_reader() {
    let flips = std::env::var("TIERLINE_SOAK_FLIPS").ok();
    campaign(flips.and_then(|n| n.parse().ok()).unwrap_or(FLIPS_SOAK));
}

/// What happened to the damages of one part.
#[derive(Default, Debug)]
struct Tally {
    damages: usize,
    /// Of these, readers were refused something at first.
    refused: usize,
    /// Something was left out from the beginning.
    left_out: usize,
    /// Everything was still served as it was.
    harmless: usize,
    /// `check` named it.
    named: usize,
    /// The service or `check` would not open the index.
    not_opened: usize,
    /// Answers compared.
    compared: usize,
}

struct Campaign {
    recorded: Recorded,
    /// What is answered without and with a recovery before.
    truths: [Truth; 2],
    tally: BTreeMap<Part, Tally>,
    failures: Vec<String>,
}

fn campaign(flips: usize) {
    let _turn = beside_others();
    let asked = std::env::var("TIERLINE_SOAK_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed: u64 = asked.unwrap_or(1);
    println!("TIERLINE_SOAK_SEED={seed}");
    let recorded = Recorded::new();
    let cameras = recorded.site.cameras();
    let truths = [false, true].map(|recover| {
        let copy = recorded.copy();
        assert!(
            check(&copy, true).status.success(),
            "{}",
            lines(&check(&copy, true))
        );
        let served = copy.serve(recover, || ()).expect("served");
        let truth = Truth::of(served.source, &cameras, true);
        let seen = truth.compare(served.source, true);
        assert!(seen.wrong.is_empty() && seen.failures == 0, "{seen:?}");
        assert_eq!(seen.fragments.len(), truth.fragments.len());
        served.stop();
        truth
    });
    let mut campaign = Campaign {
        recorded,
        truths,
        tally: BTreeMap::new(),
        failures: Vec::new(),
    };
    for n in 0..flips {
        // Each damage has a seed of its own, so that it can be repeated alone.
        let mut chance = Chance::of(seed.wrapping_mul(1_000_003).wrapping_add(n as u64));
        let all = [&Part::OF_MEDIA[..], &Part::OF_MEDIA[..], &Part::OF_INDEX[..]].concat();
        let part = all[n % all.len()];
        let Some(harm) = Harm::to(part, &campaign.recorded.files, &mut chance) else {
            continue;
        };
        let before = campaign.failures.len();
        if Part::OF_INDEX.contains(&part) {
            campaign.damage_index(&harm);
        } else {
            campaign.damage_media(&harm, chance.below(2) == 0, n % STILLS_EVERY == 0);
        }
        for failure in &campaign.failures[before..] {
            println!("damage {n}, {harm:?}: {failure}");
        }
    }
    for (part, tally) in &campaign.tally {
        println!("{part:?}: {tally:?}");
    }
    for part in Part::OF_MEDIA.iter().chain(&Part::OF_INDEX) {
        let tally = campaign.tally.get(part);
        assert!(tally.is_some_and(|t| t.damages > 0), "no {part:?} was damaged");
        let answered = tally.is_some_and(|t| t.compared > 0 || t.not_opened > 0);
        assert!(answered, "nothing was asked with a damaged {part:?}");
    }
    let failures = campaign.failures;
    let wrong = failures.iter().filter(|f| f.contains("WRONG BYTES")).count();
    println!(
        "{flips} damages, {} failures, {wrong} of them wrong bytes",
        failures.len()
    );
    if cfg!(feature = "without_checked_reads") {
        // The negative control: a campaign that finds nothing must be one that could have.
        assert!(
            wrong > 0,
            "what is read is not checked, and no wrong byte was seen"
        );
        return;
    }
    assert!(
        failures.is_empty(),
        "{} of {flips}: {failures:#?}",
        failures.len()
    );
}

impl Campaign {
    /// Damage to footage: found by readers as they go, whether the service runs meanwhile or starts later.
    fn damage_media(&mut self, harm: &Harm, recover: bool, stills: bool) {
        let original = self.recorded.site.data_dir.clone();
        let copy = self.recorded.copy();
        let data = copy.path("data");
        let truth = &self.truths[usize::from(recover)];
        let (what, tally) = (
            format!("recovered={recover}"),
            self.tally.entry(harm.part).or_default(),
        );
        tally.damages += 1;
        let beyond = harm.part == Part::Beyond;

        // Beside it, on another copy: what `check` says before anybody reads.
        let other = self.recorded.copy();
        harm.apply(&original, &other.path("data"));
        let checked = check(&other, true);
        let named = checked.status.code() == Some(1) && names(&checked, harm);
        tally.named += usize::from(named);
        if !named && !beyond {
            self.failures
                .push(format!("check does not name it: {}", lines(&checked)));
        }

        let served = match copy.serve(recover, || harm.apply(&original, &data)) {
            Ok(served) => served,
            Err(error) => return self.failures.push(format!("{what}: not served: {error}")),
        };
        let first = truth.compare(served.source, stills);
        let second = truth.compare(served.source, false);
        let timelines = gaps(served.source, truth);
        served.stop();
        tally.compared += first.compared + second.compared;
        let (touched, lost) = (touched(truth, harm), lost(truth, &first));
        tally.refused += usize::from(!first.refused.is_empty());
        tally.left_out += usize::from(!lost.is_empty());
        tally.harmless += usize::from(first.failures == 0 && lost.is_empty());

        let mut fail = |text: String| self.failures.push(format!("{what}: {text}"));
        for wrong in first.wrong.iter().chain(&second.wrong) {
            fail(format!("WRONG BYTES: {wrong}"));
        }
        for fragment in &first.refused {
            if second.fragments.contains(fragment) && !second.refused.contains(fragment) {
                continue;
            }
            if second.fragments.contains(fragment) {
                fail(format!("{fragment:?} was refused and is still listed"));
            }
        }
        if let Some(fragment) = (first.refused.iter().chain(&lost)).find(|f| !touched.contains(f)) {
            fail(format!("{fragment:?} is not damaged and not served"));
        }
        if !first.refused.is_empty() {
            let after = check(&copy, false);
            if after.status.code() != Some(1) {
                fail(format!("check does not know what readers met: {}", lines(&after)));
            }
            if let Err(what) = timelines {
                fail(what);
            }
        }
    }

    /// Damage to the index: the service says so and what to do, or serves what it did before.
    fn damage_index(&mut self, harm: &Harm) {
        let original = self.recorded.site.data_dir.clone();
        let copy = self.recorded.copy();
        let truth = &self.truths[1];
        let tally = self.tally.entry(harm.part).or_default();
        tally.damages += 1;
        harm.apply(&original, &copy.path("data"));
        let checked = check(&copy, true);
        tally.named += usize::from(!checked.status.success());
        let mut fail = |text: String| self.failures.push(text);
        match start(&copy) {
            Ok(service) => {
                let seen = truth.compare(source(&service), false);
                service.kill();
                tally.compared += seen.compared;
                for wrong in &seen.wrong {
                    fail(format!("WRONG BYTES: {wrong}"));
                }
                let missing = lost(truth, &seen);
                let whole = missing.is_empty() && seen.failures == 0;
                tally.harmless += usize::from(whole);
                tally.left_out += usize::from(!missing.is_empty());
                if !whole && check(&copy, true).status.success() && checked.status.success() {
                    fail(format!("{} fragments less, and check is content", missing.len()));
                }
                if whole {
                    return;
                }
            }
            Err(log) => {
                tally.not_opened += 1;
                if !log.contains("tierline rebuild") {
                    fail(format!("refused without a remedy: {log}"));
                }
            }
        }
        // The remedy.
        let (index, anew) = (copy.index(), copy.path("anew"));
        let rebuilt = command(&copy, "rebuild")
            .arg("--into")
            .arg(&anew)
            .output()
            .expect("rebuild");
        if !rebuilt.status.success() {
            return fail(format!("rebuild: {}", lines(&rebuilt)));
        }
        std::fs::rename(&index, copy.path("damaged")).expect("moved away");
        std::fs::rename(&anew, &index).expect("moved in");
        match start(&copy) {
            Ok(service) => {
                let seen = truth.compare(source(&service), false);
                service.kill();
                tally.compared += seen.compared;
                let missing = lost(truth, &seen);
                if !(seen.wrong.is_empty() && seen.failures == 0 && missing.is_empty()) {
                    fail(format!(
                        "after a rebuild: {:?}, {} missing",
                        seen.wrong,
                        missing.len()
                    ));
                }
            }
            Err(log) => fail(format!("does not start after a rebuild: {log}")),
        }
    }
}

/// The fragments that a damage touches, each from its box to the end of its padding. Who loses the head of a
/// file loses what only the head tells.
fn touched(truth: &Truth, harm: &Harm) -> Vec<Fragment> {
    let end = |f: &Fragment| f.end.next_multiple_of(4096) + 4096;
    let file = segment_of(harm);
    let in_file = truth
        .fragments
        .iter()
        .filter(|f| file.as_deref() == Some(f.path.as_str()));
    in_file
        .filter(|f| harm.bytes.start < end(f) && f.start < harm.bytes.end)
        .cloned()
        .collect()
}

/// The path under which the damaged file is served.
fn segment_of(harm: &Harm) -> Option<String> {
    let mut parts = harm.file.iter().rev();
    let name = parts.next()?.to_str()?;
    let sequence = name.split('.').nth(1)?;
    let camera = parts.nth(3)?.to_str()?;
    Some(format!("/hls/{camera}/main/seg/{sequence}.mp4"))
}

fn lost(truth: &Truth, seen: &Seen) -> Vec<Fragment> {
    let listed = |f: &&Fragment| !seen.fragments.contains(f);
    truth.fragments.iter().filter(listed).cloned().collect()
}

/// Fails where a timeline has neither a run nor a gap.
fn gaps(source: Source, truth: &Truth) -> Result<(), String> {
    for camera in &truth.cameras {
        let (runs, gaps) = damage::timeline(source, camera).ok_or("no timeline")?;
        let mut spans = [runs, gaps].concat();
        spans.sort_unstable();
        for pair in spans.windows(2) {
            if pair[0].1 < pair[1].0 {
                return Err(format!(
                    "{camera}: nothing is said of {} to {}",
                    pair[0].1, pair[1].0
                ));
            }
        }
    }
    Ok(())
}

fn names(checked: &Output, harm: &Harm) -> bool {
    let file = harm.file.file_name().and_then(OsStr::to_str).expect("a name");
    let said = String::from_utf8_lossy(&checked.stdout);
    said.lines().any(|line| line.contains(file) && line.contains(';'))
}

fn command(copy: &Copy, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tierline"));
    command.arg(name).arg("--config").arg(copy.config());
    command.env_remove("RUST_LOG");
    command
}

fn check(copy: &Copy, deep: bool) -> Output {
    let mut command = command(copy, "check");
    if deep {
        command.arg("--deep");
    }
    command.output().expect("check")
}

fn start(copy: &Copy) -> Result<Service, String> {
    Service::start(command(copy, "serve"), copy.path("log.txt")).map_err(|refused| refused.log)
}

fn source(service: &Service) -> Source {
    Source(service.api().address())
}
