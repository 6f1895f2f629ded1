//! What a hostile camera answers.

use std::net::UdpSocket;
use std::sync::atomic::Ordering;

use crate::camera::{Client, Request};
use crate::misbehaviour::Misbehaviour as M;
use crate::upstream::Upstream;

pub(crate) enum Answer {
    Say(String),
    /// A beginning, and then the same without end.
    Pour {
        head: String,
        again: String,
    },
    /// One byte a second.
    Trickle(String),
    /// Then media.
    Play(String),
    Silence,
    Close,
}

/// An answer without more than a status.
pub(crate) fn status(request: &Request, status: &str) -> String {
    with(request, status, "")
}

fn with(request: &Request, status: &str, headers: &str) -> String {
    let cseq = request.header("cseq").unwrap_or("0");
    format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{headers}\r\n")
}

/// The answer to a request.
pub(crate) fn to(client: &mut Client, request: &Request) -> Answer {
    let played = client.shared.played.load(Ordering::Relaxed);
    let known = match client.does {
        M::RefusesCredentials => false,
        M::ChangesCredentials => played == 0 || request.method != "DESCRIBE",
        M::OneTimeNonces => is_fresh(client, request),
        _ => true,
    };
    if !known {
        let nonce = client.shared.nonce.fetch_add(1, Ordering::Relaxed) + 1;
        let tried = request.header("authorization").is_some();
        client.shared.tried.fetch_add(tried.into(), Ordering::Relaxed);
        let challenge = format!(
            "WWW-Authenticate: Digest realm=\"camera {nonce}\", nonce=\"{nonce}\", algorithm=MD5\r\n"
        );
        return Answer::Say(with(request, "401 Unauthorized", &challenge));
    }
    if client.does == M::NeverAnswers {
        return Answer::Silence;
    }
    match request.method.as_str() {
        "DESCRIBE" => describe(client, request, played),
        "SETUP" => setup(client, request),
        "PLAY" => Answer::Play(with(request, "200 OK", "Session: 1\r\nRange: npt=now-\r\n")),
        "TEARDOWN" if client.does == M::KeepsSessions => Answer::Close,
        "TEARDOWN" => Answer::Say(status(request, "200 OK")),
        _ if client.does == M::IgnoresKeepalives => Answer::Silence,
        _ => Answer::Say(status(request, "200 OK")),
    }
}

/// Whether the request answers the latest challenge, which is then used up.
fn is_fresh(client: &Client, request: &Request) -> bool {
    let latest = client.shared.nonce.load(Ordering::Relaxed);
    let authorization = request.header("authorization").unwrap_or_default();
    let fresh = latest > 0 && authorization.contains(&format!("nonce=\"{latest}\""));
    client.shared.nonce.fetch_add(fresh.into(), Ordering::Relaxed);
    fresh
}

fn describe(client: &mut Client, request: &Request, played: usize) -> Answer {
    let address = client.shared.address.clone();
    let moved = |to: &str| Answer::Say(with(request, "302 Moved", &format!("Location: {to}\r\n")));
    match client.does {
        M::RedirectsToItself => return moved(&request.uri),
        M::RedirectsToMetadata => return moved("rtsp://169.254.169.254/latest/meta-data"),
        M::RedirectsOnce if !request.uri.contains("moved") => {
            return moved(&format!("rtsp://{address}/cam/0/moved"));
        }
        M::EndlessHeaders => {
            let head = with(request, "200 OK", "").trim_end().to_owned() + "\r\n";
            return Answer::Pour {
                head,
                again: "X-Filler: filler\r\n".into(),
            };
        }
        M::EndlessHeaderLine => {
            let head = "RTSP/1.0 200 OK\r\nX-Filler: ".into();
            return Answer::Pour {
                head,
                again: "filler".into(),
            };
        }
        M::TricklesHeaders => return Answer::Trickle(status(request, "200 OK")),
        _ => {}
    }
    let becomes = client.does == M::BecomesH265 && played > 0;
    let upstream = client.shared.upstream[usize::from(becomes)].clone();
    let Ok(camera) = Upstream::open(&upstream) else {
        return Answer::Close;
    };
    client.description = camera.description;
    let mut description = client.description.clone();
    if let M::Tracks(tracks) = client.does {
        description += &"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n".repeat(tracks);
    }
    let length = match client.does {
        M::EndlessDescription => (4_u64 << 30).to_string(),
        M::LengthHuge => u64::MAX.to_string(),
        M::LengthNegative => "-1".into(),
        M::LengthShort => (description.len() / 2).to_string(),
        M::LengthLong => (description.len() + 1000).to_string(),
        _ => description.len().to_string(),
    };
    let headers = format!(
        "Content-Base: rtsp://{address}/cam/0/\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n"
    );
    let head = with(request, "200 OK", &headers) + &description;
    match client.does {
        M::EndlessDescription => Answer::Pour {
            head,
            again: "a=x:filler\r\n".into(),
        },
        _ => Answer::Say(head),
    }
}

fn setup(client: &mut Client, request: &Request) -> Answer {
    let timeout = match client.does {
        M::SessionTimeout(seconds) => seconds,
        M::IgnoresKeepalives => 2,
        _ => 60,
    };
    let asked = request.header("transport").unwrap_or_default();
    let ports = asked
        .split(';')
        .find_map(|part| part.strip_prefix("client_port="));
    let transport = match ports.and_then(|ports| ports.split('-').next()?.parse::<u16>().ok()) {
        Some(port) => {
            let Some((media, reports)) = pair() else {
                return Answer::Close;
            };
            let server = media.local_addr().expect("bound").port();
            if media.connect(("127.0.0.1", port)).is_err()
                || reports.connect(("127.0.0.1", port + 1)).is_err()
            {
                return Answer::Close;
            }
            client.datagrams = Some((media, reports));
            let source = match client.does {
                M::UdpSourceElsewhere => "source=169.254.169.254;",
                _ => "",
            };
            format!(
                "RTP/AVP;unicast;{source}client_port={port}-{};server_port={server}-{}",
                port + 1,
                server + 1
            )
        }
        None => "RTP/AVP/TCP;unicast;interleaved=0-1".into(),
    };
    let headers = format!("Session: 1;timeout={timeout}\r\nTransport: {transport}\r\n");
    Answer::Say(with(request, "200 OK", &headers))
}

/// Two sockets with ports that follow one another.
fn pair() -> Option<(UdpSocket, UdpSocket)> {
    (0..100).find_map(|_| {
        let media = UdpSocket::bind("127.0.0.1:0").ok()?;
        let next = media.local_addr().ok()?.port().checked_add(1)?;
        Some((media, UdpSocket::bind(("127.0.0.1", next)).ok()?))
    })
}
