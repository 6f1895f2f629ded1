//! Work that is done on several threads and taken in its order.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Pieces that a thread takes at a time, where there are many for each.
const CHUNK_MAX: usize = 16;
/// Chunks that may be done and not taken yet, for each thread.
const AHEAD: usize = 8;

struct State<R> {
    /// The next chunk that nobody works on.
    next: usize,
    /// The chunk that is taken next.
    wanted: usize,
    done: BTreeMap<usize, Vec<R>>,
    stopped: bool,
}

struct Board<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

impl<R> Board<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody when a thread ends, however it ends.
    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

/// Stops the others when it is dropped before it was told that all went well.
struct Guard<'a, R>(&'a Board<R>, bool);

impl<R> Drop for Guard<'_, R> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.stop();
        }
    }
}

/// Does `work` for all `items` on `threads` threads, and gives what comes of each to `take`, in the order of the items.
/// The first error of `take` ends it.
pub(crate) fn in_order<T: Sync, R: Send, E>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> Result<(), E>,
) -> Result<(), E> {
    let size = (items.len() / threads.max(1) / AHEAD).clamp(1, CHUNK_MAX);
    let chunks = items.len().div_ceil(size);
    let threads = threads.clamp(1, chunks.max(1));
    let board = Board {
        state: Mutex::new(State {
            next: 0,
            wanted: 0,
            done: BTreeMap::new(),
            stopped: false,
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut guard = Guard(&board, false);
                loop {
                    let mut state = board.lock();
                    while !state.stopped
                        && state.next < chunks
                        && state.next >= state.wanted + threads * AHEAD
                    {
                        state = board.wait(state);
                    }
                    let chunk = state.next;
                    if state.stopped || chunk >= chunks {
                        break;
                    }
                    state.next += 1;
                    drop(state);
                    let of_chunk = items.chunks(size).nth(chunk).unwrap_or_default();
                    let done: Vec<R> = of_chunk.iter().map(&work).collect();
                    board.lock().done.insert(chunk, done);
                    board.changed.notify_all();
                }
                guard.1 = true;
            });
        }
        let mut guard = Guard(&board, false);
        for (chunk, of_chunk) in items.chunks(size).enumerate() {
            let mut state = board.lock();
            let done = loop {
                match state.done.remove(&chunk) {
                    Some(done) => break done,
                    // A thread panicked: so does the scope.
                    None if state.stopped => return Ok(()),
                    None => state = board.wait(state),
                }
            };
            state.wanted = chunk + 1;
            drop(state);
            board.changed.notify_all();
            for (item, result) in of_chunk.iter().zip(done) {
                take(item, result)?;
            }
        }
        guard.1 = true;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_threads_do_is_taken_in_its_order_and_an_error_ends_it() {
        let items: Vec<usize> = (0..1000).collect();
        let mut taken = Vec::new();
        let work = |i: &usize| {
            if i.is_multiple_of(97) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            i * 2
        };
        let all = in_order(&items, 4, work, |i, twice| {
            assert_eq!(twice, i * 2);
            taken.push(*i);
            Ok::<_, ()>(())
        });
        assert_eq!((all, taken), (Ok(()), items.clone()));
        let mut count = 0;
        let ended = in_order(&items, 3, work, |_, _| {
            count += 1;
            if count == 500 { Err("enough") } else { Ok(()) }
        });
        assert_eq!((ended, count), (Err("enough"), 500));
        assert_eq!(in_order(&[], 4, work, |_, _| Ok::<_, ()>(())), Ok(()));
    }
}
