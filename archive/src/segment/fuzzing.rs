//! Our boxes under fuzzing, and whole segments with damage done to them.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use super::footer::{Contents, FOOTER_VERSION, FooterRows, SampleTables};
use super::frame::Frame;
use super::{
    CheckedReader, Closing, Footer, FragmentBuilder, Scan, SegmentHeader, SegmentReader, SegmentWriter, scan,
    uuid, verify,
};
use crate::buffer::Pool;
use crate::codec::{Decoder, Encoder};
use crate::disk::Disk;
use crate::fuzzing::{Input, video_track};
use crate::id::{Epoch, Sha256, StreamId};
use crate::layout::segment_path;
use crate::mp4::{BoxWriter, InitSegment};
use crate::time::WallTime;

pub use super::origin::fuzzing::origin;
pub use super::outline::fuzzing::outline;
pub use super::thin::fuzzing::{carried, thinned};

/// The beginning of a segment's file: what is taken stands in a file that begins with the same.
pub fn header(data: &[u8]) {
    let mut input = Input(data);
    if input.u8() & 1 == 0 {
        let mut d = Decoder(input.rest());
        if let Ok(header) = SegmentHeader::decode(&mut d) {
            let mut e = Encoder::default();
            header.encode(&mut e);
            assert_eq!(SegmentHeader::decode(&mut Decoder(&e.0)), Ok(header));
        }
        return;
    }
    if let Ok((header, init, at, hash)) = SegmentHeader::parse_file_head(input.rest()) {
        assert_eq!(at % crate::fragment::BLOCK_BYTES as u64, 0);
        let (bytes, written) = header.file_head(&init);
        let (again, init_again, at_again, hash_again) =
            SegmentHeader::parse_file_head(&bytes).expect("what was written reads back");
        assert_eq!((again, init_again, hash_again), (header, init, written));
        assert_eq!(at_again, bytes.len() as u64);
        // A header with bytes behind its end is another header, though it says the same.
        let _ = hash;
    }
}

/// The box before a fragment. The leaf is made to fit, so that what is behind it is reached.
pub fn frame(data: &[u8]) {
    let mut input = Input(data);
    let offset = input.skewed() & !4095;
    if input.u8() & 1 == 0 {
        let _ = Frame::parse(input.rest(), offset);
        return;
    }
    let content = input.piece(1024);
    let moof = input.rest();
    let len = uuid::PREFIX_BYTES + content.len() + 32;
    let mut e = Encoder::default();
    e.u32(len as u32);
    e.bytes(b"uuid");
    e.bytes(&uuid::FRAGMENT);
    e.bytes(content);
    let moof_len = Decoder(moof).u32().unwrap_or(0) as usize;
    let mut hashed = e.0.get(8..).unwrap_or_default().to_vec();
    hashed.extend_from_slice(moof.get(..moof_len.saturating_add(8)).unwrap_or_default());
    e.hash(&Sha256::of(&hashed));
    e.bytes(moof);
    let Ok((frame, box_len, leaf)) = Frame::parse(&e.0, offset) else {
        return;
    };
    assert_eq!(box_len, len);
    assert_eq!(frame.entry.offset, offset);
    assert_eq!(frame.entry.len as usize, len + frame.body_len as usize);
    // Written anew it is the same, padding apart; and it names the same bytes before the samples.
    let before_samples = moof.get(..moof_len + 8).expect("the leaf was checked over it");
    let (mut bytes, leaf_again) = frame.boxed(len.max(frame.len_min()), before_samples);
    bytes.extend_from_slice(before_samples);
    let (again, _, read_leaf) = Frame::parse(&bytes, offset).expect("what was written reads back");
    assert_eq!(read_leaf, leaf_again);
    assert_eq!(again.entry.notes, frame.entry.notes);
    assert_eq!(
        (again.data, again.prev, again.index),
        (frame.data, frame.prev, frame.index)
    );
    if bytes.get(..len - 32) == e.0.get(..len - 32) {
        assert_eq!(leaf_again, leaf);
        assert_eq!(again, frame);
    }
}

/// Footer and sample tables: what is taken can be written again and says the same.
pub fn footer(data: &[u8]) {
    let mut input = Input(data);
    // Most footers have a good header, so that their rows are reached.
    let good = input.u8() & 1 == 1;
    let samples = boxed(&uuid::SAMPLES, input.piece(4096));
    let mut content = Encoder::default();
    if good {
        content.u8(FOOTER_VERSION);
        content.u32(samples.len() as u32);
        content.hash(&Sha256::of(&samples));
        some_header(Sha256::default()).encode(&mut content);
    }
    content.bytes(input.rest());
    let bytes = boxed(&uuid::FOOTER, &content.0);
    let Ok((mut read, tables)) = Footer::parse(&bytes) else {
        return;
    };
    assert_eq!(SampleTables::of_footer(&bytes), Ok(tables));
    let contents = Contents::parse(&bytes).expect("the footer was read");
    assert_eq!(contents, (Contents::from(read.clone()), tables));
    assert!(!good || tables.are(&samples));
    let _ = read.end();
    if read.take_samples(&samples).is_err() {
        return;
    }
    let mut rows = FooterRows::default();
    read.fragments.iter().for_each(|f| rows.push(f));
    let written = rows.boxed(&read.header, read.head, read.wall_end, read.origin.as_ref());
    assert!(
        written.footer.len() <= bytes.len() && written.samples.len() <= samples.len(),
        "a footer grows when it is written again"
    );
    let (mut again, tables) = Footer::parse(&written.footer).expect("what was written reads back");
    assert!(tables.are(&written.samples));
    assert_eq!(again.take_samples(&written.samples), Ok(()));
    assert_eq!(again, read);
}

fn boxed(kind: &[u8; 16], content: &[u8]) -> Vec<u8> {
    let mut w = BoxWriter::default();
    w.boxed(b"uuid", |w| {
        w.bytes(kind);
        w.bytes(content);
    });
    w.0
}

/// A segment of a few fragments with damage done to it: whatever is still read from it as good is what was
/// written.
pub fn segment(data: &[u8]) {
    thread_local! {
        static SAMPLES: RefCell<[Sample; 2]> = RefCell::new([Sample::new(true), Sample::new(false)]);
    }
    let mut input = Input(data);
    let open = usize::from(input.u8() & 1);
    SAMPLES.with_borrow_mut(|samples| samples.get_mut(open).expect("two").with_damage(&mut input));
}

/// How the fragment number `n` of five pictures ends.
pub(super) fn closing(n: u8) -> Closing {
    Closing {
        wall_start: WallTime::from_micros(1_700_000_000_000_000 + i64::from(n) * 166_667),
        wall_duration_us: 166_667,
        media_end: Some(i64::from(n + 1) * 15_000),
        typical_duration: 3000,
        run_start: n == 0,
        activity: n,
        notes: Vec::new(),
        clock_offset_us: Some(-5),
        audio_duration: 0,
    }
}

/// A segment, its bytes, and what they say.
struct Sample {
    file: File,
    /// Taken while a checked reader has it.
    reader: Option<SegmentReader>,
    bytes: Vec<u8>,
    scan: Scan,
    footer: Option<Footer>,
}

impl Sample {
    fn new(sealed: bool) -> Self {
        let dir = temporary_folder();
        let disk = Disk::open(&dir).expect("a folder");
        let init = InitSegment::build(vec![video_track(640, 360)]);
        let header = some_header(init.hash);
        let path = segment_path(&header.stream, &header.name());
        let pool = Pool::new(1 << 20);
        let mut writer = SegmentWriter::create(&disk, &pool, header, &init, 1 << 20).expect("a segment");
        for n in 0..3 {
            let mut builder = FragmentBuilder::new(&pool, None);
            for picture in 0..5u8 {
                let bytes = vec![picture * 7 + n; 300 + 100 * usize::from(picture)];
                builder.push_video(
                    i64::from(n) * 15_000 + i64::from(picture) * 3000,
                    picture == 0,
                    &bytes,
                );
            }
            let closing = closing(n);
            let mut fragments = [builder.close(&pool, closing)];
            writer.append(&mut fragments).expect("written");
        }
        writer.sync().expect("synced");
        if sealed {
            writer.seal(&pool).expect("sealed");
        }
        let reader = SegmentReader::open(&disk, &path).expect("opens");
        let file = OpenOptions::new().read(true).write(true).open(disk.path(&path));
        let file = file.expect("opens");
        let mut bytes = fs::read(disk.path(&path)).expect("reads");
        if !sealed {
            // The space that is set aside behind an open segment is zeros.
            bytes.truncate(64 << 10);
            file.set_len(bytes.len() as u64).expect("truncated");
        }
        fs::remove_dir_all(&dir).expect("removed");
        let scan = scan(&reader, 0).expect("whole");
        let footer = reader.footer().expect("whole");
        assert_eq!((scan.fragments.len(), footer.is_some()), (3, sealed));
        Self {
            file,
            reader: Some(reader),
            bytes,
            scan,
            footer,
        }
    }

    fn with_damage(&mut self, input: &mut Input<'_>) {
        let len = self.bytes.len();
        let part = input.u16() as usize * 8 % len;
        let part = part..(part + input.u16() as usize).min(len);
        let mut damaged = self.bytes.clone();
        let cut = input.u8();
        while !input.is_empty() {
            let at = input.u16() as usize * 8 % len + usize::from(input.u8() % 8);
            let with = input.piece(16);
            damaged
                .iter_mut()
                .skip(at)
                .zip(with)
                .for_each(|(to, from)| *to = *from);
        }
        if cut & 0x80 != 0 {
            damaged.truncate(len * usize::from(cut & 0x7f) / 128);
        }
        self.file.write_all_at(&damaged, 0).expect("written");
        self.file.set_len(damaged.len() as u64).expect("truncated");
        self.check(damaged == self.bytes);
        self.check_reads(damaged == self.bytes, part);
    }

    /// What readers are given is what was written, or nothing.
    fn check_reads(&mut self, whole: bool, part: std::ops::Range<usize>) {
        let entries = self.scan.fragments.iter().map(|f| f.row.entry.clone());
        let mut checked = CheckedReader::new(self.reader.take().expect("is there"), entries.collect());
        let valid = match &self.footer {
            Some(_) => self.bytes.len(),
            None => self.scan.valid_len as usize,
        };
        for range in [part.clone(), 0..valid, part] {
            let range = range.start.min(valid)..range.end.min(valid);
            match checked.read(range.start as u64..range.end as u64) {
                Ok(pieces) => {
                    let read = pieces.concat();
                    let written = self.bytes.get(range.clone()).expect("is there");
                    let differs = read.iter().zip(written).position(|(a, b)| a != b);
                    assert_eq!(differs, None, "damaged bytes of {range:?} were given out");
                    assert_eq!(read.len(), written.len());
                }
                Err(_) => assert!(!whole, "undamaged bytes were refused"),
            }
        }
        self.reader = Some(checked.into_unchecked());
    }

    fn check(&self, whole: bool) {
        let reader = self.reader.as_ref().expect("is there");
        let footer = reader.footer();
        if let Ok(Some(footer)) = &footer {
            assert_eq!(Some(footer), self.footer.as_ref(), "a damaged footer was taken");
        }
        let Ok(found) = scan(reader, 0) else {
            assert!(!whole && verify(reader).is_err());
            return;
        };
        for (found, written) in found.fragments.iter().zip(&self.scan.fragments) {
            assert_eq!(found.row, written.row, "a damaged fragment was taken");
            let samples = reader.samples(&found.row.entry).expect("was scanned");
            assert_eq!(samples, written.row.tracks);
        }
        if !found.fragments.is_empty() {
            assert_eq!(found.header, self.scan.header, "a damaged header was taken");
            assert_eq!(found.init, self.scan.init, "a damaged init segment was taken");
        }
        assert!(found.fragments.len() <= self.scan.fragments.len());
        match verify(reader) {
            Ok(verified) if verified.sealed => {
                assert_eq!(verified.fragments, 3);
                assert!(self.footer.is_some());
            }
            Ok(verified) => assert_eq!(verified.fragments, found.fragments.len()),
            Err(_) => assert!(!whole, "an undamaged segment was refused"),
        }
        // Boxes alone, as a start after a crash reads what was acknowledged.
        let trusted = scan(reader, u64::MAX).map(|s| s.fragments).unwrap_or_default();
        for (found, written) in trusted.iter().zip(&self.scan.fragments) {
            assert_eq!(found.row, written.row, "a damaged box was taken");
        }
    }
}

/// A new folder.
pub(super) fn temporary_folder() -> std::path::PathBuf {
    let mut random = [0; 8];
    let urandom = File::open("/dev/urandom").and_then(|f| f.read_exact_at(&mut random, 0));
    urandom.expect("random bytes");
    std::env::temp_dir().join(format!("tierline-fuzz-{}", Sha256::of(&random)))
}

/// What `read` makes of a sealed segment.
pub(super) fn sealed_sample<T>(read: impl FnOnce(&SegmentReader) -> T) -> T {
    read(Sample::new(true).reader.as_ref().expect("is there"))
}

pub(super) fn some_header(init: Sha256) -> SegmentHeader {
    let id = "fuzz";
    SegmentHeader {
        stream: StreamId {
            tenant: Default::default(),
            camera: id.parse().expect("an id"),
            stream: id.parse().expect("an id"),
        },
        seq: 7,
        epoch: Epoch(2),
        wall_start: WallTime::from_micros(1_700_000_000_000_000),
        prev: Sha256::of(b"the segment before"),
        init,
        generation: 0,
    }
}
