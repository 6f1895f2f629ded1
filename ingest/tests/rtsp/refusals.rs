//! What a session says when a server does not play along.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use archive::GapCause;

use crate::recording::{Recording, config, record, runtime};

/// A server that says `answers`, one after each request, and then holds the connection open.
fn server(answers: &[&str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let answers: Vec<String> = answers.iter().map(|a| (*a).to_owned()).collect();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let answers = answers.clone();
            std::thread::spawn(move || {
                for (i, answer) in answers.iter().enumerate() {
                    let mut request = [0; 4096];
                    if socket.read(&mut request).is_ok_and(|n| n > 0) {
                        let _ = socket.write_all(answer.replace("CSEQ", &(i + 1).to_string()).as_bytes());
                    }
                }
                let _ = socket.read(&mut [0; 4096]);
                std::thread::sleep(Duration::from_secs(20));
            });
        }
    });
    format!("rtsp://viewer:s3cret@{address}/cam")
}

fn described(sdp: &str) -> String {
    let n = sdp.len();
    format!(
        "RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\nContent-Type: application/sdp\r\nContent-Length: {n}\r\n\r\n{sdp}"
    )
}

fn attempt(url: &str) -> (GapCause, String, Duration) {
    let begin = Instant::now();
    let mut config = config(url);
    config.limits.answer = Duration::from_secs(1);
    config.limits.no_data = Duration::from_secs(1);
    let recording: Recording = runtime().block_on(record(&config, |_| false));
    let error = recording.end.expect("an error");
    let text = error.to_string();
    assert!(!text.contains("s3cret") && !text.contains("viewer"), "{text}");
    assert!(!text.is_empty() && !text.contains('\n'), "{text}");
    (error.cause(), text, begin.elapsed())
}

const VIDEO: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n";

#[test]
fn a_silent_server_is_unreachable_in_time() {
    let (cause, text, took) = attempt(&server(&[]));
    assert_eq!(cause, GapCause::Unreachable, "{text}");
    assert!((1.0..2.5).contains(&took.as_secs_f32()), "{took:?}");
}

#[test]
fn a_closed_port_and_a_closed_connection_are_unreachable() {
    let (cause, text, _) = attempt("rtsp://viewer:s3cret@127.0.0.1:1/cam");
    assert_eq!(cause, GapCause::Unreachable, "{text}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let (cause, text, _) = attempt(&format!("rtsp://viewer:s3cret@{address}/cam"));
    assert_eq!(cause, GapCause::Unreachable, "{text}");
}

#[test]
fn an_error_answer_is_a_refusal() {
    let digest = "RTSP/1.0 401 Unauthorized\r\nCSeq: CSEQ\r\n\
        WWW-Authenticate: Digest realm=\"x\", nonce=\"1\", algorithm=MD5\r\n\r\n";
    for (answers, status) in [
        (vec![digest, digest], "401"),
        (
            vec!["RTSP/1.0 404 s3cret viewer is not here\r\nCSeq: CSEQ\r\n\r\n"],
            "404",
        ),
        (vec!["RTSP/1.0 403 Forbidden\r\nCSeq: CSEQ\r\n\r\n"], "403"),
        (
            vec!["RTSP/1.0 453 Not Enough Bandwidth\r\nCSeq: CSEQ\r\n\r\n"],
            "453",
        ),
        (vec!["RTSP/1.0 302 Moved\r\nCSeq: CSEQ\r\n\r\n"], "302"),
        (
            vec![
                &*described(VIDEO),
                "RTSP/1.0 461 Unsupported transport\r\nCSeq: CSEQ\r\n\r\n",
            ],
            "461",
        ),
    ] {
        let (cause, text, _) = attempt(&server(&answers));
        assert_eq!(cause, GapCause::Refused, "{text}");
        assert!(text.contains(status), "{text}");
    }
}

#[test]
fn a_description_without_video_of_ours_is_unsupported() {
    let audio =
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\na=control:trackID=0\r\n";
    let jpeg =
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:trackID=0\r\n";
    for sdp in [audio, jpeg, "nonsense", ""] {
        let (cause, text, _) = attempt(&server(&[&described(sdp)]));
        assert_eq!(cause, GapCause::Unsupported, "{sdp}: {text}");
    }
    let long = format!("{VIDEO}a=x:{}\r\n", "y".repeat(100_000));
    let (cause, text, _) = attempt(&server(&[&described(&long)]));
    assert_eq!(
        (cause, &*text),
        (GapCause::Unsupported, "the camera's description is too long")
    );
    let many = format!(
        "{VIDEO}{}",
        "m=audio 0 RTP/AVP 0\r\na=control:trackID=1\r\n".repeat(100)
    );
    let (cause, text, _) = attempt(&server(&[&described(&many)]));
    assert_eq!(cause, GapCause::Unsupported, "{text}");
}

#[test]
fn a_server_that_agrees_to_play_and_sends_nothing_has_no_data() {
    let setup = "RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\nSession: 1;timeout=60\r\n\
        Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n";
    let play = "RTSP/1.0 200 OK\r\nCSeq: CSEQ\r\nSession: 1\r\n\r\n";
    let (cause, text, took) = attempt(&server(&[&described(VIDEO), setup, play]));
    assert_eq!(cause, GapCause::NoData, "{text}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn bytes_that_are_not_rtsp_end_the_attempt() {
    for garbage in ["HTTP/1.1 200 OK\r\n\r\n", "\0\0\0\0", "$$$$\r\n\r\n"] {
        let (cause, text, took) = attempt(&server(&[garbage]));
        assert_eq!(cause, GapCause::Unreachable, "{text}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}
