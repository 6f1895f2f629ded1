//! A store that takes connections and never says anything holds up nobody who decides.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::SystemClock;
use archive::store::{Objects, Store, StoreConfig, Stores};
use tierline_tiering::{Below, RetentionRule, Rules, TieringConfig, Worker};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::archive_of_segments::{Archive, ample, key, minute};
use crate::holds::hold;

#[test]
fn passes_go_on_while_holds_and_certificates_wait_for_a_store_that_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let folder = tempfile::tempdir().expect("folder");
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "aws_access_key_id = a\naws_secret_access_key = b\n").expect("keys");
    let runtime = Runtime::new().expect("runtime");
    let objects = |prefix: &str| {
        let config = StoreConfig {
            endpoint: Some(format!("http://{address}").parse().expect("url")),
            allow_http: true,
            credentials_file: Some(keys.clone()),
            ..StoreConfig::at(format!("s3://silent/{prefix}").parse().expect("url"))
        };
        Some(Objects {
            store: Store::open(&config).expect("store"),
            cache: None,
            runtime: runtime.handle().clone(),
            turns: Arc::new(Semaphore::new(4)),
        })
    };
    let stores = Stores {
        warm: objects("warm"),
        cold: objects("cold"),
    };
    let a = Archive::new();
    let lobby = a.camera("lobby", 5);
    a.record_many(lobby, 0..2);
    let rows = a.rows(lobby);
    a.index
        .put_hold(&hold("case", "lobby", minute(0), minute(1)))
        .expect("hold");
    a.certify(&rows);
    let below = Below {
        warm: true,
        cold: true,
    };
    let worker = Worker::start(
        a.index.clone(),
        a.disk.clone(),
        Arc::new(SystemClock::default()),
        Rules::with_tiers(vec![RetentionRule::default()], below).expect("sound"),
        TieringConfig {
            interval: Duration::from_millis(50),
            ..ample()
        },
        key(),
        Some((stores, runtime.handle().clone())),
    )
    .expect("worker");
    let (mut passes, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        let now = worker.progress().passes;
        if now > passes {
            (passes, last) = (now, Instant::now());
        }
        longest = longest.max(last.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("{passes} passes, at most {longest:?} without one");
    assert!(longest < Duration::from_secs(2), "{longest:?} without a pass");
    assert!(passes > 10, "{passes} passes");
    runtime.shutdown_background();
    worker.stop().expect("stop");
}
