//! Where the keys of a file stand: from a place to the key, and from a key to its line.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// One step from the whole file towards a value.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// The way to a value: `cameras[1].streams[0].url`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct KeyPath(Vec<Step>);

impl KeyPath {
    /// The way that continues with a key.
    pub(super) fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.extend(key.split('.').map(|k| Step::Key(k.to_owned())));
        Self(steps)
    }

    /// The way that continues with an element, counted from 0.
    pub(super) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The last key on the way.
    pub(super) fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
    }

    fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                // People count cameras from 1.
                Step::Index(index) => write!(f, "[{}]", index + 1)?,
            }
        }
        Ok(())
    }
}

/// Every key of a file with the places of its name and its value.
pub(super) struct Outline<'a> {
    text: &'a str,
    entries: Vec<(KeyPath, Range<usize>)>,
}

impl<'a> Outline<'a> {
    /// Of a text that is TOML; empty otherwise.
    pub(super) fn of(text: &'a str) -> Self {
        let mut outline = Self {
            text,
            entries: Vec::new(),
        };
        if let Ok(table) = DeTable::parse(text) {
            outline.table(&KeyPath::default(), table.get_ref());
        }
        outline
    }

    fn table(&mut self, path: &KeyPath, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = KeyPath([path.0.as_slice(), &[Step::Key(key.get_ref().to_string())]].concat());
            self.entries.push((path.clone(), key.span()));
            self.value(&path, value.get_ref(), value.span());
        }
    }

    fn value(&mut self, path: &KeyPath, value: &DeValue<'_>, span: Range<usize>) {
        self.entries.push((path.clone(), span));
        match value {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(values) => {
                for (i, value) in values.iter().enumerate() {
                    self.value(&path.index(i), value.get_ref(), value.span());
                }
            }
            _ => {}
        }
    }

    /// The line, counted from 1, of a byte of the text.
    pub(super) fn line_at(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|b| *b == b'\n').count() + 1
    }

    /// The key that stands at a byte of the text.
    pub(super) fn key_at(&self, at: usize) -> Option<&KeyPath> {
        let around = self
            .entries
            .iter()
            .filter(|(_, span)| span.start <= at && at < span.end.max(span.start + 1));
        around.max_by_key(|(path, _)| path.0.len()).map(|(path, _)| path)
    }

    /// The line of a key, or of what stands around it where the key itself is not in the file.
    pub(super) fn line_of(&self, path: &KeyPath) -> Option<usize> {
        let leading = self.entries.iter().filter(|(p, _)| path.starts_with(p));
        let longest = leading.max_by_key(|(p, span)| (p.0.len(), std::cmp::Reverse(span.start)))?;
        Some(self.line_at(longest.1.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "data_dir = \"/x\"\n\n[[cameras]]\nid = \"a\"\n[[cameras.streams]]\nname = \"main\"\n";

    #[test]
    fn a_place_tells_its_key_and_a_key_its_line() {
        let outline = Outline::of(TEXT);
        let at = TEXT.find("\"main\"").expect("in the text");
        let path = outline.key_at(at).expect("a key");
        assert_eq!(path.to_string(), "cameras[1].streams[1].name");
        assert_eq!((outline.line_at(at), outline.line_of(path)), (6, Some(6)));
    }

    #[test]
    fn a_key_that_is_not_there_is_looked_for_where_it_belongs() {
        let outline = Outline::of(TEXT);
        let path = KeyPath::default().key("cameras").index(0).key("name");
        assert_eq!(outline.line_of(&path), Some(3));
        assert_eq!(outline.line_of(&KeyPath::default().key("http.listen")), None);
    }
}
