//! A certificate as a line of text: `{"certificate":{…},"key":"…","signature":"…"}`.
//!
//! What is signed is what stands between `"certificate":` and `,"key":`, as it stands there. The end of the line has
//! always the same length, so that whoever verifies need not know how JSON is written.

use archive::Sha256;
use archive::site_key::{SiteKey, is_signed};

use super::{Certificate, bad};
use crate::error::IndexError;

const HEAD: &str = "{\"certificate\":";
pub(super) const KEY: &str = ",\"key\":\"";
const SIGNATURE: &str = "\",\"signature\":\"";
const TAIL: &str = "\"}";
pub(super) const KEY_DIGITS: usize = 64;
const SIGNATURE_DIGITS: usize = 128;

/// The signed line of a certificate.
pub(super) fn sign(certificate: &Certificate, key: &SiteKey) -> Result<String, IndexError> {
    let body = serde_json::to_string(certificate).map_err(|e| bad(&e.to_string()))?;
    Ok(seal(&body, key))
}

/// The line of what is signed.
pub(super) fn seal(body: &str, key: &SiteKey) -> String {
    let (public, signature) = (key.public(), key.sign(body.as_bytes()));
    format!("{HEAD}{body}{KEY}{public}{SIGNATURE}{signature}{TAIL}")
}

/// The hash by which the next certificate names this one.
pub(super) fn hash(line: &str) -> Sha256 {
    Sha256::of(line.as_bytes())
}

/// Reads a line whose signature holds, and says by which key. The reader has to know whether that is the site's.
pub fn parse(line: &str) -> Result<(Certificate, String), String> {
    let no = || "it is not a signed certificate".to_owned();
    let rest = line.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL));
    let (rest, signature) = split_end(rest.ok_or_else(no)?, SIGNATURE_DIGITS).ok_or_else(no)?;
    let rest = rest.strip_suffix(SIGNATURE).ok_or_else(no)?;
    let (rest, key) = split_end(rest, KEY_DIGITS).ok_or_else(no)?;
    let body = rest.strip_suffix(KEY).ok_or_else(no)?;
    if !is_signed(key, body.as_bytes(), signature) {
        return Err("its signature does not hold".to_owned());
    }
    let certificate: Certificate = serde_json::from_str(body).map_err(|e| e.to_string())?;
    if !certificate.is_possible() {
        return Err("it tells of what cannot be".to_owned());
    }
    Ok((certificate, key.to_owned()))
}

fn split_end(text: &str, digits: usize) -> Option<(&str, &str)> {
    text.split_at_checked(text.len().checked_sub(digits)?)
}
