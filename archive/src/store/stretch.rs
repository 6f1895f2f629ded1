//! Neighbouring blocks of an object, which come by one request: what a request costs beside its bytes, here and at the
//! server, is what reading in order costs too much.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};

use super::{READ_TIMEOUT, Store, StoreError};
use crate::buffer::Filling;

/// A stretch of an object that is read in order.
pub(super) struct Stretch {
    store: Store,
    name: String,
    /// What was not read yet.
    rest: Range<u64>,
    answer: Option<Answer>,
}

/// What comes back: the last piece of it, as far as it was not used, and those behind it.
struct Answer {
    piece: Bytes,
    pieces: BoxStream<'static, object_store::Result<Bytes>>,
}

impl Stretch {
    /// The bytes `range` of the object `name`; nothing is asked for yet.
    pub(super) fn new(store: &Store, name: &str, range: Range<u64>) -> Self {
        Self {
            store: store.clone(),
            name: name.to_owned(),
            rest: range,
            answer: None,
        }
    }

    /// The bytes `range`, which lie behind all that were read.
    pub(super) async fn read(&mut self, range: Range<u64>) -> Result<Bytes, StoreError> {
        // One read of a file is cheaper than many small ones.
        if self.store.is_folder() {
            return self.store.read(&self.name, range).await;
        }
        // It begins, or the cache had what lies before.
        if self.answer.is_none() || self.rest.start != range.start {
            self.rest.start = range.start;
            let pieces = self.store.read_in_pieces(&self.name, &self.rest).await?;
            let piece = Bytes::new();
            self.answer = Some(Answer { piece, pieces });
        }
        let Some(answer) = &mut self.answer else {
            return Ok(Bytes::new());
        };
        let len = (range.end - range.start) as usize;
        let read = self
            .store
            .within(READ_TIMEOUT, "read", &self.name, answer.take(len))
            .await;
        self.rest.start = range.end;
        let bytes = read.inspect_err(|_| self.answer = None)?;
        if bytes.len() < len {
            return Err(StoreError::Wrong {
                name: self.name.clone(),
                why: format!("{len} bytes at {} are not all there", range.start),
            });
        }
        Ok(bytes)
    }
}

impl Answer {
    /// The next `len` bytes, or fewer at the end.
    async fn take(&mut self, len: usize) -> object_store::Result<Bytes> {
        let mut bytes = Filling::to_keep(len);
        while bytes.room() > 0 {
            if self.piece.is_empty() {
                match self.pieces.next().await {
                    Some(piece) => self.piece = piece?,
                    None => break,
                }
            }
            bytes.take(&mut self.piece);
        }
        Ok(bytes.into_bytes())
    }
}
