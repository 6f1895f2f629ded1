//! Real footage, thinned: what stays is what was sent, and plays.

use std::path::PathBuf;

use super::sei::tests::{sample, signed};
use super::*;
use crate::export::tests::footage::{Clip, CodedSample, pictures, probe, start};
use crate::id::{Epoch, Sha256, StreamId};
use crate::mp4::{AUDIO_TRACK_ID, InitSegment, VIDEO_TRACK_ID};
use crate::segment::{Closing, Footer, FragmentBuilder, verify};

const H264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25 -keyint_min 25 -sc_threshold 0";
const TONE: &str = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=8";

fn source(seconds: u32) -> String {
    format!("-f lavfi -i testsrc2=size=320x180:rate=25:duration={seconds}")
}

/// Eight GOPs of a second with sound.
fn eight_seconds() -> Clip {
    Clip::make(&format!(
        "{} {TONE} {H264} -bf 0 -c:a aac -ac 1 -b:a 64k",
        source(8)
    ))
}

struct Recorded {
    _dir: tempfile::TempDir,
    disk: Disk,
    pool: Pool,
    header: SegmentHeader,
    entries: Arc<[FragmentEntry]>,
}

impl Recorded {
    /// The clip as one sealed segment, a fragment a GOP or of `pictures_max` pictures. `change` may add to what the camera sends.
    fn new(clip: &Clip, pictures_max: usize, change: impl Fn(usize, &CodedSample) -> Vec<u8>) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let disk = Disk::open(dir.path()).expect("disk");
        let pool = Pool::new(64);
        let tracks = [Some(&clip.video), clip.audio.as_ref()].into_iter().flatten();
        let init = InitSegment::build(tracks.map(|c| c.track.clone()).collect());
        let header = SegmentHeader {
            stream: StreamId {
                tenant: Default::default(),
                camera: "lobby".parse().expect("id"),
                stream: "main".parse().expect("id"),
            },
            seq: 3,
            epoch: Epoch(1),
            wall_start: start(),
            prev: Sha256::of(b"the segment before"),
            init: init.hash,
            generation: 0,
        };
        let mut groups: Vec<Vec<(usize, &CodedSample)>> = Vec::new();
        for (i, s) in clip.video.samples.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if !s.keyframe && group.len() < pictures_max => group.push((i, s)),
                _ => groups.push(vec![(i, s)]),
            }
        }
        let starts: Vec<i64> = (groups.iter())
            .map(|g| g.iter().map(|(_, s)| s.pts).min().expect("pictures"))
            .collect();
        let us = |ticks: i64| ticks * 100 / 9;
        let mut w = SegmentWriter::create(&disk, &pool, header.clone(), &init, 0).expect("create");
        let mut entries = Vec::new();
        for (g, group) in groups.iter().enumerate() {
            let begin = starts[g];
            let last = clip.shown().last().expect("pictures") + 3600;
            let end = starts.get(g + 1).copied().unwrap_or(last);
            let mut b = FragmentBuilder::new(&pool, None);
            group
                .iter()
                .for_each(|(i, s)| b.push_video(s.pts, s.keyframe, &change(*i, s)));
            if let Some(audio) = &clip.audio {
                let of = |ticks: i64| audio.track.timescale.from_micros(us(ticks));
                let from = if g == 0 { 0 } else { of(begin) };
                let heard = audio.samples.iter().filter(|s| s.pts >= from && s.pts < of(end));
                heard.for_each(|s| b.push_audio(s.pts, &s.data));
            }
            let closing = Closing {
                wall_start: start().plus_micros(us(begin)),
                wall_duration_us: (us(end) - us(begin)) as u32,
                media_end: Some(end),
                typical_duration: 3600,
                run_start: g == 0,
                activity: (10 * g).min(255) as u8,
                notes: vec![crate::fragment::Note::PacketsLost { packets: 1 }],
                clock_offset_us: None,
                audio_duration: 1024,
            };
            entries.extend(w.append(&mut [b.close(&pool, closing)]).expect("append"));
        }
        w.seal(&pool).expect("seal");
        Self {
            _dir: dir,
            disk,
            pool,
            header,
            entries: entries.into(),
        }
    }

    fn plain(clip: &Clip) -> Self {
        Self::new(clip, usize::MAX, |_, s| s.data.clone())
    }

    fn path(&self, generation: u8) -> String {
        let name = SegmentHeader {
            generation,
            ..self.header.clone()
        }
        .name();
        segment_path(&self.header.stream, &name)
    }

    fn file(&self, generation: u8) -> PathBuf {
        // As a player takes it: by its ending.
        self.disk.path(&self.path(generation))
    }

    fn reader(&self, generation: u8) -> SegmentReader {
        SegmentReader::open(&self.disk, &self.path(generation)).expect("open")
    }

    fn footer(&self, generation: u8) -> Footer {
        self.reader(generation).footer().expect("footer").expect("sealed")
    }

    fn thin(&self, keep: Keep, spared: &[TimeRange]) -> Result<Option<Thinned>, ArchiveError> {
        let how = Thinning {
            keep,
            spared,
            leaned_on: false,
            at: start(),
        };
        thin(&self.disk, &self.pool, self.reader(0), self.entries.clone(), &how)
    }

    /// The bytes of every sample of a track, and when it is shown.
    fn samples(&self, generation: u8, track: u32) -> Vec<(i64, Vec<u8>)> {
        let reader = self.reader(generation);
        let mut all = Vec::new();
        for row in self.footer(generation).fragments {
            assert_eq!(reader.samples(&row.entry).expect("samples"), row.tracks);
            for track in row.tracks.iter().filter(|t| t.track_id == track) {
                let mut at = track.data_offset;
                for (shown, s) in keep::shown(track) {
                    all.push((shown, reader.read(at, s.size as usize).expect("read").to_vec()));
                    at += u64::from(s.size);
                }
            }
        }
        all
    }

    /// Footer and fragments agree, the chain links, and wall and media time are tiled as they were.
    fn assert_sound(&self, thinned: &Thinned) {
        let verified = verify(&self.reader(1)).expect("verifies");
        assert!(verified.sealed);
        let (before, after) = (self.footer(0), self.footer(1));
        assert_eq!(
            after.link(),
            before.head,
            "the next segment is chained to the original"
        );
        assert_eq!(thinned.sealed.head, before.head);
        assert_eq!(
            (after.header.prev, after.wall_end),
            (before.header.prev, before.wall_end)
        );
        let origin = after.origin.expect("an origin");
        assert_eq!(origin.bytes, self.reader(0).len().expect("len"));
        assert_eq!(origin.fragments.len(), before.fragments.len());
        for (told, row) in origin.fragments.iter().zip(&before.fragments) {
            assert_eq!(
                (told.leaf, told.range, told.len),
                (row.leaf, row.entry.range(), row.entry.len)
            );
        }
        let mut wall = self.header.wall_start;
        let mut media = before.fragments[0].entry.media_start;
        let mut packets = 0;
        for row in &after.fragments {
            assert_eq!((row.entry.wall_start, row.entry.media_start), (wall, media));
            let video = keep::video(row).expect("video");
            assert_eq!(keep::ticks(video), u64::from(row.entry.media_duration));
            wall = row.entry.wall_end();
            media += u64::from(row.entry.media_duration);
            for note in &row.entry.notes {
                if let crate::fragment::Note::PacketsLost { packets: n } = note {
                    packets += n;
                }
            }
        }
        assert_eq!(wall, before.wall_end);
        assert_eq!(packets as usize, before.fragments.len(), "no loss is forgotten");
        let activity =
            |footer: &[crate::segment::FooterFragment]| footer.iter().map(|f| f.entry.activity).max();
        assert_eq!(activity(&after.fragments), activity(&before.fragments));
    }
}

/// The times at which a player shows pictures, in order.
fn times(path: &std::path::Path) -> Vec<f64> {
    let times = probe(path, "v:0", "frame=pts_time");
    let times: Vec<f64> = times.iter().map(|t| t.parse().expect("number")).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    times
}

#[test]
fn keyframes_stay_as_they_were_with_all_the_sound_and_play_by_themselves() {
    let clip = eight_seconds();
    let r = Recorded::plain(&clip);
    let thinned = r.thin(Keep::Keyframes, &[]).expect("thinned").expect("smaller");
    r.assert_sound(&thinned);
    assert_eq!(thinned.pictures, (200, 8));
    let keys: Vec<_> = (clip.video.samples.iter())
        .filter(|s| s.keyframe)
        .map(|s| (s.pts, s.data.clone()))
        .collect();
    assert_eq!(r.samples(1, VIDEO_TRACK_ID), keys);
    assert_eq!(r.samples(1, AUDIO_TRACK_ID), r.samples(0, AUDIO_TRACK_ID));
    let len = |generation| r.reader(generation).len().expect("len");
    assert_eq!(thinned.sealed.bytes, len(1));
    assert!(len(1) * 2 < len(0), "{} of {}", len(1), len(0));

    let all = pictures(&clip.path);
    let expected: Vec<_> = all.iter().step_by(25).cloned().collect();
    assert_eq!(pictures(&r.file(1)), expected);
    assert_eq!(times(&r.file(1)), (0..8).map(f64::from).collect::<Vec<_>>());
    assert_eq!(
        probe(&r.file(1), "a:0", "packet=data_hash"),
        probe(&r.file(0), "a:0", "packet=data_hash")
    );
}

#[test]
fn of_gops_that_continue_in_further_fragments_the_keyframe_stands_for_all() {
    let clip = eight_seconds();
    let r = Recorded::new(&clip, 7, |_, s| s.data.clone());
    assert_eq!(r.entries.len(), 32);
    let thinned = r.thin(Keep::Keyframes, &[]).expect("thinned").expect("smaller");
    r.assert_sound(&thinned);
    assert_eq!(thinned.entries.len(), 8);
    assert_eq!(r.samples(1, AUDIO_TRACK_ID), r.samples(0, AUDIO_TRACK_ID));
    assert_eq!(times(&r.file(1)).len(), 8);
}

#[test]
fn whole_gops_stay_and_the_last_picture_lasts_until_the_next() {
    let clip = Clip::make(&format!("{} {H264} -bf 2", source(8)));
    let r = Recorded::plain(&clip);
    let thinned = r
        .thin(Keep::EveryNthGop(3), &[])
        .expect("thinned")
        .expect("smaller");
    r.assert_sound(&thinned);
    assert_eq!((thinned.pictures, thinned.entries.len()), ((200, 75), 3));
    let kept = |i: usize| (i / 25).is_multiple_of(3);
    let expected: Vec<_> = (pictures(&clip.path).into_iter().enumerate())
        .filter(|(i, _)| kept(*i))
        .map(|(_, hash)| hash)
        .collect();
    assert_eq!(pictures(&r.file(1)), expected);
    let (before, after) = (times(&r.file(0)), times(&r.file(1)));
    let expected: Vec<_> = (before.into_iter().enumerate())
        .filter(|(i, _)| kept(*i))
        .map(|(_, t)| t)
        .collect();
    assert_eq!(after, expected, "everything is shown when it was");
}

#[test]
fn full_rate_stays_around_what_is_spared() {
    let clip = Clip::make(&format!("{} {H264} -bf 2", source(8)));
    let r = Recorded::plain(&clip);
    let spared = TimeRange::starting(start().plus_micros(3_500_000), 1_000_000);
    let thinned = r
        .thin(Keep::Keyframes, &[spared])
        .expect("thinned")
        .expect("smaller");
    r.assert_sound(&thinned);
    assert_eq!(thinned.pictures, (200, 56));
    let expected: Vec<_> = (pictures(&clip.path).into_iter().enumerate())
        .filter(|(i, _)| i.is_multiple_of(25) || (75..125).contains(i))
        .map(|(_, hash)| hash)
        .collect();
    assert_eq!(pictures(&r.file(1)), expected);
    assert_eq!(times(&r.file(1)).len(), 56);
}

#[test]
fn open_gops_of_h264_stay_as_they_are() {
    // Pictures that are shown before a keyframe refer to the GOP before, and the keyframe resets nothing.
    let clip = Clip::make(&format!(
        "{} -c:v libx264 -preset fast -pix_fmt yuv420p -bf 2 -x264-params keyint=25:min-keyint=25:scenecut=0:open-gop=1",
        source(8)
    ));
    let samples = clip.video.samples.windows(2);
    let leading = samples.filter(|w| w[0].keyframe && w[1].pts < w[0].pts).count();
    assert!(leading > 4, "{leading} open GOPs");
    let r = Recorded::plain(&clip);
    assert_eq!(r.thin(Keep::Keyframes, &[]).expect("looked at"), None);
    assert!(!r.file(1).exists());
}

#[test]
fn what_a_camera_signed_with_is_kept_of_pictures_that_go_and_of_those_that_stay() {
    let clip = Clip::make(&format!("{} {H264} -bf 0", source(8)));
    // In every tenth picture from the sixth on, and in every keyframe.
    let is_signed = |i: usize| i % 10 == 5 || i.is_multiple_of(25);
    let signature = |i: usize| signed(Coding::H264, &[i as u8; 300]);
    let r = Recorded::new(&clip, usize::MAX, |i, s| {
        if is_signed(i) {
            [sample(&[&signature(i)]), s.data.clone()].concat()
        } else {
            s.data.clone()
        }
    });
    for keep in [Keep::Keyframes, Keep::EveryNthGop(2)] {
        let thinned = r.thin(keep, &[]).expect("thinned").expect("smaller");
        r.assert_sound(&thinned);
        let mut reader = CheckedReader::new(r.reader(1), thinned.entries.clone().into());
        let mut found = Vec::new();
        for entry in &thinned.entries {
            for unit in reader.carried(entry).expect("read") {
                let i = unit.fragment as usize * 25 + unit.picture as usize;
                assert_eq!(unit.unit, signature(i), "picture {i}");
                found.push(i);
            }
        }
        for (_, data) in r.samples(1, VIDEO_TRACK_ID) {
            for unit in Coding::H264.signatures(&data) {
                let i = (0..200).find(|i| signature(*i) == unit).expect("one of ours");
                found.push(i);
            }
        }
        found.sort_unstable();
        let all: Vec<_> = (0..200).filter(|i| is_signed(*i)).collect();
        assert_eq!(found, all, "{keep}");
        // Players never look there.
        assert_eq!(pictures(&r.file(1)).len() as u64, thinned.pictures.1);
    }
}

#[test]
fn a_damaged_byte_of_the_original_anywhere_ends_it_and_leaves_nothing() {
    let clip = eight_seconds();
    let r = Recorded::plain(&clip);
    let good = std::fs::read(r.file(0)).expect("read");
    // In the last picture of the third fragment, which would go.
    let entry = &r.entries[2];
    let at = entry.offset as usize + entry.len as usize - 6000;
    let mut bad = good.clone();
    bad[at] ^= 1;
    std::fs::write(r.file(0), &bad).expect("write");
    assert!(matches!(
        r.thin(Keep::Keyframes, &[]),
        Err(ArchiveError::Corrupt { .. })
    ));
    assert!(!r.file(1).exists());
    std::fs::write(r.file(0), &good).expect("write");
    // What an interrupted attempt left is replaced.
    std::fs::write(r.file(1), &bad[..9000]).expect("write");
    let thinned = r.thin(Keep::Keyframes, &[]).expect("thinned").expect("smaller");
    r.assert_sound(&thinned);
}

#[test]
fn where_little_would_go_nothing_is_done_and_nothing_is_thinned_twice() {
    let clip = Clip::make(&format!("{} {H264} -bf 0 -g 1 -keyint_min 1", source(2)));
    let r = Recorded::new(&clip, 25, |_, s| s.data.clone());
    assert_eq!(r.thin(Keep::Keyframes, &[]).expect("looked at"), None);
    assert!(!r.file(1).exists());

    let clip = eight_seconds();
    let r = Recorded::plain(&clip);
    let all = TimeRange::starting(start(), 8_000_000);
    assert_eq!(r.thin(Keep::Keyframes, &[all]).expect("looked at"), None);
    let thinned = r
        .thin(Keep::EveryNthGop(2), &[])
        .expect("thinned")
        .expect("smaller");
    let how = Thinning {
        keep: Keep::Keyframes,
        spared: &[],
        leaned_on: false,
        at: start(),
    };
    let again = thin(&r.disk, &r.pool, r.reader(1), thinned.entries.into(), &how);
    assert!(again.is_err_and(|e| e.to_string().contains("thinned before")));
}

/// How many bytes go, by scene and length of GOP; run it with `--ignored --nocapture`. `TIERLINE_FOOTAGE` names a file of a
/// camera's footage to do the same with.
#[test]
#[ignore = "a measurement"]
fn how_much_is_saved() {
    // The still scene of most cameras: noise of a sensor, and something small that moves. And one that moves all over.
    let still = "-f lavfi -i color=c=gray:size=1280x720:rate=25:duration=20 \
                 -f lavfi -i testsrc2=size=160x120:rate=25:duration=20 \
                 -filter_complex [0][1]overlay=x=mod(t*60\\,1100):y=300,noise=alls=6:allf=t";
    let moving = "-f lavfi -i testsrc2=size=1280x720:rate=25:duration=20 -vf noise=alls=6:allf=t";
    let demo = concat!(
        "-f h264 -r 30 -i ",
        env!("CARGO_MANIFEST_DIR"),
        "/../ingest/assets/demo.h264"
    );
    let footage = std::env::var("TIERLINE_FOOTAGE").map(|file| format!("-i {file} -an"));
    let coded = |scene: &str, gop: u32| {
        Clip::make(&format!(
            "{scene} -c:v libx264 -preset veryfast -pix_fmt yuv420p -bf 0 -b:v 2M -maxrate 2M -bufsize 4M \
             -g 1000 -force_key_frames expr:gte(t,n_forced*{gop}) -sc_threshold 0"
        ))
    };
    let mut scenes = vec![("demo", None), ("still", Some(still)), ("moving", Some(moving))];
    scenes.extend(footage.as_deref().ok().map(|scene| ("footage", Some(scene))));
    let all = scenes
        .iter()
        .flat_map(|(name, scene)| [1, 2, 4].map(|gop| (name, scene, gop)));
    for (name, scene, gop) in all.filter(|(_, scene, gop)| scene.is_some() || *gop == 1) {
        let clip = match scene {
            Some(scene) => coded(scene, gop),
            None => Clip::make(&format!("{demo} -c copy")),
        };
        let r = Recorded::plain(&clip);
        let before = r.reader(0).len().expect("len");
        for keep in [Keep::Keyframes, Keep::EveryNthGop(4)] {
            match r.thin(keep, &[]).expect("thinned") {
                Some(thinned) => {
                    let after = thinned.sealed.bytes;
                    let saved = 100.0 - 100.0 * after as f64 / before as f64;
                    let gops = r.entries.len();
                    eprintln!(
                        "{name} {gop} s | {keep} | {before} | {after} | {saved:.1} % | {gops} GOPs, {:?}",
                        thinned.pictures
                    );
                }
                None => eprintln!("{name} {gop} s | {keep} | {before} | too little would go"),
            }
        }
    }
}
