//! `tierline export`: a time range as one MP4 file, without a service.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use archive::export::{Assembly, ExportFragment, ExportInput, Piece};
use archive::layout::segment_path;
use archive::segment::{CheckedReader, ReadFailure, SegmentReader};
use archive::time::SECOND_US;
use archive::units::format_duration;
use archive::{
    CameraId, FragmentEntry, InitSegment, Sha256, StreamId, StreamName, StreamNo, TimeRange, TrackSamples,
    WallTime,
};
use indexer::{SegmentFragments, SegmentRow, SegmentState};

use crate::cli::ConfigArgs;
use crate::store::{View, view};

/// How far back the keyframe is looked for that the first picture needs, step by step.
const LOOK_BACK_US: [i64; 3] = [30 * SECOND_US, 300 * SECOND_US, 3600 * SECOND_US];
/// Bytes of footage read at once.
const READ_BYTES: u64 = 4 << 20;

/// Take a time range out of an archive as one MP4 file.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Works on a stopped archive and beside a running service. The cut is exact: the first picture \
is the first one taken at or after --from, the last one the last before --to. Gaps close. Every byte is checked as it \
is read; a fragment that is not what was recorded is left out and named.

Example:
  tierline export --config site.toml --camera lobby --stream main \\
    --from 2026-11-20T08:30:00Z --to 2026-11-20T08:31:00Z --out lobby.mp4"
)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The camera's id
    #[arg(long)]
    camera: CameraId,
    /// The stream's name
    #[arg(long, default_value = "main")]
    stream: StreamName,
    /// The beginning: RFC 3339 with a zone, or Unix microseconds
    #[arg(long, value_name = "TIME")]
    from: WallTime,
    /// The end, which is not part of it
    #[arg(long, value_name = "TIME")]
    to: WallTime,
    /// The file to write; must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let range = TimeRange::new(args.from, args.to).filter(|range| !range.is_empty());
    let range = range.with_context(|| format!("--to {} is not after --from {}", args.to, args.from))?;
    if args.out.exists() {
        bail!("{} is there already: name another file", args.out.display());
    }
    let view = view(&args.config.load()?.config)?;
    let (no, stream) = find_stream(&view, &args.camera, &args.stream)?;
    let mut footage = Footage {
        view: &view,
        stream: &stream,
        rows: HashMap::new(),
        damaged: HashSet::new(),
        open: None,
    };
    let rows = needed(&view, no, range)?;
    ask_for_restores(&view, &stream, &rows)?;
    let partial = args.out.with_added_extension("partial");
    // Begun anew without it whenever a fragment turns out to be damaged.
    let assembly = loop {
        let fragments = footage.fragments(rows.clone())?;
        let input = ExportInput {
            stream: &stream,
            range,
            fragments: &fragments,
        };
        let assembly = Assembly::build(&input).map_err(|e| nothing_there(&view, no, range, &e))?;
        drop(fragments);
        let written = write(&partial, &assembly, &mut footage);
        let finished = written.and_then(|whole| {
            if whole {
                std::fs::rename(&partial, &args.out)?;
            }
            Ok(whole)
        });
        if finished.as_ref().is_ok_and(|whole| *whole) {
            break assembly;
        }
        let _ = std::fs::remove_file(&partial);
        finished.with_context(|| format!("writing {}", args.out.display()))?;
    };
    let (shown, gaps) = (assembly.shown(), view.index.gaps(no, assembly.shown())?.len());
    let damaged = match footage.damaged.len() {
        0 => String::new(),
        n => format!(", {n} damaged fragments left out"),
    };
    writeln!(
        std::io::stdout(),
        "{}: {} bytes, {} to {}, {gaps} gaps{damaged}",
        args.out.display(),
        assembly.len(),
        shown.from(),
        shown.to()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Fails when footage of `rows` has to be restored before it can be read, and asks for that.
fn ask_for_restores(view: &View, stream: &StreamId, rows: &[SegmentFragments]) -> anyhow::Result<()> {
    let mut wanted = 0;
    let mut takes = Duration::ZERO;
    for SegmentFragments { segment, .. } in rows {
        let Some(objects) = view.stores.of(segment.tier) else {
            continue;
        };
        let Some(how) = objects.store.restoring() else {
            continue;
        };
        let name = segment_path(stream, &segment.name());
        let stat = objects.runtime.block_on(objects.store.stat(&name))?;
        if stat.is_some_and(|stat| !stat.access.is_readable()) {
            objects.runtime.block_on(objects.store.restore(&name))?;
            wanted += 1;
            takes = how.takes;
        }
    }
    if wanted > 0 {
        bail!(
            "{wanted} segments of this lie in an archive class; they are being restored, which takes about {}: \
             run this again then",
            format_duration(takes)
        );
    }
    Ok(())
}

/// Why there is nothing to export, and where there would be.
fn nothing_there(
    view: &View,
    no: StreamNo,
    range: TimeRange,
    reason: &archive::export::ExportError,
) -> anyhow::Error {
    let Ok(near) = view.read(|index| index.nearest(no, range.from())) else {
        return anyhow!("{reason}");
    };
    let time = |t: Option<WallTime>| t.map_or_else(|| "none".to_owned(), |t| t.to_string());
    anyhow!(
        "{reason}; the nearest footage before it ends {}, after it begins {}",
        time(near.before),
        time(near.after)
    )
}

fn find_stream(view: &View, camera: &CameraId, name: &StreamName) -> anyhow::Result<(StreamNo, StreamId)> {
    let streams = view.index.streams_of(camera);
    let names: Vec<String> = streams.iter().map(|(_, id)| id.stream.to_string()).collect();
    streams
        .into_iter()
        .find(|(_, id)| id.stream == *name)
        .ok_or_else(|| match names.as_slice() {
            [] => anyhow!("nothing was ever recorded of the camera `{camera}`"),
            names => anyhow!(
                "the camera `{camera}` has no footage of a stream `{name}`, but of {}",
                names.join(", ")
            ),
        })
}

/// The fragments of the range, and in front of them those that its first picture needs.
fn needed(view: &View, no: StreamNo, range: TimeRange) -> anyhow::Result<Vec<SegmentFragments>> {
    let mut rows = Vec::new();
    for back in LOOK_BACK_US {
        let around = TimeRange::new(range.from().plus_micros(-back), range.to()).unwrap_or(range);
        rows = view.read(|index| index.fragments(no, around))?;
        let mut before = rows
            .iter()
            .flat_map(|row| &row.fragments)
            .take_while(|f| f.wall_start <= range.from());
        if before.any(|f| f.keyframe) {
            break;
        }
    }
    Ok(rows)
}

/// The segments that an export draws from.
struct Footage<'a> {
    view: &'a View,
    stream: &'a StreamId,
    rows: HashMap<u64, SegmentRow>,
    /// Fragments that are not what was recorded, by the sequence of their segment and their offset.
    damaged: HashSet<(u64, u64)>,
    open: Option<(u64, CheckedReader)>,
}

impl Footage<'_> {
    fn fragments(&mut self, rows: Vec<SegmentFragments>) -> anyhow::Result<Vec<ExportFragment>> {
        let mut inits: HashMap<Sha256, Arc<InitSegment>> = HashMap::new();
        let mut fragments = Vec::new();
        for SegmentFragments {
            segment,
            fragments: entries,
        } in rows
        {
            let init = match inits.get(&segment.init) {
                Some(init) => init.clone(),
                None => self
                    .view
                    .index
                    .init(&segment.init)?
                    .context("an init segment is not in the index")?,
            };
            inits.insert(segment.init, init.clone());
            let (id, sealed) = (segment.id, segment.state == SegmentState::Sealed);
            let generation = segment.generation;
            self.rows.insert(id.seq, segment);
            let with_samples = self.samples(id.seq, entries, sealed)?;
            fragments.extend(with_samples.into_iter().map(|(entry, tracks)| ExportFragment {
                segment: id,
                init: init.clone(),
                entry,
                tracks,
                generation,
            }));
        }
        Ok(fragments)
    }

    /// Those of `entries` that are not damaged, with their samples.
    fn samples(
        &mut self,
        seq: u64,
        mut entries: Vec<FragmentEntry>,
        sealed: bool,
    ) -> anyhow::Result<Vec<(FragmentEntry, Vec<TrackSamples>)>> {
        entries.retain(|entry| !self.damaged.contains(&(seq, entry.offset)));
        let mut damaged = Vec::new();
        let found = self
            .reader(seq)?
            .unchecked()
            .sound_samples(entries, sealed, |entry, error| {
                damaged.push((entry.clone(), error.to_string()));
            })?;
        for (entry, error) in damaged {
            self.leave_out(seq, &entry, &error);
        }
        Ok(found)
    }

    fn leave_out(&mut self, seq: u64, entry: &FragmentEntry, error: &str) {
        tracing::warn!(from = %entry.wall_start, to = %entry.wall_end(), error, "footage is damaged: it is left out");
        self.damaged.insert((seq, entry.offset));
    }

    fn reader(&mut self, seq: u64) -> anyhow::Result<&mut CheckedReader> {
        if self.open.as_ref().is_none_or(|(of, _)| *of != seq) {
            let row = self
                .rows
                .get(&seq)
                .context("an export names a segment that it was not made of")?;
            let path = segment_path(self.stream, &row.name());
            let reader = SegmentReader::on(row.tier, &self.view.disk, &self.view.stores, &path, row.bytes)?;
            let table = self.view.read(|index| index.table(row))?;
            self.open = Some((seq, CheckedReader::new(reader, table.into())));
        }
        self.open
            .as_mut()
            .map(|(_, reader)| reader)
            .context("no segment is open")
    }
}

/// Writes the file. False when a fragment turned out to be damaged, which is left out from now on.
fn write(file: &Path, assembly: &Assembly, footage: &mut Footage<'_>) -> anyhow::Result<bool> {
    let mut out = BufWriter::new(File::create_new(file)?);
    for piece in assembly.pieces(0..assembly.len()) {
        match piece {
            Piece::Memory(bytes) => out.write_all(&bytes)?,
            Piece::File { segment, range } => {
                let mut at = range.start;
                while at < range.end {
                    let end = range.end.min(at + READ_BYTES);
                    match footage.reader(segment.seq)?.read(at..end) {
                        Ok(pieces) => pieces.iter().try_for_each(|piece| out.write_all(piece))?,
                        Err(ReadFailure { error, damaged }) => {
                            let Some(entry) = damaged else {
                                return Err(error.into());
                            };
                            footage.leave_out(segment.seq, &entry, &error.to_string());
                            return Ok(false);
                        }
                    }
                    at = end;
                }
            }
        }
    }
    out.into_inner()?.sync_all()?;
    Ok(true)
}
