//! Whoever asks the service to end gets a clean end, though something waits for an object store that takes connections
//! and never says anything; and nothing that was recorded is missing afterwards.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::rig::{Chance, Oracle, Site, beside_others, farm, wait_for};
use crate::stores;

/// A segment, its copy and a hold are on their way to the store by then.
const ASKED_MAX: Duration = Duration::from_secs(30);
/// What waits for the store is given this long and is left behind then; sealing is beside it.
const END_MAX: Duration = Duration::from_secs(7);
/// Stops of the service, at different moments of what is under way.
const STOPS: usize = 3;

#[test]
fn a_store_that_never_answers_does_not_hold_up_the_end() {
    let _turn = beside_others();
    let mut chance = Chance::new();
    let folder = tempfile::tempdir().expect("folder");
    let store = TcpListener::bind("127.0.0.1:0").expect("a port");
    store.set_nonblocking(true).expect("a socket");
    let endpoint = format!("http://{}", store.local_addr().expect("an address"));
    let farm = farm(1);
    let mut site = Site::new(&farm, 1);
    site.segment_duration = "2s";
    site.more = stores::section("warm", &endpoint, folder.path());
    site.more += "[retention]\ninterval = \"300ms\"\n";
    let oracle = Oracle::new(site.cameras());
    // Connections stay open for as long as the test runs.
    let mut connections: Vec<TcpStream> = Vec::new();
    for _ in 0..STOPS {
        let service = site.start();
        oracle.watch(&service);
        service.wait_until_durable(&site.cameras(), ASKED_MAX);
        let url = format!("{}/api/v1/holds", service.api().base());
        let hold = r#"{"camera":"cam-0","from":"2026-01-01T00:00:00Z","to":"2027-01-01T00:00:00Z","reason":"a case"}"#;
        let placed = ureq::post(url).content_type("application/json").send(hold);
        assert!(placed.expect("an answer").status().is_success());
        let waiting = connections.len();
        wait_for("the store to be asked", ASKED_MAX, || {
            connections.extend(store.accept().map(|(connection, _)| connection));
            (connections.len() > waiting + 1).then_some(())
        });
        oracle.assert_kept(&service, &mut chance);
        let began = Instant::now();
        service.stop();
        let took = began.elapsed();
        println!(
            "ended after {took:?}, {} connections to the store",
            connections.len()
        );
        assert!(took < END_MAX, "{took:?}");
        oracle.rest();
    }
    let service = site.start();
    oracle.assert_kept(&service, &mut chance);
}
