//! Nothing is put into a store, removed or believed that is not the archive's own, or not the one that it was.

#[path = "rig/content.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod content;
#[path = "rig/servers.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod servers;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use content::{Told, crc64, noise, run, server_store};
use servers::{Kind, Server};
use tierline_archive::layout::MARKER;
use tierline_archive::store::{Claim, Marker, Store, StoreConfig, StoreError};

const NAME: &str = "t/cam/main/20261120/23/05-09Z.1.1.mp4";

fn marker(text: &str, may_be_new: bool) -> Marker {
    Marker {
        text: text.to_owned(),
        may_be_new,
    }
}

fn folder_store(root: &Path) -> Store {
    let url = url::Url::from_directory_path(root).expect("url");
    Store::open(&StoreConfig::at(url)).expect("open")
}

/// Nothing that is asked of it is done, or answered as if it were.
async fn is_away(store: &Store, bytes: &[u8]) {
    let rest = || tokio::time::sleep(Duration::from_millis(1100));
    let name = "t/cam/main/20261120/23/15-09Z.2.1.mp4";
    let passing = |what: &str, e: StoreError| assert!(e.is_passing(), "{what}: {e}");
    passing(
        "put",
        store.put(name, &mut Told::new(bytes)).await.expect_err("put"),
    );
    // One that has just not answered is not asked: each call is to find it out by itself.
    rest().await;
    passing("put", store.put_bytes(name, vec![1]).await.expect_err("put"));
    rest().await;
    passing("stat", store.stat(NAME).await.expect_err("stat"));
    rest().await;
    let confirmed = store.confirm(NAME, bytes.len() as u64, crc64(bytes)).await;
    passing("confirm", confirmed.expect_err("confirm"));
    rest().await;
    passing("read", store.read(NAME, 0..10).await.expect_err("read"));
    rest().await;
    passing("delete", store.delete(NAME).await.expect_err("delete"));
    rest().await;
    passing("list", store.list("t", None, 9).await.expect_err("list"));
    rest().await;
}

#[test]
fn a_folder_that_is_gone_is_not_made_again_and_is_used_when_it_is_back() {
    let all = tempfile::tempdir().expect("folder");
    let (root, aside) = (all.path().join("store"), all.path().join("aside"));
    let store = folder_store(&root);
    run(async {
        let bytes = noise(9 << 20, 1);
        store.put(NAME, &mut Told::new(&bytes)).await.expect("put");
        std::fs::rename(&root, &aside).expect("moved");
        is_away(&store, &bytes).await;
        assert!(!root.exists(), "nobody made it again");
        std::fs::rename(&aside, &root).expect("moved");
        store
            .verify(NAME, bytes.len() as u64, crc64(&bytes))
            .await
            .expect("as it was");
        assert!(store.put("t/b.mp4", &mut Told::new(&bytes)).await.expect("put"));
    });
}

#[test]
fn another_folder_in_its_place_is_not_believed_and_one_that_says_that_it_is_the_same_is() {
    let all = tempfile::tempdir().expect("folder");
    let (root, aside) = (all.path().join("store"), all.path().join("aside"));
    let store = folder_store(&root).belonging_to(marker("archive warm\n", true));
    run(async {
        store.claim().await.expect("new");
        let bytes = noise(1 << 20, 1);
        store.put(NAME, &mut Told::new(&bytes)).await.expect("put");
        std::fs::rename(&root, &aside).expect("moved");
        std::fs::create_dir(&root).expect("another");
        is_away(&store, &bytes).await;
        let left = std::fs::read_dir(&root).expect("list").count();
        assert_eq!(left, 0, "nothing was put there, not even whose it is");
        // As when the disk was mounted anew.
        let copied = Command::new("cp")
            .arg("-r")
            .arg(aside.join("."))
            .arg(&root)
            .status();
        assert!(copied.expect("cp").success());
        store
            .verify(NAME, bytes.len() as u64, crc64(&bytes))
            .await
            .expect("the same");
        assert!(store.put("t/b.mp4", &mut Told::new(&bytes)).await.expect("put"));
    });
}

#[test]
fn a_disk_that_is_unmounted_leaves_nothing_on_the_one_below() {
    let all = tempfile::tempdir().expect("folder");
    let root = all.path().join("nas/store");
    let nas = all.path().join("nas");
    std::fs::create_dir(&nas).expect("folder");
    let mount = |what: &str, args: &[&str]| {
        let done = Command::new(what).args(args).arg(&nas).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "tierline-test", "-o", "size=32m"]) {
        println!("nothing can be mounted here");
        return;
    }
    let store = folder_store(&root);
    run(async {
        let bytes = noise(1 << 20, 1);
        store.put(NAME, &mut Told::new(&bytes)).await.expect("put");
        assert!(mount("umount", &[]));
        is_away(&store, &bytes).await;
        // Nor where somebody has left a folder of the same name below.
        std::fs::create_dir(&root).expect("folder");
        is_away(&store, &bytes).await;
        assert_eq!(std::fs::read_dir(&root).expect("list").count(), 0);
    });
}

#[test]
fn a_server_that_was_down_at_the_start_gets_nothing_before_it_was_seen_to_be_ours() {
    let folder = tempfile::tempdir().expect("folder");
    let mut server = Server::start(Kind::Minio, folder.path());
    let plain = || server_store(&server, folder.path());
    let (ours, other) = (plain(), plain());
    let store = plain().belonging_to(marker("archive warm\n", true));
    run(async {
        let bytes = noise(1000, 1);
        other
            .put_bytes(MARKER, b"somebody cold\n".to_vec())
            .await
            .expect("theirs");
        server.kill();
        let down = store.claim().await.expect_err("down");
        assert!(matches!(down, Claim::Store(_)), "{down}");
        server.restart();
        tokio::time::sleep(Duration::from_secs(16)).await;
        let foreign = store.claim().await.expect_err("foreign");
        assert!(matches!(foreign, Claim::Foreign(_)), "{foreign}");
        let refused = store.put(NAME, &mut Told::new(&bytes)).await.expect_err("put");
        assert!(
            refused.is_passing() && refused.to_string().contains("another archive"),
            "{refused}"
        );
        assert!(store.stat(NAME).await.is_err(), "nor is it believed");
        assert_eq!(
            ours.stat(NAME).await.expect("stat"),
            None,
            "nothing was put there"
        );

        ours.delete(MARKER).await.expect("mended");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        // Nobody claims it: who puts something does.
        assert!(store.put(NAME, &mut Told::new(&bytes)).await.expect("put"));
        assert_eq!(ours.read(MARKER, 0..13).await.expect("marker"), "archive warm\n");
        assert!(ours.stat(NAME).await.expect("stat").is_some());
    });
}
