//! What a configuration promises is held against the archive before it is in force.

use super::*;

/// A site with one camera, which nobody answers for, and what else stands in its configuration.
fn site_with(rules: &str) -> Site {
    let dir = tempfile::tempdir().expect("folder");
    let config = dir.path().join("site.toml");
    let site = Site { dir, config };
    site.configure(rules);
    site
}

impl Site {
    fn configure(&self, rules: &str) {
        let text = format!(
            "data_dir = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n[[cameras]]\nid = \"lobby\"\n[[cameras.streams]]\n\
             name = \"main\"\nurl = \"rtsp://127.0.0.1:1/\"\n{rules}"
        );
        fs::write(&self.config, text).expect("written");
    }

    /// A start and a stop, which must go well; what it logged.
    fn starts(&self) -> String {
        let mut service = self.serve();
        let mut log = service.child.stderr.take().expect("piped");
        assert_eq!(service.stop(Signal::TERM), Some(0));
        let mut text = String::new();
        log.read_to_string(&mut text).expect("text");
        text
    }

    /// Two clips, two hours from one to the next: some bytes a second.
    fn has_footage(&self) {
        let clip = self.path("clip.mp4");
        let options =
            "-v error -f lavfi -i testsrc=s=320x240:r=25:d=4 -pix_fmt yuv420p -g 25 -movflags +faststart";
        let made = Command::new("ffmpeg")
            .args(options.split(' '))
            .arg(&clip)
            .status();
        assert!(made.expect("ffmpeg runs").success());
        let clip = clip.to_str().expect("text");
        for start in ["2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"] {
            let args = ["--camera", "lobby", "--start", start, clip];
            assert_exit(&self.run("import", &args), 0, "clip.mp4");
        }
    }

    fn check_config(&self) -> Output {
        let file = self.config.to_str().expect("text");
        tierline(&["config", "--check", file]).output().expect("runs")
    }
}

const KEPT: &str = "[[rules]]\nmin = \"30d\"\nquota = \"500GB\"\n";
/// A month of some kilobytes each two hours.
const BROKEN: &str = "[[rules]]\nmin = \"30d\"\nquota = \"1MB\"\n";
const REFUSAL: &str = "rule 1 of [[rules]]: `min` (30d) of camera lobby takes";

#[test]
fn a_change_that_promises_what_cannot_be_kept_is_refused_and_the_rules_as_they_were_start() {
    let site = site_with(KEPT);
    site.starts();
    site.has_footage();
    assert_exit(&site.check_config(), 0, "fine, 1 camera, 1 rule");
    site.configure(BROKEN);
    let index = site.path("data/index");
    let before = fs::read_to_string(site.path("data/retention-in-force.toml")).expect("kept");
    // A service that is not refused would not end.
    let refused = |output: &Output| {
        assert_exit(output, 1, REFUSAL);
        assert_exit(output, 1, "the change of retention since the last start");
    };
    refused(&site.check_config());
    refused(&site.run("serve", &[]));
    assert!(index.exists() && before.contains("30d"), "{before}");
    let after = fs::read_to_string(site.path("data/retention-in-force.toml")).expect("kept");
    assert_eq!(before, after, "a refused change is not in force");
    site.configure(KEPT);
    site.starts();
}

#[test]
fn what_was_in_force_starts_whatever_cameras_have_come_to_send() {
    let site = site_with(BROKEN);
    // Nothing is recorded yet: nobody can know.
    site.starts();
    site.has_footage();
    assert_exit(&site.check_config(), 0, "warning: rule 1 of [[rules]]");
    assert!(site.starts().contains(REFUSAL));
    // A change that breaks nothing anew is taken too.
    site.configure(&BROKEN.replace("30d", "20d"));
    assert!(site.starts().contains("`min` (20d)"));
    // Where nothing is known of what was in force, nothing is refused.
    fs::remove_file(site.path("data/retention-in-force.toml")).expect("removed");
    site.configure(BROKEN);
    assert!(site.starts().contains(REFUSAL));
}
