//! The commented reference, and the configuration in force.

use toml::{Table, Value};

use super::secret::redact_table;

/// Every key with its default and what it means. Lines that begin with `#` and no space are examples.
pub(crate) const REFERENCE: &str = include_str!("../../docs/config-reference.toml");

/// The configuration in force as TOML, without secrets: defaults, and over them what was written.
pub(crate) fn effective(written: &Table) -> Result<String, toml::de::Error> {
    let mut table: Table = toml::from_str(REFERENCE)?;
    lay_over(&mut table, written);
    redact_table(&mut table);
    Ok(table.to_string())
}

fn lay_over(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => lay_over(inner, over),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}
