//! Chromium on the product's own page, driven by `http/tests/browser`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use serde::Deserialize;
use serde_json::Value;

use crate::rig::lines;

/// What the browser saw.
#[derive(Debug, Deserialize)]
pub(crate) struct Played {
    pub(crate) verdict: Verdict,
    pub(crate) samples: Vec<Sample>,
    /// What hls.js reported, fatal or not.
    pub(crate) errors: Vec<Value>,
    /// What the browser's console reported.
    pub(crate) console_errors: Vec<String>,
}

/// What `verdict.mjs` says of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) ok: bool,
    pub(crate) findings: Vec<String>,
    #[serde(default)]
    pub(crate) played_s: f64,
    #[serde(default)]
    pub(crate) frames_decoded: u64,
    #[serde(default)]
    pub(crate) stall_s: f64,
}

/// The player at one instant.
#[derive(Debug, Deserialize)]
pub(crate) struct Sample {
    pub(crate) current_time: f64,
    pub(crate) frames: u64,
    pub(crate) playing_date: Option<archive::WallTime>,
}

/// Plays as `arguments` say, from the service at `base`; the picture of the page lies in the target folder
/// under `name`.
pub(crate) fn play(base: &str, camera: &str, name: &str, arguments: &[&str]) -> Played {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("http/tests/browser");
    install(&folder);
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
    let mut node = Command::new("node");
    node.arg(folder.join("play.mjs"))
        .args(["--base", base, "--camera", camera]);
    node.arg("--screenshot").arg(&screenshot).args(arguments);
    let output = node.output().expect("node");
    let Ok(played) = serde_json::from_slice::<Played>(&output.stdout) else {
        panic!("{}", lines(&output));
    };
    println!("{name}: {:?}; {}", played.verdict, screenshot.display());
    played
}

/// Fetches the driver's one dependency, once for each checkout.
fn install(folder: &Path) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if folder.join("node_modules/playwright-core").exists() {
            return;
        }
        let output = Command::new("npm").arg("ci").current_dir(folder).output();
        let output = output.expect("npm");
        assert!(output.status.success(), "npm ci: {}", lines(&output));
    });
}
