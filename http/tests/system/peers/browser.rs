//! Chromium on the product's own page, driven by `http/tests/browser`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use archive::WallTime;
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
    pub(crate) playing_date: Option<WallTime>,
}

/// What the page showed to somebody who looked at it.
#[derive(Debug, Deserialize)]
pub(crate) struct Looked {
    pub(crate) times: Vec<LookedAt>,
    pub(crate) legend: Vec<String>,
    pub(crate) holds: Vec<String>,
    /// Texts by their place: `line`, `facts`, `rules`, `next`.
    pub(crate) storage: Value,
    pub(crate) console_errors: Vec<String>,
}

/// The timeline at one time.
#[derive(Debug, Deserialize)]
pub(crate) struct LookedAt {
    /// Colours of the run, and of the bar below it that tells holds.
    pub(crate) band: String,
    pub(crate) hold: String,
    /// What it says under the pointer.
    pub(crate) tip: String,
}

/// Looks at times of a camera's timeline, once a hold on a span was put by hand; the picture of the page lies in the target
/// folder under `name`.
pub(crate) fn look(
    base: &str,
    camera: &str,
    name: &str,
    at: &[WallTime],
    hold: (WallTime, WallTime),
    reason: &str,
) -> Looked {
    let mut node = driver("look.mjs", base, camera, name);
    for at in at {
        node.arg("--at").arg(at.to_string());
    }
    node.arg("--hold")
        .arg(format!("{}/{}", hold.0, hold.1))
        .args(["--reason", reason]);
    let output = node.output().expect("node");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", lines(&output)))
}

/// Plays as `arguments` say, from the service at `base`; the picture of the page lies in the target folder
/// under `name`.
pub(crate) fn play(base: &str, camera: &str, name: &str, arguments: &[&str]) -> Played {
    let output = driver("play.mjs", base, camera, name).args(arguments).output();
    let output = output.expect("node");
    let Ok(played) = serde_json::from_slice::<Played>(&output.stdout) else {
        panic!("{}", lines(&output));
    };
    println!("{name}: {:?}", played.verdict);
    played
}

fn driver(program: &str, base: &str, camera: &str, name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("http/tests/browser");
    install(&folder);
    let screenshot = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
    println!("{name}: {}", screenshot.display());
    let mut node = Command::new("node");
    node.arg(folder.join(program))
        .args(["--base", base, "--camera", camera]);
    node.arg("--screenshot").arg(screenshot);
    node
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
