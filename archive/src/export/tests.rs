pub(crate) mod footage;
mod layout;
mod played;
