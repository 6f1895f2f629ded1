//! Logging to standard error.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// What libraries tell at `info` is for those who work on them; who wants it names them in `log.level`.
const QUIET: &str = "foyer=warn,foyer_storage=warn,object_store=warn";

/// Begins logging. Once in a process.
pub(crate) fn start(config: &LogConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.level)).context("log.level")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would print them to where nothing can be printed, and panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let begun = match config.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    begun.map_err(|e| anyhow::anyhow!("logging cannot begin: {e}"))
}
