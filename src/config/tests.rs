use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;

fn read(text: &str) -> Result<Loaded, ConfigError> {
    read_with(text, &[])
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("tierline.toml");
    std::fs::write(&file, text).expect("written");
    load(
        Some(&file),
        variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
    )
}

fn problem(text: &str) -> String {
    let error = read(text).expect_err("must be refused").to_string();
    // The folder is another one each time.
    error
        .split_once("tierline.toml")
        .map_or(error.clone(), |(_, rest)| format!("tierline.toml{rest}"))
}

/// The reference with its examples taken as written.
fn with_examples() -> String {
    let mut text = String::new();
    for line in REFERENCE.lines() {
        let example = line
            .strip_prefix('#')
            .filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        writeln!(text, "{}", example.unwrap_or(line)).expect("text");
    }
    text
}

#[test]
fn the_reference_says_the_defaults() {
    let config = read(REFERENCE).expect("the reference is valid").config;
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_examples_of_the_reference_are_valid_and_say_the_defaults_where_there_are_some() {
    let config = read(&with_examples()).expect("the examples are valid").config;
    assert_eq!(config.hot_dir(), Config::default().hot_dir());
    assert_eq!(
        (
            config.cameras.len(),
            config.rules.len(),
            config.http.api_keys.len()
        ),
        (1, 1, 1)
    );
    let camera = &config.cameras[0];
    assert_eq!((camera.priority, camera.streams[0].enabled), (priority(), true));
}

#[test]
fn the_reference_has_every_key() {
    let text = with_examples();
    let keys_of = |table: &toml::Table| -> BTreeSet<String> { table.keys().cloned().collect() };
    let reference: toml::Table = toml::from_str(&text).expect("TOML");
    let mut sections = vec![(Vec::new(), reference)];
    while let Some((path, table)) = sections.pop() {
        // What a section takes is learnt by asking for a key that none has.
        let mut probe: toml::Table = toml::from_str(&text).expect("TOML");
        let mut at = &mut probe;
        for step in &path {
            let step: &String = step;
            at = match at.get_mut(step).expect("section") {
                toml::Value::Array(all) => all[0].as_table_mut().expect("section"),
                value => value.as_table_mut().expect("section"),
            };
        }
        at.insert("zzz".to_owned(), true.into());
        let message = probe
            .try_into::<Config>()
            .expect_err("unknown")
            .message()
            .to_owned();
        let expected: BTreeSet<String> = message
            .split('`')
            .skip(3)
            .step_by(2)
            .map(str::to_owned)
            .filter(|key| !is_told_elsewhere(&path, key))
            .collect();
        assert_eq!(keys_of(&table), expected, "section {path:?}");
        for (key, value) in table {
            let inner = match value {
                toml::Value::Table(inner) => Some(inner),
                toml::Value::Array(all) => all.into_iter().next().and_then(|v| match v {
                    toml::Value::Table(inner) => Some(inner),
                    _ => None,
                }),
                _ => None,
            };
            if let Some(inner) = inner {
                sections.push(([path.as_slice(), &[key]].concat(), inner));
            }
        }
    }
}

/// The keys of the cold tier are those of the warm one; those of archive classes are of use there alone.
fn is_told_elsewhere(path: &[String], key: &str) -> bool {
    let restores = key.starts_with("restore_");
    let cold = path == ["tiers", "cold"] && key != "url" && key != "storage_class" && !restores;
    cold || path == ["tiers", "warm"] && restores
}

#[test]
fn a_whole_site_is_read() {
    let text = r#"
        data_dir = "/data/tierline"
        [http]
        listen = "127.0.0.1:0"
        [tiers.hot]
        url = "file:///footage"
        [recording]
        segment_duration = "90s"
        [[cameras]]
        id = "lobby"
        name = "Lobby"
        priority = 9
        [[cameras.streams]]
        name = "main"
        url = "rtsp://admin:s3cret@192.168.1.20/live"
        transport = "udp"
        [[rules]]
        cameras = ["lob*"]
        hot = "30d"
        min = "7d"
    "#;
    let config = read(text).expect("valid").config;
    assert_eq!(config.hot_dir(), PathBuf::from("/footage"));
    assert_eq!(config.index_dir(), PathBuf::from("/data/tierline/index"));
    assert_eq!(config.recording.ingest().segment_duration.as_secs(), 90);
    assert_eq!(
        config.cameras[0].streams[0].url.expose().password(),
        Some("s3cret")
    );
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn the_example_in_the_documentation_is_valid() {
    let page = include_str!("../../docs/config.md");
    let example = page
        .split("```toml")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("an example");
    let config = read(example).expect("valid").config;
    assert_eq!((config.cameras.len(), config.rules.len()), (1, 2));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_its_section_and_the_nearest_key() {
    for (text, answer) in [
        (
            "\ndata_dri = \"/x\"",
            "tierline.toml:2: data_dri: `data_dri` is not a key; did you mean `data_dir`?",
        ),
        (
            "[http]\n\nlisen = \"x\"",
            "tierline.toml:3: http.lisen: `lisen` is not a key; did you mean `listen`?",
        ),
        (
            "[[cameras]]\nid = \"a\"\nstreams = []\n[[cameras]]\nid = \"b\"\nprioritty = 1",
            "tierline.toml:6: cameras[2].prioritty: `prioritty` is not a key; did you mean `priority`?",
        ),
        (
            "[retention]\nlwo = \"1GiB\"",
            "tierline.toml:2: retention.lwo: `lwo` is not a key",
        ),
    ] {
        assert!(problem(text).starts_with(answer), "{}", problem(text));
    }
}

#[test]
fn a_value_that_cannot_be_used_is_refused_with_its_line_and_the_remedy() {
    let camera =
        |inner: &str| format!("[[cameras]]\nid = \"a\"\n[[cameras.streams]]\nname = \"main\"\n{inner}");
    for (text, line, parts) in [
        (
            "[http]\nlisten = \"0.0.0.0:80\"".to_owned(),
            2,
            ["http.listen", "[[http.api_keys]]"],
        ),
        (
            "[http]\nlisten = 80".to_owned(),
            2,
            ["http.listen", "socket address"],
        ),
        (
            "[recording]\nsegment_duration = \"10\"".to_owned(),
            2,
            ["recording.segment_duration", "\"10m\""],
        ),
        (
            "[recording]\ncommit_interval = \"5s\"".to_owned(),
            2,
            ["recording.commit_interval", "50ms to 1s"],
        ),
        (
            "[recording]\nsegment_size = \"1KiB\"".to_owned(),
            2,
            ["recording.segment_size", "16MiB"],
        ),
        (
            "[tiers.hot]\nurl = \"s3://bucket\"".to_owned(),
            2,
            ["tiers.hot.url", "file:///FOLDER"],
        ),
        (
            "[tiers.warm]\nurl = \"ftp://bucket\"".to_owned(),
            2,
            ["tiers.warm.url", "file:// or s3://"],
        ),
        (
            "[tiers.warm]\nurl = \"s3://bucket/a\"\n[tiers.cold]\nurl = \"s3://bucket/a/b\"".to_owned(),
            4,
            ["tiers.cold.url", "warm tier"],
        ),
        (
            "[[rules]]\ncold = \"90d\"".to_owned(),
            1,
            ["rules[1]", "no cold tier"],
        ),
        (
            "[tiers.warm]\nurl = \"s3://bucket\"\nstorage_class = \"GLACIER\"".to_owned(),
            3,
            ["tiers.warm.storage_class", "cold tier alone"],
        ),
        (
            "[tiers.cold]\nurl = \"s3://bucket\"\nstorage_class = \"DEEP_ARCHIVE\"\nrestore_tier = \"Expedited\""
                .to_owned(),
            4,
            ["tiers.cold.restore_tier", "no Expedited"],
        ),
        (
            "[tiers.cold]\nurl = \"s3://bucket\"\nrestore_days = 3".to_owned(),
            3,
            ["tiers.cold.restore_days", "GLACIER"],
        ),
        (
            "[tiers.cold]\nurl = \"s3://id:secret@bucket\"".to_owned(),
            2,
            ["tiers.cold.url", "credentials_file"],
        ),
        (
            "[tiers.warm]\nurl = \"s3://bucket\"\nendpoint = \"http://10.0.0.1:9000\"".to_owned(),
            3,
            ["tiers.warm.endpoint", "allow_http = true"],
        ),
        (
            "[[rules]]\nwarm = \"90d\"".to_owned(),
            1,
            ["rules[1]", "no warm tier"],
        ),
        (
            "[[rules]]\nhot = \"1d\"\n[[rules]]\nmin = \"2d\"\nhot = \"1d\"".to_owned(),
            3,
            ["rules[2]", "is longer than"],
        ),
        ("[log]\nlevel = \"a=b=c\"".to_owned(), 2, ["log.level", "debug"]),
        ("[log]\nformat = \"xml\"".to_owned(), 2, ["log.format", "json"]),
        ("a = [".to_owned(), 1, ["", "array"]),
        (
            "[[cameras]]\nid = \"a/b\"\nstreams = []".to_owned(),
            2,
            ["cameras[1].id", "letter or digit"],
        ),
        (
            "[[cameras]]\nid = \"a\"".to_owned(),
            1,
            ["cameras[1]", "`streams` is missing"],
        ),
        (
            "[[cameras]]\nid = \"a\"\nstreams = []".to_owned(),
            3,
            ["cameras[1].streams", "[[cameras.streams]]"],
        ),
        (camera(""), 3, ["cameras[1].streams[1]", "`url` is missing"]),
        (
            camera("url = \"http://cam/\""),
            5,
            ["cameras[1].streams[1].url", "rtsp://"],
        ),
        (
            camera("url = \"rtsp://169.254.169.254/\""),
            5,
            ["cameras[1].streams[1].url", "metadata"],
        ),
        (
            camera("url = \"rtsp://a/\"\ntransport = \"sctp\""),
            6,
            ["streams[1].transport", "udp"],
        ),
    ] {
        let answer = problem(&text);
        assert!(
            answer.starts_with(&format!("tierline.toml:{line}: ")),
            "{text}\n{answer}"
        );
        assert!(parts.iter().all(|part| answer.contains(part)), "{text}\n{answer}");
    }
}

#[test]
fn all_problems_are_named_at_once() {
    let text = "[recording]\ncommit_interval = \"5s\"\nno_data = \"0s\"";
    assert_eq!(problem(text).lines().count(), 2);
}

#[test]
fn a_password_is_never_repeated() {
    for url in [
        "rtsp://admin:s3cret@cam:99999/",
        "rtsp://admin:s3#cret@cam/",
        "http://admin:s3cret@cam/",
    ] {
        let text = format!("[[cameras]]\nid = \"a\"\nstreams = [{{ name = \"main\", url = \"{url}\" }}]");
        assert!(!problem(&text).contains("cret"), "{}", problem(&text));
    }
    assert!(!problem("cameras = \"rtsp://admin:s3cret@cam/\"").contains("s3cret"));
    let variable = ("TIERLINE__CAMERAS", "rtsp://admin:s3cret@cam/");
    let error = read_with("", &[variable]).expect_err("no cameras").to_string();
    assert!(
        !error.contains("s3cret") && error.contains("TIERLINE__CAMERAS"),
        "{error}"
    );
}

#[test]
fn variables_win_over_the_file_and_are_typed_by_their_key() {
    let text = "data_dir = \"/x\"\n[http]\nlisten = \"127.0.0.1:1\"\nconnections_max = 5";
    let loaded = read_with(
        text,
        &[
            ("TIERLINE__HTTP__LISTEN", "127.0.0.1:0"),
            ("TIERLINE__HTTP__CONNECTIONS_MAX", "7"),
            ("TIERLINE__DATA_DIR", "42"),
            ("TIERLINE__INGEST__ALLOW_LOOPBACK", "false"),
            ("TIERLINE__RULES", "[{ hot = \"1d\" }]"),
            ("TIERLINE_CACHE", "not ours"),
        ],
    );
    let config = loaded.expect("valid").config;
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:0");
    assert_eq!((config.http.connections_max, config.rules.len()), (7, 1));
    assert!(config.data_dir.ends_with("42") && config.data_dir.is_absolute());
    assert!(!config.allows_loopback());
}

#[test]
fn a_variable_that_cannot_be_used_is_named() {
    for (name, value, part) in [
        ("TIERLINE__HTTP__LISEN", "127.0.0.1:0", "did you mean `listen`?"),
        ("TIERLINE__HTTP__CONNECTIONS_MAX", "many", "invalid type"),
        ("TIERLINE__HTTP__CONNECTIONS_MAX", "0", "at least 1"),
        ("TIERLINE__DATA_DIR__X", "1", "not a section"),
        ("TIERLINE__", "1", "name a key"),
    ] {
        let error = read_with("data_dir = \"/x\"", &[(name, value)])
            .expect_err(name)
            .to_string();
        assert!(error.contains(name) && error.contains(part), "{error}");
    }
}

#[test]
fn without_a_file_defaults_hold() {
    let config = load(None, []).expect("valid").config;
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn a_relative_data_dir_begins_at_the_folder_of_the_file() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("site.toml");
    std::fs::write(&file, "data_dir = \"data\"").expect("written");
    let config = load(Some(&file), []).expect("valid").config;
    assert_eq!(config.data_dir, dir.path().join("data"));
}

#[test]
fn what_is_in_force_is_shown_with_defaults_and_without_secrets() {
    let text = "[http]\nconnections_max = 7\n[[cameras]]\nid = \"a\"\n\
                streams = [{ name = \"main\", url = \"rtsp://admin:s3cret@cam/live?pw=quiet\" }]";
    let shown = effective(&read(text).expect("valid").written).expect("TOML");
    assert!(
        shown.contains("connections_max = 7") && shown.contains("segment_duration = \"10m\""),
        "{shown}"
    );
    assert!(!shown.contains("s3cret") && !shown.contains("quiet"), "{shown}");
    read(&shown).expect("what is shown is a configuration");
}

#[test]
fn the_configuration_in_the_compose_file_is_valid() {
    let compose = include_str!("../../docs/compose.yaml");
    let (_, rest) = compose
        .split_once("  tierline:\n    content: |\n")
        .expect("a configuration");
    let lines = rest
        .lines()
        .map_while(|line| line.strip_prefix("      ").or(line.is_empty().then_some("")));
    let text = lines.collect::<Vec<_>>().join("\n").replace(
        "${TIERLINE_KEY_SHA256:?the SHA-256 of TIERLINE_KEY}",
        &"0".repeat(64),
    );
    let config = read(&text).expect("valid").config;
    assert_eq!((config.rules.len(), config.http.api_keys.len()), (1, 1));
    assert!(config.below().warm);
}
