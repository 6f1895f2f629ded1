//! Thinned segments under fuzzing: the signatures that they carry, and whole files with damage done to them.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::carried::{self, CarriedUnit, boxed};
use super::sei::{Coding, SIGNING};
use super::{Thinning, thin};
use crate::buffer::Pool;
use crate::disk::Disk;
use crate::fragment::FragmentEntry;
use crate::fuzzing::{Input, video_track};
use crate::layout::segment_path;
use crate::mp4::InitSegment;
use crate::segment::fuzzing::{closing, some_header, temporary_folder};
use crate::segment::{CheckedReader, Footer, FragmentBuilder, Keep, SegmentReader, SegmentWriter, verify};
use crate::time::WallTime;

/// Signatures in samples, and the box that carries them: what is found is whole units of the sample, and what is read
/// says the same when it is written again.
pub fn carried(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8();
    let coding = if kind & 2 == 0 { Coding::H264 } else { Coding::H265 };
    if kind & 1 == 0 {
        let bytes = input.rest();
        if let Ok(units) = carried::parse(bytes) {
            let again = boxed(&units);
            if !units.is_empty() {
                assert!(again.len() <= bytes.len(), "a box grows when it is written again");
            }
            assert_eq!(carried::parse(&again), Ok(units));
        }
        return;
    }
    let sample = framed(&mut input, coding);
    let found: Vec<&[u8]> = coding.signatures(&sample).collect();
    let whole: Vec<Vec<u8>> = found.iter().map(|unit| with_length(unit)).collect();
    for (unit, whole) in found.iter().zip(&whole) {
        let at = unit.as_ptr().addr() - sample.as_ptr().addr();
        assert_eq!(sample.get(at - 4..at + unit.len()), Some(&whole[..]));
    }
    let again = whole.concat();
    assert_eq!(coding.signatures(&again).collect::<Vec<_>>(), found);
    assert_eq!(Coding::Other.signatures(&sample).count(), 0);
    let units: Vec<CarriedUnit> = (0u32..)
        .zip(found)
        .map(|(picture, unit)| CarriedUnit {
            fragment: u32::from(kind),
            picture,
            unit: unit.to_vec(),
        })
        .collect();
    assert_eq!(carried::parse(&boxed(&units)), Ok(units));
}

fn with_length(unit: &[u8]) -> Vec<u8> {
    [&(unit.len() as u32).to_be_bytes(), unit].concat()
}

/// A sample as it comes, or of units that begin as SEI does.
fn framed(input: &mut Input<'_>, coding: Coding) -> Vec<u8> {
    if input.u8() & 1 == 0 {
        return input.rest().to_vec();
    }
    let mut sample = Vec::new();
    while !input.is_empty() {
        let how = input.u8();
        let content = input.piece(600);
        let unit = match how % 3 {
            0 => content.to_vec(),
            1 => [sei_head(coding), content].concat(),
            _ => signature(coding, content),
        };
        sample.extend(with_length(&unit));
    }
    sample
}

fn sei_head(coding: Coding) -> &'static [u8] {
    match coding {
        Coding::H265 => &[39 << 1, 1],
        _ => &[6],
    }
}

/// A NAL unit of SEI that is a signature of `content`, whatever that is.
fn signature(coding: Coding, content: &[u8]) -> Vec<u8> {
    let mut unit = sei_head(coding).to_vec();
    unit.push(5);
    let mut size = SIGNING.len() + content.len();
    while size >= 255 {
        unit.push(255);
        size -= 255;
    }
    unit.push(size as u8);
    unit.extend(SIGNING);
    unit.extend(content);
    unit.push(0x80);
    unit
}

/// A thinned segment with damage done to it: what is still read from it as good is what was written, the signatures of
/// pictures that went too.
pub fn thinned(data: &[u8]) {
    thread_local! {
        static SAMPLE: RefCell<Option<Sample>> = const { RefCell::new(None) };
    }
    SAMPLE.with_borrow_mut(|sample| {
        sample
            .get_or_insert_with(Sample::new)
            .with_damage(&mut Input(data))
    });
}

struct Sample {
    file: File,
    /// Taken while a checked reader has it.
    reader: Option<SegmentReader>,
    bytes: Vec<u8>,
    entries: Arc<[FragmentEntry]>,
    footer: Footer,
    carried: Vec<Vec<CarriedUnit>>,
}

impl Sample {
    /// Of four fragments, of which one begins within a GOP; each picture is signed.
    fn new() -> Self {
        let dir = temporary_folder();
        let disk = Disk::open(&dir).expect("a folder");
        let pool = Pool::new(1 << 20);
        let init = InitSegment::build(vec![video_track(640, 360)]);
        let header = some_header(init.hash);
        let mut writer =
            SegmentWriter::create(&disk, &pool, header.clone(), &init, 1 << 20).expect("a segment");
        let mut entries = Vec::new();
        for n in 0..4u8 {
            let mut builder = FragmentBuilder::new(&pool, None);
            for picture in 0..5u8 {
                let at = i64::from(n) * 15_000 + i64::from(picture) * 3000;
                let signed = with_length(&signature(Coding::H264, &[n * 5 + picture; 20]));
                let coded = with_length(&vec![0x41 + picture; 300]);
                builder.push_video(at, picture == 0 && n != 2, &[signed, coded].concat());
            }
            let closing = closing(n);
            entries.extend(
                writer
                    .append(&mut [builder.close(&pool, closing)])
                    .expect("written"),
            );
        }
        writer.seal(&pool).expect("sealed");
        let original = SegmentReader::open(&disk, &segment_path(&header.stream, &header.name()));
        let how = Thinning {
            keep: Keep::Keyframes,
            spared: &[],
            leaned_on: false,
            at: WallTime::from_micros(1_800_000_000_000_000),
        };
        let thinned = thin(&disk, &pool, original.expect("opens"), entries.into(), &how);
        let thinned = thinned.expect("thinned").expect("smaller");
        let path = segment_path(&thinned.header.stream, &thinned.header.name());
        let file = OpenOptions::new().read(true).write(true).open(disk.path(&path));
        let reader = SegmentReader::open(&disk, &path).expect("opens");
        let footer = reader.footer().expect("whole").expect("sealed");
        let bytes = fs::read(disk.path(&path)).expect("reads");
        fs::remove_dir_all(&dir).expect("removed");
        let entries: Arc<[FragmentEntry]> = thinned.entries.into();
        let mut checked = CheckedReader::new(reader, entries.clone());
        let carried: Vec<_> = entries
            .iter()
            .map(|e| checked.carried(e).expect("whole"))
            .collect();
        assert_eq!((carried.len(), carried.concat().len()), (3, 17));
        Self {
            file: file.expect("opens"),
            reader: Some(checked.into_unchecked()),
            bytes,
            entries,
            footer,
            carried,
        }
    }

    fn with_damage(&mut self, input: &mut Input<'_>) {
        let len = self.bytes.len();
        let mut damaged = self.bytes.clone();
        let cut = input.u8();
        while !input.is_empty() {
            let at = usize::from(input.u16()) % len;
            let with = input.piece(16);
            (damaged.iter_mut().skip(at).zip(with)).for_each(|(to, from)| *to = *from);
        }
        if cut & 0x80 != 0 {
            damaged.truncate(len * usize::from(cut & 0x7f) / 128);
        }
        self.file.write_all_at(&damaged, 0).expect("written");
        self.file.set_len(damaged.len() as u64).expect("truncated");
        let whole = damaged == self.bytes;
        let reader = self.reader.take().expect("is there");
        match reader.footer() {
            Ok(Some(read)) => assert_eq!(read, self.footer, "a damaged footer was taken"),
            Ok(None) | Err(_) => assert!(!whole, "an undamaged footer was refused"),
        }
        match verify(&reader) {
            Ok(verified) if verified.sealed => assert_eq!(verified.fragments, self.entries.len()),
            Ok(_) | Err(_) => assert!(!whole, "an undamaged segment was refused"),
        }
        let mut checked = CheckedReader::new(reader, self.entries.clone());
        for (entry, written) in self.entries.iter().zip(&self.carried) {
            match checked.carried(entry) {
                Ok(read) => assert_eq!(&read, written, "other signatures were given out"),
                Err(_) => assert!(!whole, "undamaged signatures were refused"),
            }
        }
        self.reader = Some(checked.into_unchecked());
    }
}
