//! Outlines under fuzzing: any bytes, bytes whose hash fits, and a real one with damage done to it.

use std::cell::OnceCell;
use std::path::Path;

use bytes::Bytes;

use super::{HASH_BYTES, MAGIC, Outline, PREFIX_BYTES};
use crate::fuzzing::Input;
use crate::id::Sha256;
use crate::segment::fuzzing::sealed_sample;
use crate::segment::source::Source;
use crate::segment::{Footer, SegmentReader};

/// What is taken gives out the bytes of its head and its end, and no others; a footer out of it is the one that was
/// written.
pub fn outline(data: &[u8]) {
    let mut input = Input(data);
    let bytes = match input.u8() % 4 {
        0 => input.rest().to_vec(),
        1 => with_hash(input.rest().to_vec()),
        2 => {
            let mut content = MAGIC.to_vec();
            let (len, head) = (input.skewed(), input.u16());
            let rest = input.rest();
            let head = usize::from(head).min(rest.len());
            content.extend_from_slice(&len.to_be_bytes());
            content.extend_from_slice(&(head as u32).to_be_bytes());
            content.extend_from_slice(&((rest.len() - head) as u32).to_be_bytes());
            content.extend_from_slice(rest);
            with_hash(content)
        }
        _ => return of_a_segment(&mut input),
    };
    let Some(outline) = parsed(&bytes) else { return };
    check(&outline, &bytes);
    let reader = reader(outline);
    let _ = (reader.head(), reader.verify_head(), reader.footer());
    let _ = (reader.contents(), crate::segment::verify(&reader));
}

fn with_hash(mut content: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::of(&content);
    content.extend_from_slice(&hash.0);
    content
}

fn parsed(bytes: &[u8]) -> Option<Outline> {
    Outline::parse(Path::new("fuzz"), &Bytes::copy_from_slice(bytes)).ok()
}

fn reader(outline: Outline) -> SegmentReader {
    SegmentReader {
        file: Source::Outline(outline),
        pace: None,
    }
}

/// Each byte of the file that is here is the one that stands in the outline.
fn check(outline: &Outline, bytes: &[u8]) {
    let content = bytes
        .get(PREFIX_BYTES..bytes.len() - HASH_BYTES)
        .expect("is there");
    let head = outline.head_len() as usize;
    let (head, end) = content.split_at_checked(head).expect("is there");
    let (len, begin) = (outline.len(), outline.len() - end.len() as u64);
    assert!(head.len() as u64 <= begin);
    let read = |offset, len| outline.read(offset, len).ok();
    assert_eq!(read(0, head.len()).as_deref(), Some(head));
    assert_eq!(read(begin, end.len()).as_deref(), Some(end));
    let gap = begin - head.len() as u64;
    if gap > 0 {
        assert_eq!(
            read(head.len() as u64, 1),
            None,
            "bytes of fragments were given out"
        );
        assert_eq!(read(0, head.len() + 1), None);
        assert_eq!(read(begin - 1, 1), None);
    }
    assert_eq!(read(len, 1), None);
    assert_eq!(read(u64::MAX, 1), None);
    assert_eq!(read(begin, usize::MAX), None);
}

fn of_a_segment(input: &mut Input<'_>) {
    thread_local! {
        static WRITTEN: OnceCell<(Vec<u8>, Footer)> = const { OnceCell::new() };
    }
    WRITTEN.with(|written| {
        let (whole, footer) = written.get_or_init(|| {
            sealed_sample(|reader| {
                let footer = reader.footer().expect("whole").expect("sealed");
                (reader.outline().expect("an outline"), footer)
            })
        });
        let mut bytes = whole.clone();
        let refit = input.u8() & 1 == 1;
        while !input.is_empty() {
            let at = usize::from(input.u16()) % bytes.len();
            let with = input.piece(16);
            (bytes.iter_mut().skip(at).zip(with)).for_each(|(to, from)| *to = *from);
        }
        if refit {
            bytes.truncate(bytes.len() - HASH_BYTES);
            bytes = with_hash(bytes);
        }
        let Some(outline) = parsed(&bytes) else {
            assert_ne!(&bytes, whole, "an undamaged outline was refused");
            return;
        };
        assert!(refit || &bytes == whole, "a damaged outline was taken");
        check(&outline, &bytes);
        let reader = reader(outline);
        match reader.footer() {
            Ok(Some(read)) => assert_eq!(&read, footer, "a damaged footer was taken"),
            Ok(None) | Err(_) => assert_ne!(&bytes, whole, "an undamaged outline has no footer"),
        }
        let _ = (reader.head(), reader.verify_head());
        for row in &footer.fragments {
            assert!(reader.samples(&row.entry).is_err(), "an outline has no samples");
        }
    });
}
