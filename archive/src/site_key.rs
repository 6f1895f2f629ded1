//! The key with which a site signs what it certifies: Ed25519, in a file that nobody else may read.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::random::random;

/// A site's key. Shown without its secret.
#[derive(Clone)]
pub struct SiteKey(SigningKey);

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteKey({})", self.public())
    }
}

impl SiteKey {
    /// The key of these 32 bytes.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&secret))
    }

    /// Reads the key in `file`, or makes a new one where there is none. Beside it, in a file that ends in `.pub`, stands
    /// what others need to verify signatures. A key that others can read is refused.
    pub fn open(file: &Path) -> io::Result<Self> {
        let key = match fs::read_to_string(file) {
            Ok(text) => {
                if fs::metadata(file)?.mode() & 0o077 != 0 {
                    return Err(invalid("others may read it: run chmod 600 on it"));
                }
                let secret = hex::<32>(text.trim()).ok_or_else(|| invalid("it does not hold a key"))?;
                Self::from_secret(secret)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let secret = random()?;
                write(file, &to_hex(&secret), 0o600)?;
                Self::from_secret(secret)
            }
            Err(e) => return Err(e),
        };
        let public = file.with_added_extension("pub");
        if fs::read_to_string(&public).ok().as_deref().map(str::trim) != Some(&*key.public()) {
            write(&public, &key.public(), 0o644)?;
        }
        Ok(key)
    }

    /// The public key, in hexadecimal.
    pub fn public(&self) -> String {
        to_hex(self.0.verifying_key().as_bytes())
    }

    /// The signature of `bytes`, in hexadecimal.
    pub fn sign(&self, bytes: &[u8]) -> String {
        to_hex(&self.0.sign(bytes).to_bytes())
    }
}

/// Whether `signature` is that of `bytes` by the holder of `public`, both in hexadecimal as [`SiteKey`] writes it: of one
/// signature there is one text.
pub fn is_signed(public: &str, bytes: &[u8], signature: &str) -> bool {
    #[cfg(fuzzing)]
    return known(public, bytes, signature);
    #[cfg(not(fuzzing))]
    verify(public, bytes, signature)
}

fn verify(public: &str, bytes: &[u8], signature: &str) -> bool {
    if [public, signature]
        .concat()
        .bytes()
        .any(|b| b.is_ascii_uppercase())
    {
        return false;
    }
    let key = hex::<32>(public).and_then(|key| VerifyingKey::from_bytes(&key).ok());
    let signature = hex::<64>(signature).map(|s| Signature::from_bytes(&s));
    let both = key.zip(signature);
    both.is_some_and(|(key, signature)| key.verify_strict(bytes, &signature).is_ok())
}

/// What [`verify`] says, asked once for each signature: chains under fuzzing are the same few lines over and over, and
/// verifying them was most of the time.
#[cfg(fuzzing)]
fn known(public: &str, bytes: &[u8], signature: &str) -> bool {
    use std::cell::RefCell;
    use std::collections::HashMap;

    const KNOWN_MAX: usize = 20_000;
    thread_local! {
        static KNOWN: RefCell<HashMap<crate::Sha256, bool>> = RefCell::default();
    }
    // Two texts of other lengths are two keys.
    let what = format!("{} {} {public}{signature}", public.len(), signature.len());
    let what = crate::Sha256::of(&[what.as_bytes(), bytes].concat());
    KNOWN.with_borrow_mut(|known| {
        if known.len() == KNOWN_MAX {
            known.clear();
        }
        *known
            .entry(what)
            .or_insert_with(|| verify(public, bytes, signature))
    })
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// Writes a file whole or not at all; durable when this returns.
fn write(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let aside = file.with_added_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut new = options.open(&aside)?;
    writeln!(new, "{text}")?;
    new.sync_all()?;
    fs::rename(&aside, file)?;
    file.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_its_signatures_hold_for_what_was_signed_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("site-key");
        let key = SiteKey::open(&file).expect("a new key");
        let again = SiteKey::open(&file).expect("the same");
        assert_eq!(key.public(), again.public());
        let public = fs::read_to_string(folder.path().join("site-key.pub")).expect("public key");
        assert_eq!(public.trim(), key.public());
        let signature = key.sign(b"deleted");
        assert!(is_signed(&key.public(), b"deleted", &signature));
        assert!(!is_signed(&key.public(), b"delete", &signature));
        assert!(!is_signed(&key.public(), b"deleted", &signature.to_uppercase()));
        assert!(!is_signed(&key.public().to_uppercase(), b"deleted", &signature));
        let other = SiteKey::from_secret([7; 32]);
        assert!(!is_signed(&other.public(), b"deleted", &signature));
        for bad in ["", "zz", &"0".repeat(128), &"é".repeat(64)] {
            assert!(!is_signed(&key.public(), b"deleted", bad));
            assert!(!is_signed(bad, b"deleted", &signature));
        }
        assert!(!format!("{key:?}").contains(fs::read_to_string(&file).expect("key").trim()));
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("site-key");
        SiteKey::open(&file).expect("a new key");
        assert_eq!(fs::metadata(&file).expect("file").mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(
            SiteKey::open(&file)
                .expect_err("open")
                .to_string()
                .contains("chmod 600")
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&file, "no key").expect("write");
        assert!(SiteKey::open(&file).is_err());
    }
}
