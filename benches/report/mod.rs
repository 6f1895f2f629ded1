//! The figures of a bench: times of single calls in rounds, a table on standard output, and the same as JSON.
#![allow(dead_code, reason = "each bench uses its part")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

/// Rounds of every measurement; a table shows their median, least and most.
pub(crate) const ROUNDS: usize = 5;

/// What a bench fails with: there is nobody to recover.
pub(crate) type Failure = Box<dyn Error>;

/// Where results and databases of a bench go: `TIERLINE_BENCH_OUT`, else `target/bench` of the checkout.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    let dir = match std::env::var_os("TIERLINE_BENCH_OUT") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench"),
    };
    fs::create_dir_all(&dir)?;
    Ok(dir.canonicalize()?)
}

/// Numbers that look random and are the same in every run (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

/// How long the calls of one round took.
#[derive(Debug)]
pub(crate) struct Round {
    /// Nanoseconds a call, sorted.
    sorted: Vec<u64>,
    /// CPU of this thread, in nanoseconds a call.
    cpu: f64,
}

impl Round {
    /// The time within which the share `q` of all calls ended, in microseconds.
    pub(crate) fn percentile_us(&self, q: f64) -> f64 {
        let at = ((self.sorted.len() as f64 - 1.0) * q).round() as usize;
        self.sorted.get(at).map_or(f64::NAN, |ns| *ns as f64 / 1000.0)
    }
}

/// Calls `call` in rounds after a warm-up of one round that does not count.
pub(crate) fn time(
    calls: usize,
    mut call: impl FnMut() -> Result<(), Failure>,
) -> Result<Vec<Round>, Failure> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for number in 0..=ROUNDS {
        let mut sorted = Vec::with_capacity(calls);
        let cpu_before = thread_cpu_ns()?;
        for _ in 0..calls {
            let begun = Instant::now();
            call()?;
            sorted.push(u64::try_from(begun.elapsed().as_nanos())?);
        }
        let cpu = (thread_cpu_ns()? - cpu_before) as f64 / calls as f64;
        sorted.sort_unstable();
        if number > 0 {
            rounds.push(Round { sorted, cpu });
        }
    }
    Ok(rounds)
}

/// CPU that this thread has used. The kernel brings it up to date a few hundred times a second.
fn thread_cpu_ns() -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// Resident memory of this process in MiB.
pub(crate) fn resident_mib() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?;
    Ok(kib / 1024.0)
}

struct Figure {
    /// Rows of the section that it belongs to.
    rows: Option<u64>,
    what: String,
    unit: &'static str,
    values: Vec<f64>,
    bar: Option<f64>,
}

/// A table of figures.
pub(crate) struct Report {
    name: &'static str,
    about: String,
    rows: Option<u64>,
    figures: Vec<Figure>,
}

impl Report {
    /// An empty one; `about` says what was set up.
    pub(crate) fn new(name: &'static str, about: String) -> Self {
        Self {
            name,
            about,
            rows: None,
            figures: Vec::new(),
        }
    }

    /// What follows is about an index of so many segments, and stands in a table of its own.
    pub(crate) fn section(&mut self, rows: u64) {
        eprintln!("{rows} segments");
        self.rows = Some(rows);
    }

    /// Adds a figure with a value a round, and the most that it should be.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
        bar: Option<f64>,
    ) {
        let figure = Figure {
            rows: self.rows,
            what: what.into(),
            unit,
            values,
            bar,
        };
        eprintln!("  {}: {} {unit}", figure.what, figure.shown());
        self.figures.push(figure);
    }

    /// Adds median and 99th percentile of timed calls; the bar is for the percentile that `bar` names.
    pub(crate) fn add_times(&mut self, what: &str, rounds: &[Round], bar: Option<(f64, f64)>) {
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            let values = rounds.iter().map(|r| r.percentile_us(q)).collect();
            let bar = bar.and_then(|(of, us)| (of == q).then_some(us));
            self.add(format!("{what}, {name}"), "µs", values, bar);
        }
    }

    /// Adds the CPU of calls that this thread did itself.
    pub(crate) fn add_cpu(&mut self, what: &str, rounds: &[Round]) {
        let cpu = rounds.iter().map(|r| r.cpu / 1000.0).collect();
        self.add(format!("{what}, mean CPU"), "µs", cpu, None);
    }

    /// Prints the table and writes `NAME.md` and `NAME.json` into `dir`.
    #[expect(clippy::print_stdout, reason = "the table is what the bench is run for")]
    pub(crate) fn finish(self, dir: &Path) -> Result<(), Failure> {
        let head = "\n\n| what | median [least–most] | unit | bar |\n|---|---:|---|---:|\n";
        let mut text = self.about.clone();
        let mut section = None;
        for f in &self.figures {
            if section != Some(f.rows) {
                section = Some(f.rows);
                text += &f
                    .rows
                    .map(|rows| format!("\n\n{rows} segments:"))
                    .unwrap_or_default();
                text += head;
            }
            let bar = f.bar.map_or_else(String::new, |bar| format!("≤ {bar}"));
            text += &format!("| {} | {} | {} | {bar} |\n", f.what, f.shown(), f.unit);
        }
        let row = |f: &Figure| json!({ "rows": f.rows, "what": f.what, "unit": f.unit, "values": f.values, "bar": f.bar });
        let figures: Vec<_> = self.figures.iter().map(row).collect();
        let record = json!({ "bench": self.name, "about": self.about, "figures": figures });
        let path = dir.join(self.name);
        fs::write(path.with_extension("md"), &text)?;
        fs::write(
            path.with_extension("json"),
            serde_json::to_string_pretty(&record)? + "\n",
        )?;
        println!("{text}\nwritten to {}.md and .json", path.display());
        Ok(())
    }
}

impl Figure {
    fn shown(&self) -> String {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let text = |v: &f64| match v.abs() {
            x if x >= 100.0 => format!("{v:.0}"),
            x if x >= 10.0 => format!("{v:.1}"),
            _ => format!("{v:.2}"),
        };
        let median = sorted.get(sorted.len() / 2).map(text).unwrap_or_default();
        match (sorted.first(), sorted.last()) {
            (Some(least), Some(most)) if sorted.len() > 1 => {
                format!("{median} [{}–{}]", text(least), text(most))
            }
            _ => median,
        }
    }
}
