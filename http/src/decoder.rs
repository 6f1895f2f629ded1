//! Pictures out of media, by ffmpeg in a process of its own: a hostile picture cannot reach this one.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::problem::{Code, Problem};

/// The narrowest picture.
pub(crate) const WIDTH_MIN: u32 = 16;
/// The widest picture.
pub(crate) const WIDTH_MAX: u32 = 3840;
/// The most pixels of a picture that is decoded: twice those of 8K. A decoder keeps several pictures.
pub(crate) const PIXELS_MAX: u32 = 64 << 20;
/// The largest piece of memory that a decoder may ask for: a picture of so many pixels at four bytes each.
const ALLOC_BYTES_MAX: u32 = 4 * PIXELS_MAX;
/// The largest still.
const PICTURE_BYTES_MAX: u64 = 32 << 20;
/// What is kept of a decoder's complaints.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;
/// How long a caller waits for its turn.
const QUEUE_MAX: Duration = Duration::from_secs(2);
/// How long one picture may take.
const DECODE_MAX: Duration = Duration::from_secs(5);
/// The picture that is shown at a time was taken up to one frame before it.
const FRAME_US: i64 = 20_000;

/// Waits for a turn to decode.
pub(crate) async fn turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, Problem> {
    let busy = || {
        Problem::new(Code::TooManyRequests, "Too many stills are being decoded.").with_header(
            axum::http::header::RETRY_AFTER,
            axum::http::HeaderValue::from_static("1"),
        )
    };
    tokio::time::timeout(QUEUE_MAX, turns.acquire())
        .await
        .map_err(|_| busy())?
        .map_err(Problem::internal)
}

/// The picture `offset_us` after the first one of `media` as JPEG, scaled to `width` pixels if given.
pub(crate) async fn picture(
    _turn: SemaphorePermit<'_>,
    media: Vec<Bytes>,
    offset_us: i64,
    width: Option<u32>,
) -> Result<Bytes, Problem> {
    let decode = async {
        // The last picture of a fragment begins before the fragment's end: if there is none at the offset,
        // the one before it is meant.
        for back in [FRAME_US, 200_000, 1_200_000] {
            let picture = decode(&media, (offset_us - back).max(0), width).await?;
            if !picture.is_empty() {
                return Ok(picture);
            }
        }
        decode(&media, 0, width).await
    };
    let late = |_| Problem::new(Code::DecoderTimeout, "The decoder was stopped.");
    let picture = tokio::time::timeout(DECODE_MAX, decode).await.map_err(late)??;
    if picture.is_empty() {
        return Err(Problem::new(
            Code::DecoderFailed,
            "The decoder finds no picture there.",
        ));
    }
    Ok(picture)
}

/// One run of ffmpeg; empty when there is no picture so late.
async fn decode(media: &[Bytes], offset_us: i64, width: Option<u32>) -> Result<Bytes, Problem> {
    let mut command = Command::new("ffmpeg");
    command.args([
        "-hide_banner",
        "-loglevel",
        "error",
        "-threads",
        "1",
        "-protocol_whitelist",
        "pipe",
    ]);
    command.arg("-max_alloc").arg(ALLOC_BYTES_MAX.to_string());
    command.arg("-max_pixels").arg(PIXELS_MAX.to_string());
    command.args(["-f", "mp4", "-i", "pipe:0", "-map", "0:v:0", "-an", "-sn", "-dn"]);
    command.arg("-ss").arg(format!("{}us", offset_us));
    if let Some(width) = width {
        command.arg("-vf").arg(format!("scale={width}:-2"));
    }
    command.args([
        "-frames:v",
        "1",
        "-c:v",
        "mjpeg",
        "-q:v",
        "4",
        "-f",
        "image2pipe",
        "pipe:1",
    ]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Problem::new(
            Code::NoDecoder,
            "Install ffmpeg on the machine of this service: apt-get install ffmpeg",
        ),
        _ => Problem::internal(error),
    })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            for bytes in media {
                // It stops reading once it has the picture.
                if stdin.write_all(bytes).await.is_err() {
                    break;
                }
            }
        }
    };
    let ended = async {
        let read = tokio::try_join!(
            beginning(stdout, PICTURE_BYTES_MAX + 1),
            beginning(stderr, COMPLAINT_BYTES_MAX)
        );
        let (picture, said) = read?;
        Ok((picture, said, child.wait().await?))
    };
    let ((), ended) = tokio::join!(feed, ended);
    let (picture, said, status) = ended.map_err(|error: io::Error| Problem::internal(error))?;
    if picture.len() as u64 > PICTURE_BYTES_MAX {
        return Err(Problem::new(Code::DecoderFailed, "The still is too large."));
    }
    if picture.is_empty() && !status.success() {
        let said: String = String::from_utf8_lossy(&said).chars().take(400).collect();
        return Err(Problem::new(Code::DecoderFailed, "The decoder refuses this media.").because(said));
    }
    Ok(picture.into())
}

/// The first `max` bytes that come. The rest is read too, so that whoever writes can end, and not kept.
async fn beginning(from: Option<impl AsyncRead + Unpin>, max: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(max).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_decoder_writes_is_kept_up_to_a_bound_and_read_to_its_end() {
        let mut much = tokio::io::repeat(7).take(10 << 20);
        let kept = beginning(Some(&mut much), 1000).await.expect("read");
        assert_eq!((kept.len(), much.limit()), (1000, 0));
    }

    #[tokio::test]
    async fn a_picture_of_too_many_pixels_is_refused() {
        let turns = Semaphore::new(1);
        for (size, shown) in [("1600x1200", true), ("9000x8000", false)] {
            let source = format!("color=size={size}:rate=1:duration=1");
            let made = Command::new("ffmpeg")
                .args([
                    "-loglevel",
                    "error",
                    "-f",
                    "lavfi",
                    "-i",
                    &source,
                    "-frames:v",
                    "1",
                ])
                .args(["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-f", "mp4"])
                .args(["-movflags", "frag_keyframe+empty_moov", "pipe:1"])
                .output()
                .await
                .expect("ffmpeg");
            assert!(made.status.success() && !made.stdout.is_empty());
            let turn = turn(&turns).await.expect("a turn");
            let picture = picture(turn, vec![made.stdout.into()], 0, Some(320)).await;
            assert_eq!(picture.map(|_| ()).map_err(|p| p.code()).is_ok(), shown, "{size}");
        }
    }
}
