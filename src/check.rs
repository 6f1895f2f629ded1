//! `tierline check`: verifies an archive, or compares its index with another one.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use indexer::check::{CheckOptions, check};
use serde::Serialize;

use crate::cli::ConfigArgs;
use crate::store::{View, view, view_index};

/// Verify an archive, or compare its index with a rebuilt one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Works on a stopped archive and beside a running service.
Exit status: 0 clean, 1 findings (one line each: what is broken, where, what to do), 2 could not run.

Examples:
  tierline check --config site.toml
  tierline check --config site.toml --deep --json
  tierline check --config site.toml --index /var/tmp/index-anew")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Hash every byte of footage and read every table of the index, not only what describes footage
    #[arg(long)]
    deep: bool,
    /// Compare the archive's index with the one in DIR, and check nothing else
    #[arg(long, value_name = "DIR", conflicts_with = "deep")]
    index: Option<PathBuf>,
}

/// What was found.
#[derive(Serialize)]
struct Report {
    clean: bool,
    /// Whether a service was writing meanwhile.
    running: bool,
    findings: Vec<Line>,
    /// Segments in an archive class, whose footage was not read: it would have to be restored first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
}

/// One finding.
#[derive(Serialize)]
struct Line {
    invariant: String,
    object: String,
    what: String,
    remedy: &'static str,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.load()?.config;
    let view = view(&config)?;
    let findings = match &args.index {
        Some(dir) => compare(&view, &view_index(dir)?)?,
        None => verify(&view, args.deep)?,
    };
    let report = Report {
        clean: findings.is_empty(),
        running: view.running,
        findings,
        unread: if args.deep {
            indexer::unreadable(&view.index, &view.stores)?
        } else {
            Vec::new()
        },
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        for Line {
            invariant,
            object,
            what,
            remedy,
        } in &report.findings
        {
            writeln!(out, "{invariant}: {object}: {what}; {remedy}")?;
        }
        for name in &report.unread {
            writeln!(
                out,
                "not read: {name}: it lies in an archive class and would have to be restored"
            )?;
        }
        if report.clean {
            writeln!(out, "clean")?;
        }
    }
    Ok(if report.clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn verify(view: &View, deep: bool) -> anyhow::Result<Vec<Line>> {
    let options = CheckOptions {
        deep,
        running: view.running,
    };
    let shown = std::io::stderr().is_terminal();
    let findings = check(&view.index, &view.disk, &view.stores, options, |done, all| {
        // A line for each hundredth at most.
        if shown && (done == all || done.is_multiple_of(all.div_ceil(100))) {
            eprint!("\r{done} of {all} segments");
        }
    })?;
    if shown {
        eprintln!();
    }
    let line = |f: indexer::check::Finding| Line {
        invariant: name(&f.invariant),
        object: f.object,
        what: f.what,
        remedy: f.remedy,
    };
    Ok(findings.into_iter().map(line).collect())
}

/// The word of an invariant, the same in text and JSON.
fn name(invariant: &indexer::check::Invariant) -> String {
    match serde_json::to_value(invariant) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{invariant:?}"),
    }
}

fn compare(view: &View, other: &indexer::Index) -> anyhow::Result<Vec<Line>> {
    if view.running {
        eprintln!(
            "tierline: the service is running: what it wrote since the other index was made is a difference"
        );
    }
    let line = |d: indexer::Difference| Line {
        invariant: "indexes_agree".to_owned(),
        object: d.stream.to_string(),
        what: d.what,
        remedy: "run `tierline check --deep`: what the footage itself says is true",
    };
    Ok(indexer::compare(&view.index, other)?
        .into_iter()
        .map(line)
        .collect())
}
