//! Retention rules: `[[rules]]` of the configuration.

use std::fmt;
use std::time::Duration;

use archive::units::{format_duration, optional_duration, optional_size};
use archive::{StreamId, Tier, WallTime};
use serde::{Deserialize, Serialize};

use crate::glob::Glob;
use crate::thinning::ThinKeep;

/// How long footage of a removed camera stays where no rule ends it, if nothing else is said.
pub(crate) const REMOVED_GRACE: Duration = Duration::from_secs(90 * 86_400);

/// How long footage of some streams stays. Ages count from a segment's last instant.
///
/// With nothing set, footage stays until the disk needs the space, and then goes oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionRule {
    /// Of which tenants: globs of their names, `["*"]` by default. Footage of this version is filed under `default`.
    pub tenants: Vec<Glob>,
    /// Whose footage: globs of camera ids, `["*"]` by default.
    pub cameras: Vec<Glob>,
    /// Which of their streams: globs of stream names, `["*"]` by default.
    pub streams: Vec<Glob>,
    /// The age until which a copy stays on the hot tier.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub hot: Option<Duration>,
    /// The age until which a copy stays on the warm tier.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub warm: Option<Duration>,
    /// The age until which a copy stays on the cold tier.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub cold: Option<Duration>,
    /// Younger footage is never deleted, even when the disk is full or the quota is used up.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub min: Option<Duration>,
    /// Older footage is deleted, wherever it lies.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
    /// The age until which footage stays that somebody holds as an incident.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub incident: Option<Duration>,
    /// The bytes that each camera may use for those of its streams that this rule governs, together.
    #[serde(with = "optional_size", skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Older footage is thinned: most of its pictures go, and the rest stays as it was recorded.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub thin_after: Option<Duration>,
    /// What stays of it: `"keyframes"`, the default, or `"every-4th-gop"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thin_keep: Option<ThinKeep>,
    /// Where at least so much moves, 1 to 255 and 64 as usual for the stream, everything stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thin_spare_activity: Option<u8>,
    /// And so long before and after it. Default 10 s.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub thin_spare_around: Option<Duration>,
}

impl Default for RetentionRule {
    fn default() -> Self {
        Self {
            tenants: vec![Glob::from("*")],
            cameras: vec![Glob::from("*")],
            streams: vec![Glob::from("*")],
            hot: None,
            warm: None,
            cold: None,
            min: None,
            max: None,
            incident: None,
            quota: None,
            thin_after: None,
            thin_keep: None,
            thin_spare_activity: None,
            thin_spare_around: None,
        }
    }
}

/// Around what moves, everything stays for so long where a rule does not say how long.
const SPARE_AROUND: Duration = Duration::from_secs(10);

impl RetentionRule {
    /// Whether it is about this stream.
    pub fn governs(&self, stream: &StreamId) -> bool {
        let any = |globs: &[Glob], text: &str| globs.iter().any(|g| g.matches(text));
        any(&self.tenants, stream.tenant.as_str())
            && any(&self.cameras, stream.camera.as_str())
            && any(&self.streams, stream.stream.as_str())
    }

    /// The age at which footage is deleted; `None` when age alone deletes nothing. The end of the last tier is the
    /// end of the last copy.
    pub fn age_max(&self, below: Below) -> Option<Duration> {
        let last = match self.last(below) {
            Tier::Hot => self.hot,
            Tier::Warm => self.warm,
            Tier::Cold => self.cold,
        };
        last.into_iter().chain(self.max).min()
    }

    /// The tier to which footage is copied when it is sealed; `None` when it stays where it is.
    pub fn first_below(&self, below: Below) -> Option<Tier> {
        let wanted = |age: Option<Duration>| age.is_none_or(|age| !age.is_zero());
        if below.warm && wanted(self.warm) {
            Some(Tier::Warm)
        } else if below.cold && wanted(self.cold) {
            Some(Tier::Cold)
        } else {
            None
        }
    }

    /// The age at which footage leaves the warm tier for the cold one.
    pub fn cold_from(&self, below: Below) -> Option<Duration> {
        let wanted = self.cold.is_none_or(|age| !age.is_zero());
        let cools = below.cold && wanted && self.first_below(below) == Some(Tier::Warm);
        self.warm.filter(|_| cools)
    }

    /// From which activity on everything stays, and how long around it.
    pub fn spares(&self) -> Option<(u8, Duration)> {
        let around = self.thin_spare_around.unwrap_or(SPARE_AROUND);
        self.thin_spare_activity.map(|level| (level, around))
    }

    /// What is wrong with what it says of thinning.
    fn thinning_problem(&self, below: Below) -> Option<Problem> {
        let Some(after) = self.thin_after else {
            let keys = [
                ("thin_keep", self.thin_keep.is_some()),
                ("thin_spare_activity", self.thin_spare_activity.is_some()),
                ("thin_spare_around", self.thin_spare_around.is_some()),
            ];
            let set = keys.iter().find(|(_, is_set)| *is_set);
            return set.map(|(key, _)| Problem::Without(key, "thin_after"));
        };
        if self.thin_spare_around.is_some() && self.thin_spare_activity.is_none() {
            return Some(Problem::Without("thin_spare_around", "thin_spare_activity"));
        }
        if self.thin_spare_activity == Some(0) {
            return Some(Problem::SparesEverything);
        }
        if let Some(min) = self.min.filter(|min| *min > after) {
            return Some(Problem::ThinsPromised(after, min));
        }
        let gone = self.age_max(below).filter(|gone| after >= *gone);
        gone.map(|gone| Problem::NeverThins(after, gone))
    }

    /// The tier on which footage ends.
    pub(crate) fn last(&self, below: Below) -> Tier {
        match self.first_below(below) {
            Some(Tier::Warm) if self.cold_from(below).is_some() => Tier::Cold,
            Some(tier) => tier,
            None => Tier::Hot,
        }
    }

    /// The rule as it stands in the configuration, all on one line.
    pub fn text(&self) -> String {
        let text = toml::to_string(self).unwrap_or_default();
        text.trim_end().replace('\n', "; ")
    }

    /// The age before which nothing is deleted.
    pub fn age_min(&self) -> Duration {
        self.min.unwrap_or_default()
    }

    fn governs_everything(&self) -> bool {
        let all = |globs: &[Glob]| globs.iter().any(Glob::is_everything);
        all(&self.tenants) && all(&self.cameras) && all(&self.streams)
    }

    fn problem(&self, below: Below) -> Option<Problem> {
        let globs = [
            ("tenants", &self.tenants),
            ("cameras", &self.cameras),
            ("streams", &self.streams),
        ];
        for (key, globs) in globs {
            if globs.is_empty() {
                return Some(Problem::NoGlob(key));
            }
            if let Some(bad) = globs.iter().find(|g| !g.is_possible()) {
                return Some(Problem::BadGlob(key, bad.clone()));
            }
        }
        for (key, age, there) in [("warm", self.warm, below.warm), ("cold", self.cold, below.cold)] {
            if age.is_some() && !there {
                return Some(Problem::NoTier(key));
            }
        }
        for (key, age) in [("hot", self.hot), ("max", self.max)] {
            if age.is_some_and(|age| age.is_zero()) {
                return Some(Problem::Zero(key));
            }
        }
        if self.quota == Some(0) {
            return Some(Problem::Zero("quota"));
        }
        if below.warm && below.cold && self.cold.is_some_and(|age| !age.is_zero()) && self.warm.is_none() {
            return Some(Problem::NeverCools);
        }
        let longer = |a: (&'static str, Option<Duration>), b: (&'static str, Option<Duration>)| {
            let (age, limit) = a.1.zip(b.1)?;
            (age > limit).then_some(Problem::Longer(a.0, age, b.0, limit))
        };
        let used = |age: Option<Duration>| age.filter(|age| !age.is_zero());
        let (warm, cold) = (("warm", used(self.warm)), ("cold", used(self.cold)));
        let (hot, min, max) = (("hot", self.hot), ("min", self.min), ("max", self.max));
        let incident = ("incident", self.incident);
        let last = match self.last(below) {
            Tier::Hot => hot,
            Tier::Warm => warm,
            Tier::Cold => cold,
        };
        [
            (min, max),
            (min, last),
            (hot, warm),
            (warm, cold),
            (hot, max),
            (warm, max),
            (cold, max),
            // An extension that extends nothing.
            (max, incident),
            (last, incident),
        ]
        .into_iter()
        .find_map(|(a, b)| longer(a, b))
        .or_else(|| self.thinning_problem(below))
    }
}

/// What is wrong with a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// It can match nothing.
    NoGlob(&'static str),
    /// The glob has a character that no id has.
    BadGlob(&'static str, Glob),
    /// An age on a tier that is not configured.
    NoTier(&'static str),
    /// An age on the cold tier, and none at which footage goes there.
    NeverCools,
    /// A limit of nothing.
    Zero(&'static str),
    /// The first age is longer than the second, which bounds it.
    Longer(&'static str, Duration, &'static str, Duration),
    /// The first key says nothing without the second.
    Without(&'static str, &'static str),
    /// Everything moves at least that much.
    SparesEverything,
    /// Footage of this age would be thinned, and is promised until that.
    ThinsPromised(Duration, Duration),
    /// Footage of this age would be thinned, and is gone at that.
    NeverThins(Duration, Duration),
    /// The rule with this number matches every stream before.
    Shadowed(usize),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGlob(key) => write!(
                f,
                "`{key}` is empty and matches nothing; leave it out to match all"
            ),
            Self::BadGlob(key, glob) => write!(
                f,
                "`{glob}` in `{key}` can match nothing: ids are made of letters, digits, `.`, `_` and `-`, and \
                 patterns of those, `*` and `?`"
            ),
            Self::NoTier(tier) => write!(
                f,
                "`{tier}` is set, but no {tier} tier is configured: say with `hot` how long footage stays"
            ),
            Self::NeverCools => write!(
                f,
                "`cold` is set and `warm` is not: say with `warm` at which age footage leaves the warm tier for the cold one"
            ),
            Self::Zero(key) => write!(
                f,
                "`{key}` is 0 and would keep nothing; leave it out for no limit"
            ),
            Self::Longer(a, age, b, limit) => {
                let (age, limit) = (format_duration(*age), format_duration(*limit));
                write!(f, "`{a}` ({age}) is longer than `{b}` ({limit})")
            }
            Self::Without(key, other) => write!(f, "`{key}` is set and `{other}` is not: it says nothing"),
            Self::SparesEverything => write!(
                f,
                "`thin_spare_activity` is 0 and would spare everything: use 1 to 255, 64 is usual"
            ),
            Self::ThinsPromised(after, min) => {
                let (after, min) = (format_duration(*after), format_duration(*min));
                write!(
                    f,
                    "`thin_after` ({after}) is shorter than `min` ({min}), for which footage is promised whole"
                )
            }
            Self::NeverThins(after, gone) => {
                let (after, gone) = (format_duration(*after), format_duration(*gone));
                write!(
                    f,
                    "`thin_after` ({after}) is never reached: footage is deleted at {gone}"
                )
            }
            Self::Shadowed(by) => {
                write!(
                    f,
                    "never used, because rule {by} before it matches every stream; put it first"
                )
            }
        }
    }
}

/// Why rules are refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("rule {number} of [[rules]]: {problem}")]
pub struct RuleError {
    /// Which rule, counted from 1.
    pub number: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Rules that were found to be sound, in order; the first that governs a stream holds for it. One that
/// governs everything stands at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    rules: Vec<RetentionRule>,
    below: Below,
    removed_grace: Duration,
}

/// Which tiers there are below the hot one.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Below {
    /// An object store that answers at once.
    pub warm: bool,
    /// An archive class or a cheaper bucket.
    pub cold: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rules: vec![RetentionRule::default()],
            below: Below::default(),
            removed_grace: REMOVED_GRACE,
        }
    }
}

impl Rules {
    /// Checks the rules of an archive that has only the hot tier. Streams that none of them governs are kept until
    /// the disk needs space.
    pub fn new(rules: Vec<RetentionRule>) -> Result<Self, RuleError> {
        Self::with_tiers(rules, Below::default())
    }

    /// Checks the rules of an archive that has other tiers too.
    pub fn with_tiers(rules: Vec<RetentionRule>, below: Below) -> Result<Self, RuleError> {
        let mut everything = None;
        for (i, rule) in rules.iter().enumerate() {
            let shadowed = everything.map(Problem::Shadowed);
            if let Some(problem) = rule.problem(below).or(shadowed) {
                return Err(RuleError {
                    number: i + 1,
                    problem,
                });
            }
            if rule.governs_everything() {
                everything = Some(i + 1);
            }
        }
        let mut rules = rules;
        rules.push(RetentionRule::default());
        Ok(Self {
            rules,
            below,
            removed_grace: REMOVED_GRACE,
        })
    }

    /// The same rules, with another time for which footage of a removed camera stays where no rule ends it.
    #[must_use]
    pub fn with_removed_grace(self, removed_grace: Duration) -> Self {
        Self {
            removed_grace,
            ..self
        }
    }

    /// Which tiers there are below the hot one.
    pub fn below(&self) -> Below {
        self.below
    }

    /// When footage of a camera that was `removed` has been kept for its grace; `None` where its rule says itself when
    /// footage ends.
    ///
    /// A rule with an end means what it says, whatever became of the camera. Where it has none, footage waits for the
    /// disk to need its space; of a camera that nobody records any more it would wait for ever on a disk that is large
    /// enough for the others.
    pub fn removal_ends(&self, rule: &RetentionRule, removed: Option<WallTime>) -> Option<WallTime> {
        let waits = rule.age_max(self.below).is_none();
        removed.filter(|_| waits).map(|at| at.plus(self.removed_grace))
    }

    /// The age at which age alone deletes what a rule governs, `now`.
    pub fn age_max(
        &self,
        rule: &RetentionRule,
        removed: Option<WallTime>,
        now: WallTime,
    ) -> Option<Duration> {
        let over = self.removal_ends(rule, removed).filter(|ends| *ends <= now);
        rule.age_max(self.below).or(over.map(|_| rule.age_min()))
    }

    /// The number of a rule in the configuration, from 1; `None` for the one that holds for what none matches.
    pub(crate) fn number(&self, place: usize) -> Option<usize> {
        (place + 1 < self.rules.len()).then_some(place + 1)
    }

    /// Those of the configuration, in order.
    pub fn configured(&self) -> &[RetentionRule] {
        self.rules.split_last().map_or(&[], |(_, configured)| configured)
    }

    /// The place of the rule that holds for a stream.
    pub(crate) fn place_for(&self, stream: &StreamId) -> usize {
        let found = self.rules.iter().position(|rule| rule.governs(stream));
        found.unwrap_or(self.rules.len().saturating_sub(1))
    }

    pub(crate) fn at(&self, place: usize) -> Option<&RetentionRule> {
        self.rules.get(place)
    }

    /// The rule that holds for a stream.
    pub fn rule_for(&self, stream: &StreamId) -> Option<&RetentionRule> {
        self.at(self.place_for(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<RetentionRule> {
        #[derive(Deserialize)]
        struct File {
            rules: Vec<RetentionRule>,
        }
        toml::from_str::<File>(text).expect("rules").rules
    }

    fn stream(camera: &str, stream: &str) -> StreamId {
        StreamId {
            tenant: Default::default(),
            camera: camera.parse().expect("id"),
            stream: stream.parse().expect("id"),
        }
    }

    #[test]
    fn the_first_rule_that_governs_a_stream_holds_and_others_keep_until_space_is_needed() {
        let rules = read(
            r#"
            [[rules]]
            cameras = ["vault-*"]
            min = "30d"
            max = "90d"
            [[rules]]
            streams = ["sub"]
            hot = "24h"
            quota = "500GB"
            "#,
        );
        let rules = Rules::new(rules).expect("sound");
        let rule = |c, s| rules.rule_for(&stream(c, s)).expect("a rule");
        assert_eq!(rule("vault-1", "sub").age_min(), Duration::from_secs(30 * 86_400));
        assert_eq!(
            rule("lobby", "sub").age_max(Below::default()),
            Some(Duration::from_secs(86_400))
        );
        assert_eq!(rule("lobby", "sub").quota, Some(500_000_000_000));
        assert_eq!(rule("lobby", "main"), &RetentionRule::default());
    }

    #[test]
    fn a_rule_may_be_about_one_tenant() {
        let text = "[[rules]]\ntenants = [\"acme\"]\nhot = \"1d\"\n[[rules]]\nhot = \"2d\"";
        let rules = Rules::new(read(text)).expect("sound");
        let days = |tenant: &str| {
            let stream = StreamId {
                tenant: tenant.parse().expect("id"),
                ..stream("lobby", "main")
            };
            let rule = rules.rule_for(&stream).expect("a rule");
            rule.age_max(Below::default()).map(|age| age.as_secs() / 86_400)
        };
        assert_eq!((days("acme"), days("default")), (Some(1), Some(2)));
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused_with_the_reason() {
        for (text, reason) in [
            (
                "min = \"30d\"\nmax = \"7d\"",
                "`min` (30d) is longer than `max` (7d)",
            ),
            (
                "min = \"2d\"\nhot = \"24h\"",
                "`min` (2d) is longer than `hot` (1d)",
            ),
            (
                "hot = \"2w\"\nmax = \"7d\"",
                "`hot` (14d) is longer than `max` (7d)",
            ),
            ("warm = \"90d\"", "no warm tier is configured"),
            ("cold = \"90d\"", "no cold tier is configured"),
            ("hot = \"0s\"", "would keep nothing"),
            ("quota = \"0B\"", "would keep nothing"),
            ("cameras = []", "matches nothing"),
            (
                "thin_keep = \"keyframes\"",
                "`thin_keep` is set and `thin_after` is not",
            ),
            (
                "thin_after = \"7d\"\nthin_spare_around = \"9s\"",
                "`thin_spare_activity` is not",
            ),
            (
                "thin_after = \"7d\"\nthin_spare_activity = 0",
                "would spare everything",
            ),
            (
                "thin_after = \"7d\"\nmin = \"30d\"",
                "`thin_after` (7d) is shorter than `min` (30d)",
            ),
            (
                "thin_after = \"7d\"\nmax = \"7d\"",
                "is never reached: footage is deleted at 7d",
            ),
            ("thin_after = \"7d\"\nhot = \"2d\"", "is never reached"),
            ("cameras = [\"lobby/main\"]", "`lobby/main` in `cameras`"),
        ] {
            let error = Rules::new(read(&format!("[[rules]]\n{text}"))).expect_err(text);
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.to_string().starts_with("rule 1 of"), "{error}");
        }
        let hidden = read("[[rules]]\nhot = \"1d\"\n[[rules]]\ncameras = [\"vault\"]\nhot = \"90d\"");
        let error = Rules::new(hidden).expect_err("never used").to_string();
        assert!(
            error.contains("rule 2") && error.contains("rule 1 before it"),
            "{error}"
        );
    }

    #[test]
    fn unknown_keys_and_bare_numbers_are_refused() {
        assert!(toml::from_str::<RetentionRule>("keep = \"1d\"").is_err());
        assert!(toml::from_str::<RetentionRule>("hot = 30").is_err());
        assert!(toml::from_str::<RetentionRule>("hot = \"30\"").is_err());
    }

    #[test]
    fn a_rule_reads_back_from_what_it_is_written_as() {
        let rule = RetentionRule {
            hot: Some(Duration::from_secs(7200)),
            quota: Some(1 << 40),
            ..RetentionRule::default()
        };
        let text = toml::to_string(&rule).expect("text");
        assert_eq!(toml::from_str::<RetentionRule>(&text), Ok(rule));
    }
}
