//! Every store passes this, whatever stands behind it.

#[path = "rig/content.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod content;
#[path = "rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;

#[path = "rig/proxy.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod proxy;

use std::path::Path;

use content::{Told, crc64, noise, run, server_store, store_at};
use object_store::PutPayload;
use proxy::{Fault, Proxy};
use servers::{BUCKET, Kind, Server};
use tierline_archive::store::{Content, Store, StoreConfig, StoreError};

/// Content whose reading fails half way.
struct Failing(Told);

impl Content for Failing {
    fn len(&self) -> u64 {
        self.0.len()
    }

    async fn next(&mut self) -> Result<Option<PutPayload>, StoreError> {
        if self.0.at > 0 {
            return Err(StoreError::Away {
                what: "read".into(),
                why: "the test says so".into(),
            });
        }
        self.0.next().await
    }
}

fn folder_store(folder: &Path) -> Store {
    let url = url::Url::from_directory_path(folder.join("store")).expect("url");
    Store::open(&StoreConfig::at(url)).expect("open")
}

/// What is asked of every store.
async fn conforms(store: &Store) {
    store.probe().await.expect("an empty store answers");
    for (name, len) in [
        ("t/cam/main/20261120/23/05-09Z.1.1.mp4", 4096),
        ("t/cam/main/20261120/23/15-09Z.2.1.mp4", 21 << 20),
    ] {
        let bytes = noise(len, len as u64);
        let crc = crc64(&bytes);
        assert_eq!(store.stat(name).await.expect("stat"), None);
        assert!(matches!(
            store.read(name, 0..10).await,
            Err(StoreError::Missing { .. })
        ));

        assert!(
            store.put(name, &mut Told::new(&bytes)).await.expect("put"),
            "{name} is new"
        );
        let stat = store.stat(name).await.expect("stat").expect("there");
        assert_eq!(stat.len, len as u64);
        assert!(stat.crc64.is_none_or(|there| there == crc));
        store.verify(name, len as u64, crc).await.expect("verified");
        assert!(matches!(
            store.verify(name, len as u64, crc ^ 1).await,
            Err(StoreError::Wrong { .. })
        ));
        assert!(matches!(
            store.verify(name, 7, crc).await,
            Err(StoreError::Wrong { .. })
        ));

        // One name has one content.
        let other = noise(len, 99);
        assert!(
            !store.put(name, &mut Told::new(&other)).await.expect("put"),
            "{name} is there"
        );
        store.verify(name, len as u64, crc).await.expect("unchanged");

        let read = store.read(name, 1000..3000).await.expect("read");
        assert_eq!(read, bytes[1000..3000]);
        assert_eq!(store.read(name, 5..5).await.expect("nothing"), "");
        for range in [len as u64 - 5..len as u64 + 5, len as u64 + 5..len as u64 + 6] {
            let beyond = store.read(name, range).await;
            let wrong = matches!(beyond, Err(StoreError::Wrong { .. }));
            assert!(wrong, "nothing stands behind the end: {beyond:?}");
        }
    }
    let all = store.list("t/cam", None, 10).await.expect("list");
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "t/cam/main/20261120/23/05-09Z.1.1.mp4",
            "t/cam/main/20261120/23/15-09Z.2.1.mp4"
        ]
    );
    assert_eq!(all[1].1, 21 << 20);
    let rest = store.list("t/cam", Some(names[0]), 10).await.expect("list");
    assert_eq!(rest, all[1..]);
    assert_eq!(store.list("t/cam", None, 1).await.expect("list"), all[..1]);
    assert_eq!(store.list("t/nobody", None, 10).await.expect("list"), []);

    let half = "t/cam/main/20261120/23/25-09Z.3.1.mp4";
    let failed = store
        .put(half, &mut Failing(Told::new(&noise(20 << 20, 3))))
        .await;
    assert!(failed.is_err());
    assert_eq!(
        store.stat(half).await.expect("stat"),
        None,
        "what was not put whole is not there"
    );

    for (name, _) in &all {
        store.delete(name).await.expect("delete");
        assert_eq!(store.stat(name).await.expect("stat"), None);
        store.delete(name).await.expect("twice");
    }
    assert_eq!(store.list("", None, 10).await.expect("list"), []);
}

/// Of many who put the same name at once, one does.
async fn has_one_winner(store: &Store) {
    wins_once(store, 1 << 10, "small").await;
    wins_once(store, 9 << 20, "large").await;
}

async fn wins_once(store: &Store, len: usize, name: &'static str) {
    let bytes = noise(len, 5);
    let puts = (0..8).map(|_| {
        let (store, mut told) = (store.clone(), Told::new(&bytes));
        tokio::spawn(async move { store.put(name, &mut told).await })
    });
    let mut new = 0;
    for put in puts.collect::<Vec<_>>() {
        new += usize::from(put.await.expect("no panic").expect("put"));
    }
    assert_eq!(new, 1, "{name}");
    store
        .verify(name, len as u64, crc64(&bytes))
        .await
        .expect("whole");
    store.delete(name).await.expect("delete");
}

#[test]
fn a_folder_is_a_store() {
    let folder = tempfile::tempdir().expect("folder");
    let store = folder_store(folder.path());
    run(async {
        conforms(&store).await;
        has_one_winner(&store).await;
    });
}

#[test]
fn minio_is_a_store() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    let store = server_store(&server, folder.path());
    run(async {
        conforms(&store).await;
        has_one_winner(&store).await;
    });
}

#[test]
fn versity_is_a_store() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Versity, folder.path());
    let store = server_store(&server, folder.path());
    run(async {
        conforms(&store).await;
        has_one_winner(&store).await;
    });
}

#[test]
fn moto_is_a_store() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Moto, folder.path());
    let store = server_store(&server, folder.path());
    run(async {
        conforms(&store).await;
        // It looks and then ends an upload in parts, so that several may: each of them puts the same bytes, which is
        // verified afterwards.
        wins_once(&store, 1 << 10, "small").await;
    });
}

#[test]
fn a_bucket_that_is_missing_and_keys_that_are_wrong_are_named_at_the_start() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    run(async {
        let good = server_store(&server, folder.path());
        good.probe().await.expect("answers");
        let config = |bucket: &str, keys: &str| StoreConfig {
            endpoint: Some(server.endpoint().parse().expect("url")),
            allow_http: true,
            credentials_file: Some(folder.path().join(keys)),
            ..StoreConfig::at(format!("s3://{bucket}").parse().expect("url"))
        };
        let missing = Store::open(&config("nowhere", "keys")).expect("open");
        let error = missing.probe().await.expect_err("no such bucket").to_string();
        assert!(error.contains("nowhere"), "{error}");
        std::fs::write(
            folder.path().join("wrong"),
            "aws_access_key_id = someone\naws_secret_access_key = else\n",
        )
        .expect("keys");
        let stranger = Store::open(&config(BUCKET, "wrong")).expect("open");
        assert!(stranger.probe().await.is_err());
    });
}

#[test]
fn a_server_that_is_away_is_told_soon_and_found_again() {
    let folder = tempfile::tempdir().expect("folder");
    let mut server = Server::start(Kind::Minio, folder.path());
    let store = server_store(&server, folder.path());
    run(async {
        let bytes = noise(1 << 20, 1);
        store.put("a", &mut Told::new(&bytes)).await.expect("put");
        server.kill();
        let begun = std::time::Instant::now();
        let error = store.read("a", 0..100).await.expect_err("away");
        assert!(error.is_passing(), "{error}");
        assert!(begun.elapsed().as_secs() < 20);
        let begun = std::time::Instant::now();
        for _ in 0..100 {
            assert!(store.read("a", 0..100).await.is_err());
        }
        assert!(
            begun.elapsed().as_secs() < 10,
            "nobody waits for it one after the other"
        );
        server.restart();
        let back = async {
            loop {
                match store.read("a", 0..100).await {
                    Ok(read) => return read,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                }
            }
        };
        let back = tokio::time::timeout(std::time::Duration::from_secs(10), back).await;
        assert_eq!(back.expect("found again"), bytes[..100]);
    });
}

/// What a fault of the line or the server makes of a copy: an object that is whole, or an error that tells.
#[test]
fn whatever_happens_on_the_way_an_object_that_was_verified_is_what_was_put() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    let proxy = Proxy::start(server.address());
    let (store, truth) = (
        store_at(&proxy.endpoint(), folder.path(), None),
        server_store(&server, folder.path()),
    );
    run(async {
        conforms(&store).await;
        for (i, fault) in [
            Fault::Broken(50),
            Fault::SlowDown(50),
            Fault::Reset(30),
            Fault::LostAnswer(100),
            Fault::DamagedUpload(50),
            Fault::WrongChecksum(100),
            Fault::DamagedRead(100),
        ]
        .into_iter()
        .enumerate()
        {
            proxy.set(Some(fault));
            let (mut sound, mut tries) = (0, 0);
            for (j, len) in [1 << 16, 9 << 20, 1 << 16].into_iter().enumerate() {
                let (name, bytes) = (format!("{i}/{j}.mp4"), noise(len, 77));
                let crc = crc64(&bytes);
                tries += 1;
                let put = store.put(&name, &mut Told::new(&bytes)).await;
                let verified = store.verify(&name, len as u64, crc).await;
                if fault == Fault::WrongChecksum(100) {
                    let refused = matches!(verified, Err(StoreError::Wrong { .. }));
                    assert!(refused, "another checksum was told: {verified:?}");
                }
                // What a store says of itself is asked by a way that nothing disturbs.
                let there = truth.stat(&name).await.expect("stat");
                if let Some(there) = there {
                    assert_eq!(
                        there.len, len as u64,
                        "{fault:?}: an object is whole or not there"
                    );
                    assert_eq!(there.crc64, Some(crc), "{fault:?}: an object is what was put");
                }
                assert!(verified.is_err() || there.is_some(), "{fault:?}: {put:?}");
                sound += usize::from(verified.is_ok());
                if let Ok(read) = store.read(&name, 100..300).await
                    && fault != Fault::DamagedRead(100)
                {
                    assert_eq!(read, bytes[100..300]);
                }
            }
            println!(
                "{fault:?}: {sound} of {tries} verified, {} times",
                proxy.happened()
            );
            assert!(proxy.happened() > 0, "{fault:?}");
            proxy.set(None);
            // A store that did not answer is left alone for a moment.
            tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        }
    });
}
