//! What cameras send under fuzzing: single packets, messages, and whole sessions over a socket.

use std::num::{NonZeroU16, NonZeroU32};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use archive::buffer::Pool;
use archive::fuzzing::Input;
use archive::{Clock, GapCause, SystemClock, WallTime};
use retina::codec::{CodecItem, Depacketizer, FrameFormat, ParametersRef};
use retina::rtp::PacketMeta;
use retina::rtsp::parse::{FeedError, Parser};
use retina::testutil::DepacketizeBuf;
use retina::{PacketContext, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::align::Alignment;
use super::{Session, SessionConfig, Transport, tracks};
use crate::event::Event;
use crate::fragmenter::Fragmenter;
use crate::gap_tracker::GapTracker;

/// Packets of one run.
const PACKETS_MAX: usize = 400;

/// Sound is placed, moved slowly, and never loses its place but when told to.
pub fn align(data: &[u8]) {
    let mut input = Input(data);
    let mut align = Alignment::default();
    let (mut video, mut audio) = (0i64, 0i64);
    while !input.is_empty() {
        let before = align.offset_us();
        let op = input.u8() % 10;
        match op {
            0 => align.forget_sound(),
            1 => align.forget_all(),
            2 => align.decide(audio),
            3 => video = input.skewed_signed(),
            4 => audio = input.skewed_signed(),
            5 => align.video.observe_sr(video, input.skewed_signed()),
            6 => align.audio.observe_sr(audio, input.skewed_signed()),
            7 => {
                video = video.saturating_add(input.skewed_signed());
                align.video.observe(video, input.skewed_signed());
            }
            8 => {
                audio = audio.saturating_add(input.skewed_signed());
                align.audio.observe(audio, input.skewed_signed());
            }
            _ => {
                align.follow(audio);
                let moved = |(a, b): (i64, i64)| a.abs_diff(b);
                let moved = before.zip(align.offset_us()).map(moved);
                assert!(moved.is_none_or(|us| us <= 2_000_000), "sound jumps");
            }
        }
        if !matches!(op, 0..=2 | 9) {
            assert_eq!(align.offset_us(), before);
        }
        if op >= 2 {
            assert!(align.offset_us().is_some() || before.is_none());
        }
        let _ = align.is_certain();
    }
}

/// RTP payloads of H.264, H.265 and AAC: what comes out are whole NAL units, made of what came in, and
/// parameters that make a sample entry.
pub fn depacketize(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.u8();
    let fmtp = String::from_utf8_lossy(input.piece(300)).into_owned();
    let (media, encoding, rate) = match kind % 3 {
        0 => ("video", "h264", 90_000),
        1 => ("video", "h265", 90_000),
        _ => ("audio", "mpeg4-generic", 48_000),
    };
    let fmtp = match kind & 0x30 {
        0 => None,
        0x10 if kind % 3 == 2 => Some(
            "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1188",
        ),
        _ => Some(fmtp.as_str()),
    };
    let channels = NonZeroU16::new(u16::from(kind >> 6));
    let Ok(mut depacketizer) = Depacketizer::new(media, encoding, rate, channels, fmtp) else {
        return;
    };
    depacketizer.set_frame_format(FrameFormat::MP4);
    let mut buffer = DepacketizeBuf::new(4 << 10);
    let clock_rate = NonZeroU32::new(rate).expect("not 0");
    let (mut ticks, mut sequence_number, mut pushed) = (0i64, 0u16, 0usize);
    for _ in 0..PACKETS_MAX {
        if input.is_empty() {
            break;
        }
        let flags = input.u8();
        ticks += i64::from(flags & 3) * 1500;
        let loss = u16::from(flags & 0xc0 == 0xc0) * u16::from(input.u8());
        sequence_number = sequence_number.wrapping_add(1 + loss);
        let Some(timestamp) = Timestamp::new(ticks, clock_rate, 0) else {
            return;
        };
        let meta = PacketMeta {
            ctx: PacketContext::dummy(),
            stream_id: 0,
            timestamp,
            sequence_number,
            ssrc: 7,
            mark: flags & 4 != 0,
            loss,
        };
        let payload = input.piece(1500);
        if payload.is_empty() {
            continue;
        }
        pushed += payload.len();
        if buffer.push(&mut depacketizer, meta, payload).is_err() {
            return;
        }
        while let Some(item) = depacketizer.pull() {
            match item {
                Ok(CodecItem::VideoFrame(frame)) => {
                    assert_whole_nal_units(frame.data());
                    // A unit of one byte comes with four of length.
                    assert!(frame.data().len() <= 5 * pushed, "more came out than went in");
                    let _ = tracks::begins_with_irap(frame.data());
                }
                Ok(CodecItem::AudioFrame(frame)) => assert!(frame.data().len() <= pushed),
                Ok(_) => {}
                Err(_) => return,
            }
        }
        if let Some(ParametersRef::Video(params)) = depacketizer.parameters() {
            let (width, height) = params.pixel_dimensions();
            let _ = (width, height, params.rfc6381_codec());
            if let Some(entry) = tracks::video_sample_entry(params) {
                assert!(entry.len() <= 4 * (pushed + data.len()) + 400);
            }
        }
        depacketizer.check_invariants();
    }
}

fn assert_whole_nal_units(mut data: &[u8]) {
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (_, next) = rest
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .expect("a NAL unit is cut off");
        data = next;
    }
    assert!(data.is_empty(), "bytes behind the last NAL unit");
}

/// RTSP messages: they come out the same however the bytes are cut, and none is larger than its limit.
pub fn messages(data: &[u8]) {
    let mut input = Input(data);
    let cut = usize::from(input.u16());
    let bytes = input.rest();
    let whole = parsed(&[bytes]);
    let (front, back) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(whole, parsed(&[front, back]));
}

/// What was parsed of `pieces`, and whether that ended in an error.
fn parsed(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let mut parser = Parser::builder().max_message_size(64 << 10).build();
    let mut messages = Vec::new();
    let mut waiting: Vec<u8> = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        let mut input = &waiting[..];
        loop {
            match parser.feed(&mut input) {
                Ok(Some((message, body))) => messages.push(format!("{message:?} {body:?}")),
                Ok(None) | Err(FeedError::Incomplete(_)) => break,
                Err(_) => return (messages, true),
            }
        }
        let left = input.len();
        waiting.drain(..waiting.len() - left);
    }
    (messages, false)
}

/// A camera over a real socket: whatever it answers and sends, the session ends with an error that has a cause,
/// and its events make fragments.
pub fn session(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let camera = pin!(camera(&listener, Input(data)));
        let client = pin!(client(port));
        // The client's end decides; a camera that hears no more has nothing to say.
        tokio::select! {
            () = client => {}
            () = async { camera.await; std::future::pending().await } => {}
        }
    });
    runtime.shutdown_background();
}

async fn client(port: u16) {
    let url = format!("rtsp://127.0.0.1:{port}/cam");
    let mut config = SessionConfig::new(&url, Transport::Tcp).expect("a URL");
    // The camera answers at once or never.
    config.limits.answer = Duration::from_millis(20);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let start = WallTime::from_micros(1_700_000_000_000_000);
    let mut fragmenter = Fragmenter::new(Pool::new(1 << 20), start, GapTracker::default());
    let ended = match Session::connect(&config, clock).await {
        Ok(mut session) => loop {
            match session.next().await {
                Ok(event) => {
                    if let Event::Sample(sample) = &event {
                        assert!(!sample.data.is_empty() && sample.data.len() < 1 << 20);
                    }
                    drop(fragmenter.push(event));
                }
                Err(error) => break error,
            }
        },
        Err(error) => error,
    };
    drop(fragmenter.end_session());
    assert!(GapCause::ALL.contains(&ended.cause()) && ended.to_string().len() < 2000);
}

/// Answers one client as `input` says, then hangs up.
async fn camera(listener: &TcpListener, mut input: Input<'_>) {
    let Ok((mut socket, _)) = listener.accept().await else {
        return;
    };
    let _ = socket.set_zero_linger();
    let shape = input.u8();
    let description = description(shape, &mut input);
    let headers: [&[u8]; 3] = [input.piece(200), input.piece(200), input.piece(200)];
    let mut cseq = 0;
    loop {
        let Some(request) = request(&mut socket).await else {
            return;
        };
        cseq += 1;
        let answer = if request.starts_with(b"DESCRIBE") {
            let mut answer = head(
                cseq,
                headers[0],
                b"Content-Type: application/sdp\r\nContent-Base: rtsp://127.0.0.1/cam/\r\n",
            );
            answer.extend(format!("Content-Length: {}\r\n\r\n", description.len()).bytes());
            answer.extend(&description);
            answer
        } else if request.starts_with(b"SETUP") {
            let channels = if request.windows(5).any(|w| w == b"/a HT" || w == b"id=1 ") {
                "2-3"
            } else {
                "0-1"
            };
            let transport =
                format!("Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\nSession: 1\r\n");
            let mut answer = head(cseq, headers[1], transport.as_bytes());
            answer.extend(b"\r\n");
            answer
        } else if request.starts_with(b"PLAY") {
            let mut answer = head(cseq, headers[2], b"Session: 1\r\n");
            answer.extend(b"\r\n");
            answer.extend(media(shape, &mut input));
            answer
        } else {
            return;
        };
        let playing = request.starts_with(b"PLAY");
        if socket.write_all(&answer).await.is_err() || playing {
            let _ = socket.shutdown().await;
            return;
        }
    }
}

/// The beginning of an answer, with headers of the input's in place of ours where it has some.
fn head(cseq: u32, theirs: &[u8], ours: &[u8]) -> Vec<u8> {
    let mut head = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n").into_bytes();
    head.extend(if theirs.is_empty() { ours } else { theirs });
    head
}

/// A good description, or what the input says.
fn description(shape: u8, input: &mut Input<'_>) -> Vec<u8> {
    let video = match shape % 3 {
        0 => {
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\na=control:trackID=0\r\n"
        }
        1 => "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:trackID=0\r\n",
        _ => "",
    };
    let audio = "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/48000/2\r\na=fmtp:97 streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1190\r\na=control:trackID=1\r\n";
    let mut text = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=fuzz\r\nt=0 0\r\na=control:*\r\n".to_vec();
    text.extend(input.piece(300));
    text.extend(video.bytes());
    if shape & 4 == 0 {
        text.extend(audio.bytes());
    }
    text.extend(input.piece(600));
    text
}

/// Interleaved packets with good headers around the input's bytes, or just those.
fn media(shape: u8, input: &mut Input<'_>) -> Vec<u8> {
    if shape & 8 != 0 {
        return input.rest().to_vec();
    }
    let mut bytes = Vec::new();
    let mut sequence = [0u16; 2];
    let mut ticks = [0u32; 2];
    for _ in 0..PACKETS_MAX {
        if input.is_empty() {
            break;
        }
        let flags = input.u8();
        let track = usize::from(flags & 1);
        let payload = input.piece(1400);
        let packet = if flags & 2 != 0 {
            payload.to_vec()
        } else {
            let (sequence, ticks) = (&mut sequence[track], &mut ticks[track]);
            *sequence = sequence.wrapping_add(1 + u16::from(flags >> 6 == 3) * u16::from(input.u8()));
            *ticks = ticks.wrapping_add(if flags & 0x30 == 0x30 {
                input.u32()
            } else {
                u32::from(flags & 0x30) * 200
            });
            let mut packet = vec![0x80, (flags & 4) << 5 | (96 + track as u8)];
            packet.extend(sequence.to_be_bytes());
            packet.extend(ticks.to_be_bytes());
            packet.extend([0, 0, 0, 7]);
            packet.extend(payload);
            packet
        };
        let channel = track as u8 * 2 + (flags >> 3 & 1);
        bytes.extend([b'$', channel]);
        bytes.extend((packet.len() as u16).to_be_bytes());
        bytes.extend(packet);
    }
    bytes
}

/// One request, without a body.
async fn request(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 2048];
    while !bytes.ends_with(b"\r\n\r\n") {
        let n = socket.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        bytes.extend(&piece[..n]);
    }
    Some(bytes)
}
