//! Pictures out of media, by ffmpeg in a process of its own: a hostile picture cannot reach this one.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::problem::{Code, Problem};

/// The narrowest picture.
pub(crate) const WIDTH_MIN: u32 = 16;
/// The widest picture.
pub(crate) const WIDTH_MAX: u32 = 3840;
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
        std::io::ErrorKind::NotFound => Problem::new(
            Code::NoDecoder,
            "Install ffmpeg on the machine of this service: apt-get install ffmpeg",
        ),
        _ => Problem::internal(error),
    })?;
    let stdin = child.stdin.take();
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
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.map_err(Problem::internal)?;
    if output.stdout.is_empty() && !output.status.success() {
        let said: String = String::from_utf8_lossy(&output.stderr)
            .chars()
            .take(400)
            .collect();
        return Err(Problem::new(Code::DecoderFailed, "The decoder refuses this media.").because(said));
    }
    Ok(output.stdout.into())
}
