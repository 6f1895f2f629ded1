//! The RTSP side of one connection: answers requests until the client leaves.

use std::io::Read;
use std::sync::Arc;

use super::farm::Farm;
use super::link::{Link, Sent};
use super::packetize::Stamp;
use super::rtsp::{Request, Requests};
use super::sdp;

const METHODS: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER, SET_PARAMETER";

/// Seconds of silence after which a client must expect to be dropped. Stated, not enforced: TCP tells.
const TIMEOUT_SECONDS: u32 = 60;

/// What to do with the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Continue,
    Close,
}

struct Session<'a> {
    farm: &'a Farm,
    link: &'a Arc<Link>,
    set_up: bool,
    playing: bool,
}

/// Serves one connection to its end.
pub(super) fn serve(farm: &Farm, link: &Arc<Link>) {
    let mut session = Session {
        farm,
        link,
        set_up: false,
        playing: false,
    };
    let mut requests = Requests::default();
    let mut buffer = [0; 4096];
    loop {
        match requests.next() {
            Ok(Some(request)) => {
                if session.answer(&request) == Then::Close {
                    return;
                }
            }
            Ok(None) => match link.socket().read(&mut buffer) {
                Ok(0) => return,
                Ok(bytes) => requests.feed(buffer.get(..bytes).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            },
            Err(refused) => {
                link.send(format!("RTSP/1.0 {}\r\n\r\n", refused.0).as_bytes());
                return;
            }
        }
    }
}

impl Session<'_> {
    fn answer(&mut self, request: &Request) -> Then {
        let cseq = request.header("cseq").unwrap_or("0");
        let reply = |status: &str, rest: &str| format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{rest}\r\n");
        let camera = request.camera();
        let down = camera.map(|number| self.farm.camera(number).map(|encoder| encoder.is_down()));
        if let (Some(number), Some(Some(down))) = (camera, down) {
            self.link.set_camera(number);
            if down {
                return Then::Close;
            }
        }
        let known = camera.filter(|_| matches!(down, Some(Some(_))));
        let response = match (request.method.as_str(), known) {
            ("OPTIONS", _) => reply("200 OK", &format!("Public: {METHODS}\r\n")),
            ("DESCRIBE" | "SETUP" | "PLAY", None) => reply("404 Not Found", ""),
            ("DESCRIBE", Some(number)) => {
                let Some(sdp) = self
                    .farm
                    .camera(number)
                    .map(|encoder| sdp::describe(encoder.clip()))
                else {
                    return Then::Close;
                };
                let (base, length) = (request.uri.trim_end_matches('/'), sdp.len());
                let headers = format!(
                    "Content-Base: {base}/\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n"
                );
                reply("200 OK", &headers) + &sdp
            }
            ("SETUP", Some(number)) if asks_for_tcp(request) => {
                self.set_up = true;
                let headers = format!(
                    "Session: {};timeout={TIMEOUT_SECONDS}\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc={:08X}\r\n",
                    session_id(number),
                    super::encoder::ssrc(number),
                );
                reply("200 OK", &headers)
            }
            ("SETUP", Some(_)) => reply("461 Unsupported Transport", ""),
            ("PLAY", Some(_)) if !self.set_up => reply("455 Method Not Valid in This State", ""),
            ("PLAY", Some(number)) if !self.playing => {
                self.playing = true;
                let track = format!("{}/{}", request.uri.trim_end_matches('/'), sdp::TRACK);
                let answer = |first: Stamp| {
                    let (sequence, timestamp) = (first.sequence, first.timestamp);
                    let headers = format!(
                        "Session: {}\r\nRange: npt=now-\r\nRTP-Info: url={track};seq={sequence};rtptime={timestamp}\r\n",
                        session_id(number)
                    );
                    reply("200 OK", &headers)
                };
                self.farm.play(number, self.link.clone(), answer);
                return Then::Continue;
            }
            ("PLAY" | "GET_PARAMETER" | "SET_PARAMETER", _) => reply("200 OK", ""),
            ("TEARDOWN", _) => {
                self.link.send(reply("200 OK", "").as_bytes());
                return Then::Close;
            }
            _ => reply("501 Not Implemented", &format!("Public: {METHODS}\r\n")),
        };
        match self.link.send(response.as_bytes()) {
            Sent::Whole | Sent::Stalled => Then::Continue,
            Sent::Overrun | Sent::Closed => Then::Close,
        }
    }
}

fn session_id(camera: usize) -> String {
    format!("{:08x}", camera + 0x1000)
}

fn asks_for_tcp(request: &Request) -> bool {
    let offers = request.header("transport").unwrap_or_default();
    offers
        .split(',')
        .any(|offer| offer.trim().to_ascii_uppercase().starts_with("RTP/AVP/TCP"))
}
