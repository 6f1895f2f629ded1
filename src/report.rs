//! `tierline report`: figures for people who plan.

use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use crate::sizing::{Prices, Site, Sizing};

/// Print a report.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  tierline report sizing --cameras 240 --mbit 3 --months 6")]
pub(crate) struct Args {
    #[command(subcommand)]
    report: Report,
}

#[derive(Debug, Subcommand)]
enum Report {
    /// What cameras take: bytes by tier, objects, requests, index, and cost where prices are given
    Sizing(SizingArgs),
}

/// A table for every number of cameras, rate and time; all can be given several times or with commas.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tierline report sizing
  tierline report sizing --cameras 240 --mbit 3 --months 6 --hot-days 14 --warm-gb 0.023 --warm-writes 0.005

A month is 30 days. Bytes are those of the media: 1 Mbit/s is 10.8 GB a day. Prices are in whatever currency they are given.")]
struct SizingArgs {
    /// How many cameras
    #[arg(long, value_delimiter = ',', default_values_t = [100.0, 1000.0, 4000.0], value_parser = positive)]
    cameras: Vec<f64>,
    /// What each sends, in Mbit/s
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 2.0, 4.0], value_parser = positive)]
    mbit: Vec<f64>,
    /// How long footage is kept
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 3.0, 6.0, 12.0], value_parser = positive)]
    months: Vec<f64>,
    /// Days on the disk: `hot` of the rule
    #[arg(long, default_value_t = 7.0, value_parser = positive)]
    hot_days: f64,
    /// Days until footage goes from the warm tier to the cold one: `warm` of the rule
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    warm_days: f64,
    /// Seconds from keyframe to keyframe
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    gop: f64,
    /// Price of a GB on the warm tier for a month
    #[arg(long, default_value_t = 0.0, value_parser = price)]
    warm_gb: f64,
    /// Price of a GB on the cold tier for a month
    #[arg(long, default_value_t = 0.0, value_parser = price)]
    cold_gb: f64,
    /// Price of 1,000 requests that write to the warm tier
    #[arg(long, default_value_t = 0.0, value_parser = price)]
    warm_writes: f64,
    /// Price of 1,000 requests that write to the cold tier
    #[arg(long, default_value_t = 0.0, value_parser = price)]
    cold_writes: f64,
    /// Price of 1,000 requests that look or read
    #[arg(long, default_value_t = 0.0, value_parser = price)]
    reads: f64,
    /// As a table in Markdown
    #[arg(long)]
    markdown: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|n| *n > 0.0)
        .ok_or_else(|| "use a number above 0".to_owned())
}

fn price(text: &str) -> Result<f64, String> {
    number(text).ok_or_else(|| "use a number".to_owned())
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|n: &f64| (0.0..=1e9).contains(n))
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Report::Sizing(args) = &args.report;
    std::io::stdout().lock().write_all(table(args).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 11] = [
    "cameras",
    "Mbit/s",
    "months",
    "disk",
    "warm",
    "cold",
    "objects",
    "objects a day",
    "requests a day",
    "index",
    "scrub",
];

fn table(args: &SizingArgs) -> String {
    let prices = Prices {
        warm_gb: args.warm_gb,
        cold_gb: args.cold_gb,
        warm_writes: args.warm_writes,
        cold_writes: args.cold_writes,
        reads: args.reads,
    };
    let priced = prices != Prices::default();
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    if priced {
        rows.iter_mut()
            .for_each(|head| head.push("cost a month".to_owned()));
    }
    for cameras in &args.cameras {
        for mbit in &args.mbit {
            for months in &args.months {
                let site = Site {
                    cameras: *cameras,
                    mbit: *mbit,
                    months: *months,
                    hot_days: args.hot_days,
                    warm_days: args.warm_days,
                    segment_s: 600.0,
                    segment_bytes_max: f64::from(128 << 20),
                    gop_s: args.gop,
                };
                let sizing = site.sizing();
                let mut row = row(&site, &sizing);
                if priced {
                    row.push(grouped(sizing.cost_month(&prices)));
                }
                rows.push(row);
            }
        }
    }
    if args.markdown {
        markdown(&rows)
    } else {
        plain(&rows)
    }
}

fn row(site: &Site, sizing: &Sizing) -> Vec<String> {
    let requests = sizing.warm_writes_day + sizing.cold_writes_day + sizing.reads_day;
    vec![
        grouped(site.cameras),
        site.mbit.to_string(),
        site.months.to_string(),
        bytes(sizing.hot_bytes),
        bytes(sizing.warm_bytes),
        bytes(sizing.cold_bytes),
        grouped(sizing.objects),
        grouped(sizing.segments_day),
        grouped(requests),
        bytes(sizing.index_bytes),
        format!("{}/s", bytes(sizing.scrub_bytes_s)),
    ]
}

/// Three digits at least, and a unit of ten.
fn bytes(bytes: f64) -> String {
    let units = [("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)];
    let unit = units.into_iter().find(|(_, scale)| bytes >= *scale);
    let Some((unit, scale)) = unit else {
        return if bytes < 1.0 {
            "–".to_owned()
        } else {
            format!("{bytes:.0} B")
        };
    };
    let value = bytes / scale;
    let digits = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// A whole number with commas.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if i == 0 {
            let _ = writeln!(text, "|{}", "---:|".repeat(row.len()));
        }
    }
    text
}

fn plain(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| Some(row.get(column)?.chars().count()))
            .max()
    };
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:>width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  "));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SizingArgs,
    }

    fn table_of(line: &str) -> String {
        let words = std::iter::once("sizing").chain(line.split_whitespace());
        table(&Line::parse_from(words).args)
    }

    /// The command in the page and what it prints.
    #[test]
    fn the_sizing_table_of_the_documentation_is_current() {
        let page = include_str!("../docs/operations.md");
        let commands: Vec<&str> = (page.lines())
            .filter_map(|line| line.split_once("tierline report sizing ").map(|(_, args)| args))
            .collect();
        assert_eq!(commands.len(), 1, "one command makes the table");
        let table = table_of(commands[0]);
        assert!(
            page.contains(&table),
            "renew the table in docs/operations.md:\n{table}"
        );
    }

    #[test]
    fn one_row_by_hand() {
        let text = table_of("--cameras 1000 --mbit 2 --months 3 --markdown --warm-gb 0.01");
        // 21.6 TB a day: 7 days, 30 and 60; a segment of 128 MiB takes 537 s.
        let row = text.lines().last().expect("a row");
        let begin = "| 1,000 | 2 | 3 | 151 TB | 648 TB | 1.30 PB | 14,483,929 | 160,933 |";
        assert!(row.starts_with(begin), "{row}");
        // 7 days of 250 MB/s are read in 30, and 30 in 90.
        assert!(row.ends_with("| 142 MB/s | 6,480 |"), "{row}");
    }

    #[test]
    fn what_is_no_number_of_cameras_is_refused() {
        for line in [
            "--cameras 0",
            "--mbit -1",
            "--months nan",
            "--warm-gb x",
            "--cameras 1e300",
        ] {
            let words = std::iter::once("sizing").chain(line.split_whitespace());
            assert!(Line::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            [0.0, 999.0, 1000.0, 1_234_567.4].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.0, 1.5e9, 15e9, 151.2e12].map(bytes),
            ["–", "1.50 GB", "15.0 GB", "151 TB"]
        );
    }
}
