//! Classes of object stores whose objects have to be restored before they can be read.

#[path = "rig/content.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod content;
#[path = "rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use content::{Told, crc64, noise, run, store_of_class};
use servers::{Kind, Server};
use tierline_archive::store::{Access, Store, StoreConfig, StoreError};
use tierline_archive::time::HOUR_US;
use tierline_archive::{Clock, SystemClock};

const DAY_US: i64 = 24 * HOUR_US;
/// How long moto takes over a restore here.
const RESTORE: Duration = Duration::from_secs(2);

async fn is_restored(store: &Store, name: &str) -> Access {
    loop {
        let access = store.stat(name).await.expect("stat").expect("there").access;
        if access != Access::Restoring {
            return access;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn what_lies_in_an_archive_class_is_verified_unread_and_read_when_it_was_restored() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Moto, folder.path());
    server.restores_take(RESTORE);
    for class in ["GLACIER", "DEEP_ARCHIVE"] {
        let store = store_of_class(&server, folder.path(), Some(class));
        run(async {
            for len in [4096, 21 << 20] {
                let name = format!("t/cam/main/20261120/23/05-09Z.{len}.1.mp4");
                let (bytes, len) = (noise(len, 8), len as u64);
                let crc = crc64(&bytes);
                assert!(store.put(&name, &mut Told::new(&bytes)).await.expect("put"));
                store
                    .verify(&name, len, crc)
                    .await
                    .expect("verified by its checksum");
                assert!(store.confirm(&name, len, crc).await.expect("confirmed"));
                let other = store.verify(&name, len, crc ^ 1).await;
                assert!(matches!(other, Err(StoreError::Wrong { .. })), "{other:?}");
                let archived = |read: Result<bytes::Bytes, StoreError>| {
                    assert!(matches!(read, Err(StoreError::Archived { .. })), "{read:?}");
                };
                let stat = store.stat(&name).await.expect("stat").expect("there");
                assert_eq!(stat.access, Access::Archived);
                archived(store.read(&name, 0..100).await);

                // It is in no hurry with what is older than this.
                tokio::time::sleep(RESTORE).await;
                store.restore(&name).await.expect("asked for");
                store.restore(&name).await.expect("asked for again");
                let stat = store.stat(&name).await.expect("stat").expect("there");
                assert_eq!(stat.access, Access::Restoring);
                archived(store.read(&name, 0..100).await);
                let Access::Restored { until } = is_restored(&store, &name).await else {
                    panic!("it is not restored");
                };
                let days = until.expect("a date").micros_since(SystemClock::default().wall()) / DAY_US;
                assert_eq!(days, 2, "three days, less the moment since");
                assert_eq!(
                    store.read(&name, 1000..3000).await.expect("read"),
                    bytes[1000..3000]
                );
                store.verify(&name, len, crc).await.expect("still the same");
                store.delete(&name).await.expect("deleted");
            }
            let missing = store.restore("nothing").await;
            assert!(matches!(missing, Err(StoreError::Missing { .. })), "{missing:?}");
            // What says whose store it is, and the like, is at hand always.
            store.put_bytes(class, b"at hand".to_vec()).await.expect("put");
            assert_eq!(store.read(class, 0..7).await.expect("read"), "at hand");
            store.restore(class).await.expect("needless, and no error");
        });
    }
}

#[test]
fn an_archive_class_without_checksums_of_the_whole_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("address");
    // A server that answers one question, and always the same.
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"x\"\r\nConnection: close\r\n\
                      Last-Modified: Fri, 21 Dec 2012 00:00:00 GMT\r\nx-amz-storage-class: GLACIER\r\n\r\n";
        stream.write_all(answer.as_bytes()).expect("sent");
    });
    let folder = tempfile::tempdir().expect("folder");
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "aws_access_key_id = a\naws_secret_access_key = b\n").expect("keys");
    let config = StoreConfig {
        endpoint: Some(format!("http://{address}").parse().expect("url")),
        allow_http: true,
        credentials_file: Some(keys),
        storage_class: Some("GLACIER".to_owned()),
        ..StoreConfig::at("s3://bucket".parse().expect("url"))
    };
    let store = Store::open(&config).expect("open");
    run(async {
        let error = store.verify("a", 5, 0).await.expect_err("it cannot be verified");
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("CRC-64"), "{error}");
    });
    server.join().expect("no panic");
}
