//! How a site's configuration names an object store.

use std::path::Path;
use std::process::Command;

use crate::servers::{BUCKET, KEY, SECRET, keys_file};

/// The section that puts `tier` on the server at `endpoint`; its keys go into a file in `folder`. What follows the
/// section's last line still belongs to it.
pub(crate) fn section(tier: &str, endpoint: &str, folder: &Path) -> String {
    let keys = keys_file(folder);
    format!(
        "{}credentials_file = {keys:?}\n",
        section_without_keys(tier, endpoint)
    )
}

/// The same for a service that is given its keys by [`give_keys`].
pub(crate) fn section_without_keys(tier: &str, endpoint: &str) -> String {
    format!("[tiers.{tier}]\nurl = \"s3://{BUCKET}/site\"\nendpoint = \"{endpoint}\"\nallow_http = true\n")
}

/// Puts the keys of the servers into the environment of a command.
pub(crate) fn give_keys(command: &mut Command) {
    command
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET);
}
