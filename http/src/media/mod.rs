//! Media bytes to sockets: conditional and range requests, and bodies that read a file piece by piece.

mod again;
mod answer;
mod body;
mod crowd;
mod export;
mod held;
mod segment;

pub(crate) use answer::{Representation, answer};
pub(crate) use body::{Job, ReadAhead};
pub(crate) use export::ExportReads;
pub(crate) use held::Held;
pub(crate) use segment::pieces;
