//! A start that dies at any step is followed by one that dies at any step, and so on: at the end everything
//! is as if the first had lived.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use archive::buffer::Pool;
use indexer::Index;
use ingest::{recover, seal_left_open};

use crate::dice::{Dice, asked};
use crate::faults::{Fault, Plan};
use crate::judge::judge;
use crate::site::{Site, copy};
use crate::template::Template;
use crate::workload::Work;

/// How deep crashes follow one another.
const DEEP: usize = 3;

/// Recovers to the end, without faults.
fn recovered(folder: &Path) {
    let site = Site::within(folder);
    let index = site.open_index(None).expect("the index");
    let disk = site.open_disk(None).expect("the disk");
    let found = recover(&disk, &index).expect("recovery");
    seal_left_open(&disk, &index, &Pool::new(4), &found.unsealed).expect("sealing");
}

struct Crashes<'a> {
    template: &'a Template,
    /// What an undisturbed recovery makes of the archive.
    undisturbed: PathBuf,
    points: [u64; DEEP],
    problems: Vec<String>,
}

impl Crashes<'_> {
    /// Kills the recovery of what is in `folder` at step `at`, and looks at what comes of it. `None` when the
    /// recovery was done before.
    fn at(&mut self, folder: &Path, path: &[u64]) -> Option<PathBuf> {
        let crashed = self.template.folder(&format!("crashed-{path:?}"));
        copy(folder, &crashed);
        let at = *path.last()?;
        let plan = Plan {
            fault: Some((Fault::Kill, at)),
            ..Plan::default()
        };
        let ended = self.template.run(&crashed, Work::Recovery, plan, 1, false);
        if ended.fired().is_none() {
            let _ = fs::remove_dir_all(&crashed);
            return None;
        }
        if let Some(points) = self.points.get_mut(path.len() - 1) {
            *points += 1;
        }
        let after = self.template.folder(&format!("after-{path:?}"));
        copy(&crashed, &after);
        recovered(&after);
        let (index, other) = (
            Index::open_read_only(&after.join("index")).expect("the index"),
            Index::open_read_only(&self.undisturbed.join("index")).expect("the index"),
        );
        let differences = indexer::compare(&index, &other).expect("a comparison");
        drop(index);
        let mut problems: Vec<String> = differences.iter().map(|d| d.what.clone()).collect();
        problems.extend(judge(&Site::within(&after), 2, Plan::default()).findings);
        let seed = self.template.seed();
        let tell = |what| format!("recovery killed at {path:?}, seed {seed}: {what}");
        self.problems.extend(problems.into_iter().map(tell));
        let _ = fs::remove_dir_all(&after);
        Some(crashed)
    }
}

/// All first crashes, and behind `sampled` of them further ones.
fn crashes(template: &Template, sampled: u64) -> (Vec<String>, [u64; DEEP]) {
    let origin = template.fork("crash-origin");
    let undisturbed = template.fork("undisturbed");
    recovered(&undisturbed);
    let mut crashes = Crashes {
        template,
        undisturbed,
        points: [0; DEEP],
        problems: Vec::new(),
    };
    let mut first = Vec::new();
    for at in 1.. {
        match crashes.at(&origin, &[at]) {
            Some(folder) => first.push(folder),
            None => break,
        }
    }
    let mut dice = Dice(template.seed());
    let steps = first.len() as u64;
    for _ in 0..sampled {
        let mut path = vec![1 + dice.below(steps)];
        let mut folder = first[path[0] as usize - 1].clone();
        while path.len() < DEEP {
            // Less is left to be done, so that many a step is not reached: nearer ones are likelier.
            let below = 1 + dice.below(steps);
            path.push(1 + dice.below(below));
            match crashes.at(&folder, &path) {
                Some(next) => folder = next,
                None => break,
            }
        }
    }
    for left in ["crash-origin", "undisturbed"] {
        let _ = fs::remove_dir_all(template.folder(left));
    }
    (crashes.problems, crashes.points)
}

fn campaign(templates: impl Iterator<Item = Template>, sampled: u64) {
    let begun = Instant::now();
    let mut problems = Vec::new();
    let mut points = [0; DEEP];
    for template in templates {
        let (found, reached) = crashes(&template, sampled);
        problems.extend(found);
        points.iter_mut().zip(reached).for_each(|(sum, n)| *sum += n);
    }
    println!(
        "crashes inside recovery, by depth: {points:?}, {} problems, {:.1} s",
        problems.len(),
        begun.elapsed().as_secs_f32()
    );
    assert!(points.iter().all(|n| *n > 0), "not deep enough: {points:?}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_crash_inside_recovery_is_recovered() {
    let seed = asked("TIERLINE_SEED", 1);
    campaign([Template::new(seed)].into_iter(), 12);
}

#[test]
#[ignore = "soak: crashes behind many kills of the work, TIERLINE_SOAK_KILLS of them"]
fn soak_a_crash_inside_recovery_is_recovered() {
    let (seed, kills) = (asked("TIERLINE_SEED", 1), asked("TIERLINE_SOAK_KILLS", 20));
    let mut dice = Dice(seed);
    let killed = |_| {
        let at = 1 + dice.below(220);
        Template::new(seed).killed_at(at)
    };
    campaign((0..kills).map(killed), 25);
}
