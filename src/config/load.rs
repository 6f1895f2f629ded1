//! Reads the file, lays environment variables over it, and checks the whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::{Origin, Problem, explain, in_file};
use super::outline::{KeyPath, Outline};
use super::validate::validate;
use super::{Config, ConfigError};

/// Environment variables that begin like this are keys: `TIERLINE__HTTP__LISTEN` is `http.listen`.
const PREFIX: &str = "TIERLINE__";
/// A larger file is none of ours.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A configuration, and what was written of it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// With the defaults for what was not written.
    pub(crate) config: Config,
    /// File and environment together.
    pub(crate) written: Table,
}

/// Loads the file, if one is given, and then `variables`. Relative paths count from the file's folder.
pub(crate) fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let text = file.map(read).transpose()?.unwrap_or_default();
    let mut written = Table::new();
    if let Some(file) = file {
        let wrong = |e: toml::de::Error| in_file(file.to_owned(), &text, &e);
        toml::from_str::<Config>(&text).map_err(wrong)?;
        written = toml::from_str(&text).map_err(wrong)?;
    }
    let mut overridden = BTreeMap::new();
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    variables.sort_unstable();
    for (name, value) in variables {
        let path = lay_over(&mut written, &name, &value)?;
        overridden.insert(path.to_string(), name);
    }
    let mut config = deserialize(written.clone()).map_err(|e| Problem {
        origin: Origin::Default,
        key: String::new(),
        what: explain(e.message(), None),
    })?;
    let outline = Outline::of(&text);
    let problems: Vec<Problem> = validate(&config)
        .into_iter()
        .map(|(path, what)| {
            let key = path.to_string();
            let variable = overridden.iter().find(|(by, _)| key.starts_with(*by));
            let origin = match (variable, file) {
                (Some((_, name)), _) => Origin::Variable(name.clone()),
                (None, Some(file)) => Origin::File(file.to_owned(), outline.line_of(&path)),
                (None, None) => Origin::Default,
            };
            Problem { origin, key, what }
        })
        .collect();
    if !problems.is_empty() {
        return Err(ConfigError(problems));
    }
    config.resolve(&base(file));
    Ok(Loaded { config, written })
}

/// Where relative paths begin.
fn base(file: Option<&Path>) -> PathBuf {
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    std::path::absolute(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })
    .unwrap_or_else(|_| folder.to_owned())
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let wrong = |what: String| Problem {
        origin: Origin::File(file.to_owned(), None),
        key: String::new(),
        what,
    };
    let cannot = |e: std::io::Error| wrong(format!("cannot be read: {e}"));
    let size = std::fs::metadata(file).map_err(cannot)?.len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(format!("{size} bytes is no configuration file")).into());
    }
    Ok(std::fs::read_to_string(file).map_err(cannot)?)
}

fn deserialize(table: Table) -> Result<Config, toml::de::Error> {
    table.try_into()
}

/// Sets the key that a variable names. What is TOML is taken as that, where the key takes it; anything else is
/// a text.
pub(super) fn lay_over(written: &mut Table, name: &str, value: &str) -> Result<KeyPath, Problem> {
    let problem = |key: &str, what: String| Problem {
        origin: Origin::Variable(name.to_owned()),
        key: key.to_owned(),
        what,
    };
    let keys: Vec<String> = name
        .trim_start_matches(PREFIX)
        .split("__")
        .map(str::to_lowercase)
        .collect();
    if keys.iter().any(String::is_empty) {
        let what = "name a key with its sections, such as TIERLINE__HTTP__LISTEN".to_owned();
        return Err(problem("", what));
    }
    let path = KeyPath::default().key(&keys.join("."));
    let typed = typed(value);
    let text = Value::String(value.to_owned());
    let mut first_error = None;
    for value in typed.into_iter().chain([text]) {
        let mut candidate = written.clone();
        if !set(&mut candidate, &keys, value) {
            return Err(problem(
                &path.to_string(),
                "a part of this is not a section".to_owned(),
            ));
        }
        match deserialize(candidate.clone()) {
            Ok(_) => {
                *written = candidate;
                return Ok(path);
            }
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    let what = first_error.map_or_else(String::new, |e| explain(e.message(), Some(&path)));
    Err(problem(&path.to_string(), what))
}

/// A value written in TOML, which includes arrays and tables.
fn typed(value: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {value}")).ok()?;
    let value = table.remove("value")?;
    table.is_empty().then_some(value)
}

fn set(table: &mut Table, keys: &[String], value: Value) -> bool {
    match keys {
        [] => false,
        [last] => {
            table.insert(last.clone(), value);
            true
        }
        [first, rest @ ..] => {
            let inner = table
                .entry(first.clone())
                .or_insert_with(|| Value::Table(Table::new()));
            inner.as_table_mut().is_some_and(|inner| set(inner, rest, value))
        }
    }
}
