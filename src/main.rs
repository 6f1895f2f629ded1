//! Tierline: a segment archive service for camera video.

mod camsim;
mod check;
mod cli;
mod config;
mod demo;
mod descriptors;
mod enrol;
mod export;
mod identity;
mod import;
mod log;
mod promises;
mod rebuild;
mod report;
mod serve;
mod service;
mod show_config;
mod signals;
mod sizing;
mod store;
mod stores;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.command.run() {
        Ok(code) => code,
        Err(error) => {
            let remedy = if indexer::is_damaged(error.as_ref()) {
                "; the index is damaged: move its folder away and make it anew with `tierline rebuild --config FILE`, \
                 which changes no footage"
            } else {
                ""
            };
            eprintln!("tierline: {error:#}{remedy}");
            cli.command.failure()
        }
    }
}
