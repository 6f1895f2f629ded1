//! How much memory this process holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Resident memory in KiB.
pub(crate) fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .expect("resident")
        .parse()
        .expect("a number");
    pages * 4
}

/// Watches the highest resident memory until it is dropped.
pub(crate) struct Watch {
    before_kib: u64,
    highest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        let before_kib = resident_kib();
        let highest = Arc::new(AtomicU64::new(before_kib));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (highest.clone(), stop.clone());
        crate::camera::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(resident_kib(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self {
            before_kib,
            highest,
            stop,
        }
    }

    /// By how much memory has grown at most.
    pub(crate) fn growth_kib(&self) -> u64 {
        self.highest
            .load(Ordering::Relaxed)
            .saturating_sub(self.before_kib)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            println!("memory: {} KiB more at most", self.growth_kib());
        }
    }
}
