//! Archives to begin with.

use std::path::{Path, PathBuf};

use crate::child::{Ended, finish};
use crate::faults::{Fault, Plan};
use crate::site::{Site, copy, folder};
use crate::workload::{Job, Work};

/// An archive that a kill left behind, from which every run begins.
pub(crate) struct Template {
    folder: tempfile::TempDir,
    seed: u64,
}

impl Template {
    /// Records twice, and dies the second time when a group is durable whose rows are not.
    pub(crate) fn new(seed: u64) -> Self {
        let folder = folder();
        let template = Self { folder, seed };
        let traced = Plan {
            trace: true,
            ..Plan::default()
        };
        let rehearsal = template.folder.path().join("rehearsal");
        std::fs::create_dir(&rehearsal).expect("a folder");
        let ended = template.run(&rehearsal, Work::Everything, traced, 0, false);
        assert!(ended.is_done(), "without a fault: {ended:?}");
        let clip = find_segment(&rehearsal.join("hot")).expect("a segment");
        std::fs::copy(clip, template.clip()).expect("a clip");
        let segments = ended.steps().iter().filter(|step| **step == "Create").count();
        let origin = template.origin();
        std::fs::create_dir(&origin).expect("a folder");
        let kill = Plan {
            fault: Some((Fault::Rowless, segments as u64)),
            ..Plan::default()
        };
        let ended = template.run(&origin, Work::Everything, kill, 0, false);
        assert_eq!(ended.fired().map(|f| f.0), Some("Commit"));
        template
    }

    /// The same archive after the work was done once more, up to a kill.
    pub(crate) fn killed_at(self, step: u64) -> Self {
        let kill = Plan {
            fault: Some((Fault::Kill, step)),
            ..Plan::default()
        };
        self.run(&self.origin(), Work::Everything, kill, 1, true);
        self
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn origin(&self) -> PathBuf {
        self.folder.path().join("origin")
    }

    fn clip(&self) -> PathBuf {
        self.folder.path().join("clip.mp4")
    }

    /// A copy of what the kill left.
    pub(crate) fn fork(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        copy(&self.origin(), &folder);
        folder
    }

    pub(crate) fn run(&self, folder: &Path, work: Work, plan: Plan, run: i64, import: bool) -> Ended {
        finish(&Job {
            site: Site::within(folder),
            work,
            plan,
            run,
            seed: self.seed,
            clip: import.then(|| self.clip()),
        })
    }
}

fn find_segment(folder: &Path) -> Option<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|e| e.path())
        .collect();
    entries.sort();
    entries.iter().find_map(|path| match path.is_dir() {
        true => find_segment(path),
        false => path
            .extension()
            .is_some_and(|end| end == "mp4")
            .then(|| path.clone()),
    })
}
