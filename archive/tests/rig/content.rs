//! What is put into the stores of tests, and how stores are opened.

use std::future::Future;
use std::path::Path;

use object_store::PutPayload;
use tierline_archive::store::{Content, Crc64, PART_BYTES, Store, StoreConfig, StoreError};

use crate::servers::{BUCKET, KEY, SECRET, Server};

/// Bytes that are told part by part.
pub(crate) struct Told {
    bytes: Vec<u8>,
    pub(crate) at: usize,
}

impl Told {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            at: 0,
        }
    }
}

impl Content for Told {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn next(&mut self) -> Result<Option<PutPayload>, StoreError> {
        let end = (self.at + PART_BYTES).min(self.bytes.len());
        let part = self.bytes[self.at..end].to_vec();
        self.at = end;
        Ok((!part.is_empty()).then(|| part.into()))
    }
}

pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    let mut crc = Crc64::new();
    crc.update(bytes);
    crc.finish()
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(test);
}

pub(crate) fn server_store(server: &Server, folder: &Path) -> Store {
    store_at(&server.endpoint(), folder, None)
}

pub(crate) fn store_of_class(server: &Server, folder: &Path, class: Option<&str>) -> Store {
    store_at(&server.endpoint(), folder, class)
}

pub(crate) fn store_at(endpoint: &str, folder: &Path, class: Option<&str>) -> Store {
    let keys = folder.join("keys");
    let text = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(&keys, text).expect("keys");
    let config = StoreConfig {
        endpoint: Some(endpoint.parse().expect("url")),
        allow_http: true,
        credentials_file: Some(keys),
        storage_class: class.map(str::to_owned),
        ..StoreConfig::at(format!("s3://{BUCKET}/some/prefix").parse().expect("url"))
    };
    assert_eq!(config.problem(), None);
    Store::open(&config).expect("open")
}
