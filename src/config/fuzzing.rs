//! The configuration under fuzzing: see `archive::fuzzing`.

use super::Config;
use super::load::lay_over;
use super::outline::Outline;
use super::validate::validate;

/// A file, and variables in the lines behind `\n---\n`: what is taken is found valid or named with its lines.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (text, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let outline = Outline::of(text);
    let Ok(config) = toml::from_str::<Config>(text) else {
        return;
    };
    for (path, what) in validate(&config) {
        assert!(!what.is_empty());
        let line = outline.line_of(&path);
        assert!(line.is_none_or(|line| (1..=text.lines().count() + 1).contains(&line)));
    }
    let mut written = toml::from_str(text).expect("was read as a configuration");
    for line in variables.lines() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let _ = lay_over(&mut written, &format!("TIERLINE__{name}"), value);
    }
}

#[cfg(test)]
#[test]
fn the_inputs_that_are_kept_and_mutations_of_them_break_nothing() {
    archive::fuzzing::replay(&[archive::fuzzing::Target::new("config", config)]);
}
