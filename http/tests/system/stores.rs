//! How a site's configuration names an object store.

use std::path::Path;

use crate::servers::{BUCKET, keys_file};

/// The section that puts `tier` on the server at `endpoint`; its keys go into a file in `folder`. What follows the
/// section's last line still belongs to it.
pub(crate) fn section(tier: &str, endpoint: &str, folder: &Path) -> String {
    let keys = keys_file(folder);
    format!(
        "[tiers.{tier}]\nurl = \"s3://{BUCKET}/site\"\nendpoint = \"{endpoint}\"\nallow_http = true\n\
         credentials_file = {keys:?}\n"
    )
}
