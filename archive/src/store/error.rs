//! What can go wrong with a store, by what the caller does about it.

use super::raw::error_code;

/// An error of an object store.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store does not answer, is busy or full: try again later, footage stays where it is.
    #[error("cannot {what}: {why}")]
    Away {
        /// What was asked.
        what: String,
        /// What came back.
        why: String,
    },
    /// There is no object of this name.
    #[error("there is no object {name}")]
    Missing {
        /// Which.
        name: String,
    },
    /// The object is not what was put there: never believe it.
    #[error("{name} is not what was put there: {why}")]
    Wrong {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A legal hold of the store's own is on the object: whoever put it has to lift it.
    #[error("the store holds {name}")]
    Held {
        /// Which.
        name: String,
    },
    /// The object lies in an archive class: it can be read some hours after somebody asked for its restore.
    #[error("{name} lies in an archive class and has to be restored before it can be read")]
    Archived {
        /// Which.
        name: String,
    },
    /// The store does not let us: somebody must correct the configuration or the store.
    #[error("the store refuses to {what}: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// What came back.
        why: String,
    },
    /// What was to be stored could not be read.
    #[error("{0}")]
    Content(std::sync::Arc<crate::ArchiveError>),
}

impl StoreError {
    /// Whether it may go away by itself.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    pub(super) fn of(verb: &'static str, name: &str, e: object_store::Error) -> Self {
        use object_store::Error as E;
        let what = || format!("{verb} {name}");
        match e {
            E::NotFound { .. } => Self::Missing {
                name: name.to_owned(),
            },
            E::PermissionDenied { ref source, .. } if is_archived(&**source) => Self::Archived {
                name: name.to_owned(),
            },
            e @ (E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::UnknownConfigurationKey { .. }) => Self::Refused {
                what: what(),
                why: short(&e),
            },
            e => {
                let why = short(&e);
                // The answers of servers and of the library to a range that begins behind the end.
                if why.contains("status code: 416") || why.starts_with("Wanted range starting at") {
                    let name = name.to_owned();
                    return Self::Wrong { name, why };
                }
                Self::Away { what: what(), why }
            }
        }
    }
}

/// Whether a server refused because the object has to be restored first.
fn is_archived(e: &(dyn std::error::Error + 'static)) -> bool {
    error_code(innermost(e).as_bytes()) == Some("InvalidObjectState")
}

/// The innermost cause: what wraps it repeats it, with whole XML documents.
fn innermost(e: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = e;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn short(e: &(dyn std::error::Error + 'static)) -> String {
    const CHARS_MAX: usize = 300;
    innermost(e).chars().take(CHARS_MAX).collect()
}
