//! Block-aligned memory for O_DIRECT, in slabs that are used again and again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use memmap2::{Advice, MmapMut};

use crate::fragment::BLOCK_BYTES;

/// Bytes in a slab: large enough that a GOP needs few, small enough that an idle camera costs little.
pub const SLAB_BYTES: usize = 64 << 10;

/// What the system can give in one page where that is asked for.
const HUGE_PAGE_BYTES: usize = 2 << 20;

#[derive(Copy, Clone, Pod, Zeroable)]
#[repr(C, align(4096))]
pub(crate) struct Block([u8; BLOCK_BYTES]);

/// Zeroed block-aligned memory of a multiple of [`BLOCK_BYTES`].
pub(crate) enum Aligned {
    Heap(Box<[Block]>),
    /// A mapping, and how many of its bytes count.
    Mapped(MmapMut, usize),
}

impl Aligned {
    /// At least `bytes` bytes, rounded up to whole blocks.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        Self::Heap(bytemuck::allocation::zeroed_slice_box(
            bytes.div_ceil(BLOCK_BYTES),
        ))
    }

    /// The same, to be kept and used again: it is mapped on its own, so that it goes back to the system when it is
    /// dropped. Between other allocations on the heap it would stay.
    fn mapped(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let huge = bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        // Only what is a multiple of a huge page begins on one; what is behind `bytes` is never touched.
        let len = if huge > 0 {
            bytes.next_multiple_of(HUGE_PAGE_BYTES)
        } else {
            bytes
        };
        let Ok(mapped) = MmapMut::map_anon(len) else {
            return Self::zeroed(bytes);
        };
        // The disk and the socket then look up one page and not 512. Whether there is one is the system's affair.
        if huge > 0 {
            let _ = mapped.advise_range(Advice::HugePage, 0, huge);
        }
        Self::Mapped(mapped, bytes)
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(blocks) => bytemuck::cast_slice_mut(blocks),
            Self::Mapped(mapped, len) => &mut mapped[..*len],
        }
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Heap(blocks) => bytemuck::cast_slice(blocks),
            Self::Mapped(mapped, len) => &mapped[..*len],
        }
    }
}

/// A read begins and ends inside blocks that are checked whole.
const READ_SLACK_BYTES: usize = 2 * SLAB_BYTES + 2 * BLOCK_BYTES;
/// Smaller reads are not worth a large buffer.
const READ_BYTES_POOLED_MIN: usize = 128 << 10;
/// The same of what is kept for long, as in a cache.
const KEPT_BYTES_POOLED_MIN: usize = 1 << 20;

/// Memory that is not in use, that used last on top, and how much of it lay there at least since it was last looked at.
struct Free {
    memory: Vec<Aligned>,
    least: usize,
}

impl Free {
    const NOTHING: Self = Self {
        memory: Vec::new(),
        least: 0,
    };

    fn take(&mut self) -> Option<Aligned> {
        let memory = self.memory.pop();
        self.least = self.least.min(self.memory.len());
        memory
    }

    /// Keeps of `more` what there is room for among `keep_max`. The rest is to be dropped when the lock is gone.
    fn put(&mut self, more: &mut impl Iterator<Item = Aligned>, keep_max: usize) {
        let room = keep_max.saturating_sub(self.memory.len());
        self.memory.extend(more.take(room));
    }

    /// What nobody needed since this was last asked for. To be dropped when the lock is gone.
    fn idle(&mut self) -> Vec<Aligned> {
        let idle = self.memory.drain(..self.least).collect();
        self.least = self.memory.len();
        idle
    }
}

/// Read buffers of one size that are not in use. Clearing a fresh one costs as much as sending what is read into it.
struct Shelf {
    bytes: usize,
    keep_max: usize,
    free: Mutex<Free>,
}

/// Smallest first.
static SHELVES: [Shelf; 2] = [Shelf::new(1 << 20, 32), Shelf::new(2 << 20, 8)];

impl Shelf {
    const fn new(bytes: usize, keep_max: usize) -> Self {
        Self {
            bytes: bytes + READ_SLACK_BYTES,
            keep_max,
            free: Mutex::new(Free::NOTHING),
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Aligned {
        let free = self.free().take();
        free.unwrap_or_else(|| Aligned::mapped(self.bytes))
    }

    fn put(&self, memory: Aligned) {
        let mut memory = std::iter::once(memory);
        self.free().put(&mut memory, self.keep_max);
    }

    fn release_idle(&self) {
        let idle = self.free().idle();
        // Unmapping takes a while: the lock is gone here.
        drop(idle);
    }
}

/// Gives the read buffers back to the system that nobody needed since the last call. Without it a burst of readers leaves
/// as many as are kept, 53 MiB, for ever. For a service, to call every minute or so.
pub fn release_idle() {
    SHELVES.iter().for_each(Shelf::release_idle);
}

/// Memory to read into; goes back for the next read when the last of its bytes has been sent.
pub(crate) struct ReadBuffer(Option<Aligned>);

impl ReadBuffer {
    /// At least `bytes` bytes of whatever was read before.
    pub(crate) fn take(bytes: usize) -> Self {
        let shelf = SHELVES.iter().find(|shelf| bytes <= shelf.bytes);
        let Some(shelf) = shelf.filter(|_| bytes >= READ_BYTES_POOLED_MIN) else {
            return Self(Some(Aligned::zeroed(bytes)));
        };
        Self(Some(shelf.take()))
    }

    /// Its first `bytes` bytes, rounded up to whole blocks.
    pub(crate) fn first(&mut self, bytes: usize) -> &mut [u8] {
        let all = self.0.as_mut().map_or(&mut [][..], Aligned::as_mut);
        let len = bytes.next_multiple_of(BLOCK_BYTES).min(all.len());
        &mut all[..len]
    }

    /// The bytes `range`, without a copy. All of them must have been read.
    pub(crate) fn into_bytes(self, range: std::ops::Range<usize>) -> Bytes {
        Bytes::from_owner(self).slice(range)
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], AsRef::as_ref)
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let Some(memory) = self.0.take() else { return };
        let shelf = SHELVES.iter().find(|shelf| shelf.bytes == memory.as_ref().len());
        if let Some(shelf) = shelf {
            shelf.put(memory);
        }
    }
}

/// Memory of the same kind that is filled piece by piece.
pub(crate) struct Filling {
    buffer: ReadBuffer,
    filled: usize,
    len: usize,
}

impl Filling {
    /// Room for `len` bytes.
    pub(crate) fn new(len: usize) -> Self {
        let (buffer, filled) = (ReadBuffer::take(len), 0);
        Self { buffer, filled, len }
    }

    /// The same for what is kept: little of it must not hold a large buffer.
    pub(crate) fn to_keep(len: usize) -> Self {
        if len >= KEPT_BYTES_POOLED_MIN {
            return Self::new(len);
        }
        let (buffer, filled) = (ReadBuffer(Some(Aligned::zeroed(len))), 0);
        Self { buffer, filled, len }
    }

    /// How many bytes there is room for.
    pub(crate) fn room(&self) -> usize {
        self.len - self.filled
    }

    /// Takes the beginning of `piece`, as far as there is room.
    pub(crate) fn take(&mut self, piece: &mut Bytes) {
        let now = piece.split_to(piece.len().min(self.room()));
        let end = self.filled + now.len();
        self.buffer.first(self.len)[self.filled..end].copy_from_slice(&now);
        self.filled = end;
    }

    /// What was taken.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.buffer.into_bytes(0..self.filled)
    }
}

/// After so many slabs were taken, those that nobody needed meanwhile go back to the system: a minute at 40 cameras
/// of 4 Mbit/s.
const TURN_SLABS: u32 = 20_000;

/// Keeps slabs for the next fragment. Cloning shares the pool.
#[derive(Clone)]
pub struct Pool {
    free: Arc<Mutex<Slabs>>,
    keep_max: usize,
}

struct Slabs {
    free: Free,
    /// How many were taken in this turn.
    taken: u32,
}

impl Slabs {
    /// A slab, and those that a whole turn did not need.
    fn take(&mut self) -> (Option<Aligned>, Vec<Aligned>) {
        let slab = self.free.take();
        self.taken += 1;
        if self.taken < TURN_SLABS {
            return (slab, Vec::new());
        }
        self.taken = 0;
        (slab, self.free.idle())
    }
}

impl Pool {
    /// A pool that keeps at most `keep_max` unused slabs of [`SLAB_BYTES`].
    pub fn new(keep_max: usize) -> Self {
        Self {
            free: Arc::new(Mutex::new(Slabs {
                free: Free::NOTHING,
                taken: 0,
            })),
            keep_max,
        }
    }

    fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Aligned {
        let (slab, idle) = self.slabs().take();
        drop(idle);
        slab.unwrap_or_else(|| Aligned::mapped(SLAB_BYTES))
    }

    fn put(&self, mut slabs: impl Iterator<Item = Aligned>) {
        self.slabs().free.put(&mut slabs, self.keep_max);
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("keep_max", &self.keep_max)
            .finish_non_exhaustive()
    }
}

/// A growing buffer of slabs, which go back to their pool when it is dropped.
pub(crate) struct SlabBuf {
    slabs: Vec<Aligned>,
    len: usize,
    pool: Pool,
}

impl SlabBuf {
    pub(crate) fn new(pool: &Pool) -> Self {
        Self {
            slabs: Vec::new(),
            len: 0,
            pool: pool.clone(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends `bytes`.
    pub(crate) fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = self.len % SLAB_BYTES;
            if at == 0 {
                self.slabs.push(self.pool.take());
            }
            let Some(slab) = self.slabs.last_mut() else { return };
            let n = bytes.len().min(SLAB_BYTES - at);
            let (now, later) = bytes.split_at(n);
            slab.as_mut()[at..at + n].copy_from_slice(now);
            bytes = later;
            self.len += n;
        }
    }

    /// Appends `n` zero bytes.
    pub(crate) fn extend_zeros(&mut self, mut n: usize) {
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        while n > 0 {
            let now = n.min(BLOCK_BYTES);
            self.extend(&ZEROS[..now]);
            n -= now;
        }
    }

    /// Overwrites the first bytes.
    pub(crate) fn write_front(&mut self, mut bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.len);
        for slab in &mut self.slabs {
            let n = bytes.len().min(SLAB_BYTES);
            let (now, later) = bytes.split_at(n);
            slab.as_mut()[..n].copy_from_slice(now);
            bytes = later;
        }
    }

    /// The content in slabs.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.len;
        self.slabs.iter().map(move |slab| {
            let n = left.min(SLAB_BYTES);
            left -= n;
            &slab.as_ref()[..n]
        })
    }

    /// The part `range` of the content, in slabs.
    pub(crate) fn range(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &[u8]> {
        let starts = (0..).step_by(SLAB_BYTES);
        self.slices().zip(starts).filter_map(move |(slab, start)| {
            let in_slab = |at: usize| at.saturating_sub(start).min(slab.len());
            let part = &slab[in_slab(range.start)..in_slab(range.end)];
            (!part.is_empty()).then_some(part)
        })
    }
}

impl Drop for SlabBuf {
    fn drop(&mut self) {
        self.pool.put(self.slabs.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_growth_over_slabs_and_a_new_front() {
        let pool = Pool::new(8);
        let mut buf = SlabBuf::new(&pool);
        let data: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        buf.extend_zeros(1000);
        data.chunks(777).for_each(|c| buf.extend(c));
        buf.write_front(&[7; 1000]);
        let all = buf.slices().collect::<Vec<_>>().concat();
        assert_eq!(&all[..1000], &[7; 1000]);
        assert_eq!(&all[1000..], &data[..]);
        for range in [0..0, 5..70_000, 65_536..131_072, 100_000..201_000] {
            assert_eq!(buf.range(range.clone()).collect::<Vec<_>>().concat(), all[range]);
        }
        assert!(buf.slices().all(|s| s.as_ptr().align_offset(BLOCK_BYTES) == 0));
    }

    #[test]
    fn a_read_buffer_comes_back_when_its_last_bytes_are_gone() {
        let free = || SHELVES[0].free().memory.len();
        let mut buffer = ReadBuffer::take(1 << 20);
        assert_eq!(buffer.first(5000).len(), 2 * BLOCK_BYTES);
        let bytes = buffer.into_bytes(0..1 << 20);
        let part = bytes.slice(10..20);
        drop(bytes);
        let before = free();
        drop(part);
        // Other tests read too.
        assert!(free() > 0 && before <= SHELVES[0].keep_max);
        assert_eq!(ReadBuffer::take(4 << 20).into_bytes(0..1).len(), 1);
    }

    #[test]
    fn what_a_burst_of_readers_needed_goes_back_to_the_system() {
        let shelf = Shelf::new(1 << 20, 32);
        let free = || shelf.free().memory.len();
        let reading = |buffers: usize| {
            let all: Vec<Aligned> = (0..buffers).map(|_| shelf.take()).collect();
            all.into_iter().for_each(|memory| shelf.put(memory));
        };
        reading(60);
        assert_eq!(free(), 32);
        // It was in use since the last look.
        shelf.release_idle();
        assert_eq!(free(), 32);
        reading(3);
        shelf.release_idle();
        assert_eq!(free(), 3);
        reading(5);
        shelf.release_idle();
        assert_eq!(free(), 5);
        shelf.release_idle();
        assert_eq!(free(), 0);
    }

    #[test]
    fn a_dropped_buffer_gives_its_slabs_back_up_to_the_bound() {
        let pool = Pool::new(2);
        let mut buf = SlabBuf::new(&pool);
        buf.extend_zeros(5 * SLAB_BYTES);
        drop(buf);
        assert_eq!(pool.slabs().free.memory.len(), 2);
    }

    #[test]
    fn slabs_that_a_whole_turn_did_not_need_are_given_back() {
        let pool = Pool::new(100);
        let many = |slabs: usize| {
            let mut buf = SlabBuf::new(&pool);
            buf.extend_zeros(slabs * SLAB_BYTES);
        };
        many(50);
        assert_eq!(pool.slabs().free.memory.len(), 50);
        // The first turn knows of the time before it.
        for _ in 0..2 * TURN_SLABS / 10 {
            many(10);
        }
        assert_eq!(pool.slabs().free.memory.len(), 10);
    }
}
