//! A campaign of damage: one archive, recorded once, of which a copy is damaged again and again.
//!
//! The oracle is what the undamaged copy answers, kept outside of the product.

mod archive;
mod fetch;
mod harm;
mod oracle;

pub(crate) use archive::{Copy, Recorded};
pub(crate) use fetch::{Answer, Source};
pub(crate) use harm::{Harm, Part};
pub(crate) use oracle::{Fragment, Seen, Truth, timeline};
