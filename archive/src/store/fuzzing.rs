//! What servers answer, under fuzzing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use object_store::{Extensions, HeaderMap, HeaderValue};

use super::error::StoreError;
use super::raw::{Answer, error_code};
use super::restore::{Access, ArchiveClass, CLASS, RESTORE};
use super::s3::{CHECKSUM, CHECKSUM_TYPE, access, credentials, whole_crc64};
use crate::fuzzing::Input;
use crate::time::WallTime;

/// Headers, codes of errors and key files: whatever a server says, what we make of it is bounded and of the kinds that
/// are known.
pub fn answers(data: &[u8]) {
    let mut input = Input(data);
    match input.u8() % 4 {
        0 => restores(&mut input),
        1 => errors(&mut input),
        2 => checksums(&mut input),
        _ => keys(&mut input),
    }
}

fn headers(pairs: &[(&'static str, Option<&[u8]>)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
            headers.insert(*name, value);
        }
    }
    headers
}

fn restores(input: &mut Input<'_>) {
    let class: &[u8] = match input.u8() % 4 {
        0 => b"GLACIER",
        1 => b"DEEP_ARCHIVE",
        2 => b"STANDARD",
        _ => input.piece(40),
    };
    let told: Vec<u8> = match input.u8() % 4 {
        0 => input.rest().to_vec(),
        1 => [b"ongoing-request=\"true\"", input.rest()].concat(),
        2 => [b"ongoing-request=\"false\", expiry-date=\"", input.rest()].concat(),
        _ => [b"ongoing-request=\"false\", expiry-date=\"", input.rest(), b"\""].concat(),
    };
    let headers = headers(&[(CLASS, Some(class)), (RESTORE, Some(&told))]);
    let archives = headers
        .get(CLASS)
        .and_then(|class| ArchiveClass::of(class.to_str().ok()?))
        .is_some();
    let found = Access::of(&headers);
    assert_eq!(
        archives,
        found != Access::AtOnce,
        "only archive classes are restored from"
    );
    if let Access::Restored { until } = found {
        assert!(found.is_readable());
        assert!(until.is_none_or(|until| (WallTime::MIN..=WallTime::MAX).contains(&until)));
    }
    let mut answer = Extensions::new();
    answer.insert(headers);
    assert_eq!(access(&answer), found);
}

fn errors(input: &mut Input<'_>) {
    let status = match input.u8() % 8 {
        0 => 404,
        1 => 403,
        2 => 503,
        3 => 409,
        _ => input.u16(),
    };
    let body = match input.u8() % 2 {
        0 => input.rest().to_vec(),
        _ => [b"<Error><Code>", input.rest(), b"</Code></Error>"].concat(),
    };
    let code = error_code(&body).map(str::to_owned);
    if let Some(code) = &code {
        assert!((1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric()));
        let written = format!("<Code>{code}<");
        assert!(body.windows(written.len()).any(|part| part == written.as_bytes()));
    }
    let answer = Answer {
        version: None,
        is_marker: false,
        status,
        body: Bytes::from(body),
    };
    let error = answer.into_error("restore a".to_owned(), "a");
    assert!(
        error.to_string().len() < 120,
        "a server's words are told: {error}"
    );
    let passes = matches!(status, 408 | 429 | 500..);
    assert_eq!(error.is_passing(), passes, "{status}");
    assert_eq!(matches!(error, StoreError::Missing { .. }), status == 404);
}

fn checksums(input: &mut Input<'_>) {
    let kind = match input.u8() % 3 {
        0 => None,
        1 => Some(&b"FULL_OBJECT"[..]),
        _ => Some(input.piece(20)),
    };
    let number = input.u64();
    let told = match input.u8() % 3 {
        0 => STANDARD.encode(number.to_be_bytes()).into_bytes(),
        1 => [STANDARD.encode(number.to_be_bytes()).as_bytes(), input.rest()].concat(),
        _ => input.rest().to_vec(),
    };
    let all = headers(&[(CHECKSUM, Some(&told)), (CHECKSUM_TYPE, kind)]);
    let is_whole = all
        .get(CHECKSUM_TYPE)
        .is_none_or(|kind| kind.to_str().map_or(true, |kind| kind == "FULL_OBJECT"));
    let mut answer = Extensions::new();
    answer.insert(all);
    let found = whole_crc64(&answer);
    if let Some(found) = found {
        assert!(is_whole, "a checksum of parts was taken for one of the whole");
        assert_eq!(STANDARD.encode(found.to_be_bytes()).as_bytes(), told);
    }
    assert_eq!(whole_crc64(&Extensions::new()), None);
}

fn keys(input: &mut Input<'_>) {
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        return;
    };
    if let Some((id, secret)) = credentials(text) {
        assert!(!id.contains('\n') && !secret.contains('\n'));
        let written = format!("aws_access_key_id={id}\naws_secret_access_key={secret}\n");
        assert_eq!(credentials(&written), Some((id, secret)));
    }
}
