//! Legal holds of a store's own, on a real server with a bucket that has object lock, and one that has none.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "rig/servers.rs"]
mod servers;

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "rig/proxy.rs"]
mod proxy;

use std::path::Path;
use std::process::Command;

use proxy::{Fault, Proxy};
use servers::{BUCKET, KEY, Kind, SECRET, Server, program};
use tierline_archive::store::{Store, StoreConfig, StoreError};

const LOCKED: &str = "locked";

/// The server's own client.
fn mc(server: &Server, folder: &Path, args: &[&str]) -> String {
    let host = server
        .endpoint()
        .replace("http://", &format!("http://{KEY}:{SECRET}@"));
    let output = Command::new(program("mc"))
        .arg("--config-dir")
        .arg(folder.join("mc"))
        .args(args)
        .env("MC_HOST_it", host)
        .output()
        .expect("mc");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "mc {args:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

fn store(server: &Server, folder: &Path, bucket: &str) -> Store {
    store_at(&server.endpoint(), folder, bucket)
}

fn store_at(endpoint: &str, folder: &Path, bucket: &str) -> Store {
    let credentials = folder.join("credentials");
    let text = format!("[default]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n");
    std::fs::write(&credentials, text).expect("credentials");
    let url = format!("s3://{bucket}/site-1").parse().expect("url");
    let config = StoreConfig {
        endpoint: Some(endpoint.parse().expect("url")),
        region: Some("us-east-1".into()),
        allow_http: true,
        credentials_file: Some(credentials),
        ..StoreConfig::at(url)
    };
    Store::open(&config).expect("open")
}

#[test]
fn a_held_object_cannot_be_deleted_and_one_that_is_released_leaves_no_version() {
    holds_bind(Kind::Minio);
}

#[test]
fn the_same_on_a_server_that_has_archive_classes_as_well() {
    holds_bind(Kind::Moto);
}

fn holds_bind(kind: Kind) {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(kind, folder.path());
    mc(
        &server,
        folder.path(),
        &["mb", "--with-lock", &format!("it/{LOCKED}")],
    );
    let store = store(&server, folder.path(), LOCKED);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        for name in ["a/held.mp4", "a/free.mp4"] {
            assert!(store.put_bytes(name, vec![7; 5000]).await.expect("put"));
        }
        assert!(store.legal_hold("a/held.mp4", true).await.expect("hold"));
        // Twice is once.
        assert!(store.legal_hold("a/held.mp4", true).await.expect("hold"));
        let refused = store.delete("a/held.mp4").await.expect_err("held");
        assert!(matches!(refused, StoreError::Held { .. }), "{refused}");
        assert_eq!(
            store.read("a/held.mp4", 0..5000).await.expect("read"),
            vec![7; 5000]
        );
        store.delete("a/free.mp4").await.expect("delete");
        assert!(store.legal_hold("a/held.mp4", false).await.expect("release"));
        store.delete("a/held.mp4").await.expect("delete");
        assert_eq!(store.stat("a/held.mp4").await.expect("stat"), None);
        let missing = store.legal_hold("a/none.mp4", true).await.expect_err("missing");
        // moto falls over what is not there, and says 500.
        let told = matches!(missing, StoreError::Missing { .. });
        assert!(told || kind == Kind::Moto, "{missing}");
    });
    // Not a version, and not a marker: nothing is left of either.
    let left = mc(
        &server,
        folder.path(),
        &["ls", "--recursive", "--versions", &format!("it/{LOCKED}")],
    );
    assert_eq!(left.trim(), "");
}

#[test]
fn what_somebody_has_hidden_behind_a_marker_is_deleted_with_it_or_stays_if_it_is_held() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    let mc = |args: &[&str]| mc(&server, folder.path(), args);
    mc(&["mb", "--with-lock", &format!("it/{LOCKED}")]);
    let store = store(&server, folder.path(), LOCKED);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    for name in ["a/held.mp4", "a/free.mp4"] {
        let put = store.put_bytes(name, vec![7; 5000]);
        assert!(runtime.block_on(put).expect("put"));
    }
    let locked = runtime.block_on(store.legal_hold("a/held.mp4", true));
    assert!(locked.expect("hold"));
    for name in ["a/held.mp4", "a/free.mp4"] {
        mc(&["rm", &format!("it/{LOCKED}/site-1/{name}")]);
    }
    let delete = |name: &str| runtime.block_on(store.delete(name));
    delete("a/free.mp4").expect("delete");
    let refused = delete("a/held.mp4").expect_err("held");
    assert!(matches!(refused, StoreError::Held { .. }), "{refused}");
    let left = mc(&["ls", "--recursive", "--versions", &format!("it/{LOCKED}")]);
    assert_eq!(left.lines().count(), 1, "the version that is held: {left}");

    // Of more versions than go at a time, all hidden, some stay, and go the next time.
    let (file, deep) = (
        folder.path().join("a.mp4"),
        format!("it/{LOCKED}/site-1/a/deep.mp4"),
    );
    std::fs::write(&file, [7; 100]).expect("a file");
    for _ in 0..33 {
        mc(&["cp", file.to_str().expect("a path"), &deep]);
    }
    mc(&["rm", &deep]);
    let left = || mc(&["ls", "--versions", &deep]);
    delete("a/deep.mp4").expect_err("not gone yet");
    assert_ne!(left().trim(), "");
    delete("a/deep.mp4").expect("delete");
    assert_eq!(left().trim(), "");

    // A hold on what is hidden is not one of a bucket that knows none.
    mc(&["rm", &format!("it/{LOCKED}/site-1/a/held.mp4")]);
    let hidden = runtime.block_on(store.legal_hold("a/held.mp4", true));
    let hidden = hidden.expect_err("hidden");
    assert!(matches!(hidden, StoreError::Missing { .. }), "{hidden}");
}

#[test]
fn a_store_without_object_lock_says_so_and_deletes_as_ever() {
    let folder = tempfile::tempdir().expect("folder");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    for kind in [Kind::Minio, Kind::Versity] {
        let server = Server::start(kind, folder.path());
        let store = store(&server, folder.path(), BUCKET);
        runtime.block_on(async {
            assert!(store.put_bytes("a.mp4", vec![7; 5000]).await.expect("put"));
            assert!(
                !store.legal_hold("a.mp4", true).await.expect("no lock"),
                "{kind:?}"
            );
            store.delete("a.mp4").await.expect("delete");
            assert_eq!(store.stat("a.mp4").await.expect("stat"), None, "{kind:?}");
        });
    }
    let url = url::Url::from_directory_path(folder.path().join("store")).expect("url");
    let local = Store::open(&StoreConfig::at(url)).expect("open");
    let held = runtime.block_on(local.legal_hold("a.mp4", true));
    assert!(!held.expect("no lock"));
}

#[test]
fn a_server_that_is_busy_when_it_is_asked_for_versions_has_not_said_that_it_keeps_none() {
    let folder = tempfile::tempdir().expect("folder");
    let server = Server::start(Kind::Minio, folder.path());
    mc(
        &server,
        folder.path(),
        &["mb", "--with-lock", &format!("it/{LOCKED}")],
    );
    let proxy = Proxy::start(server.address());
    let (store, truth) = (
        store_at(&proxy.endpoint(), folder.path(), LOCKED),
        store(&server, folder.path(), LOCKED),
    );
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        truth.put_bytes("a.mp4", vec![7; 5000]).await.expect("put");
        proxy.set(Some(Fault::SlowDown(100)));
        let busy = store.delete("a.mp4").await.expect_err("busy");
        assert!(busy.is_passing(), "{busy}");
        proxy.set(None);
        // A store that did not answer is left alone for a moment.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        store.delete("a.mp4").await.expect("delete");
    });
    let left = mc(
        &server,
        folder.path(),
        &["ls", "--recursive", "--versions", &format!("it/{LOCKED}")],
    );
    assert_eq!(left.trim(), "", "not a version, and not a marker");
}
