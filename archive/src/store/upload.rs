//! What is put into a store, part by part.

use object_store::PutPayload;

use super::error::StoreError;
use crate::seam::Step;

/// The size of all parts but the last. Larger ones cost more CPU per byte, smaller ones more requests.
pub const PART_BYTES: usize = 8 << 20;

/// The content of an object, told part by part.
pub trait Content: Send {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next [`PART_BYTES`] of it, the last ones fewer; `None` behind the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<PutPayload>, StoreError>> + Send;
}

/// Content that is in memory, and small.
pub(super) struct Whole(Option<Vec<u8>>, u64);

impl Whole {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self(Some(bytes), len)
    }
}

impl Content for Whole {
    fn len(&self) -> u64 {
        self.1
    }

    async fn next(&mut self) -> Result<Option<PutPayload>, StoreError> {
        Ok(self.0.take().map(PutPayload::from))
    }
}

/// Content that asks before each of its parts, and before its end.
pub(super) struct Told<'a, C, F> {
    content: &'a mut C,
    ask: F,
}

impl<'a, C: Content, F: Fn(Step) -> Result<(), StoreError> + Send> Told<'a, C, F> {
    pub(super) fn new(content: &'a mut C, ask: F) -> Self {
        Self { content, ask }
    }
}

impl<C: Content, F: Fn(Step) -> Result<(), StoreError> + Send> Content for Told<'_, C, F> {
    fn len(&self) -> u64 {
        self.content.len()
    }

    async fn next(&mut self) -> Result<Option<PutPayload>, StoreError> {
        let part = self.content.next().await?;
        (self.ask)(part.as_ref().map_or(Step::PutEnd, |_| Step::PutPart))?;
        Ok(part)
    }
}

/// A running CRC-64/NVME, the checksum that S3 keeps of objects that were uploaded in parts.
pub struct Crc64(crc_fast::Digest);

impl Crc64 {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme))
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all that was taken in.
    pub fn finish(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc64({:016x})", self.finish())
    }
}
