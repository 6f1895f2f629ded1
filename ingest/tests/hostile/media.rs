//! What a hostile camera sends.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::camera::{Client, Shared, spawn};
use crate::forge::{self, HEADER_BYTES, Header};
use crate::misbehaviour::Misbehaviour as M;
use crate::udp::Datagrams;
use crate::upstream::Upstream;

/// Honest at first for so many packets: a few pictures, mostly a keyframe among them.
const HONEST_PACKETS: u64 = 150;
/// What a packet carries at most when nothing has to fit into a network's frame.
const LARGE_BYTES: usize = 60_000;

/// Begins to send. False ends the connection.
pub(crate) fn start(client: &mut Client) -> bool {
    let played = client.shared.played.fetch_add(1, Ordering::Relaxed);
    let becomes = client.does == M::BecomesH265 && played > 0;
    let url = client.shared.upstream[usize::from(becomes)].clone();
    let Ok(mut upstream) = Upstream::open(&url) else {
        return false;
    };
    let Ok(socket) = client.socket.try_clone() else {
        return false;
    };
    let mut pump = Pump {
        does: client.does,
        shared: client.shared.clone(),
        socket,
        upstream: None,
        datagrams: client
            .datagrams
            .take()
            .map(|sockets| Datagrams::new(client.does, sockets)),
        packets: 0,
        keyframes: 0,
        sequence_shift: 0,
        timestamp_shift: 0,
        held: None,
        shifted_at: Instant::now(),
        session: played,
    };
    spawn(move || {
        // An error is the client's leaving.
        let _ = upstream.play(&url).and_then(|()| pump.run(upstream));
    });
    true
}

struct Pump {
    does: M,
    shared: Arc<Shared>,
    socket: TcpStream,
    /// Where genuine media comes from, until it is no longer needed: unread it would pile up there.
    upstream: Option<Upstream>,
    datagrams: Option<Datagrams>,
    packets: u64,
    keyframes: u64,
    sequence_shift: u16,
    timestamp_shift: u32,
    /// The timestamp of the first packet that did not tell its own.
    held: Option<u32>,
    shifted_at: Instant,
    session: usize,
}

impl Pump {
    fn run(&mut self, upstream: Upstream) -> io::Result<()> {
        self.upstream = Some(upstream);
        while let Some(upstream) = &mut self.upstream {
            let packet = upstream.next()?;
            if self.does == M::SendsNothing {
                continue;
            }
            if packet.is_report {
                self.interleaved(1, &packet.bytes)?;
                continue;
            }
            self.packets += 1;
            self.spoil(packet.bytes)?;
        }
        Ok(())
    }

    /// Sends a packet or what comes instead of it.
    fn spoil(&mut self, mut packet: Vec<u8>) -> io::Result<()> {
        let (kind, begins) = forge::nal_type(&packet[HEADER_BYTES..]);
        self.keyframes += u64::from(kind == 5 && begins);
        let due = self.packets > HONEST_PACKETS;
        let now_and_then = due && self.packets.is_multiple_of(50);
        let does = self.does;
        match does {
            M::StallsMidFrame if due => {
                self.socket.write_all(&[b'$', 0, 4, 0])?;
                self.socket.write_all(&packet[..100.min(packet.len())])?;
                // The connection stays open; its other thread holds it.
                self.upstream = None;
                return Ok(());
            }
            M::HalfCloses if due => {
                self.socket.shutdown(Shutdown::Write)?;
                // The connection stays open; its other thread holds it.
                self.upstream = None;
                return Ok(());
            }
            M::KeepsSessions if due => return self.socket.shutdown(Shutdown::Both),
            M::ChangesCredentials | M::BecomesH265 if due && self.session == 0 => {
                return self.socket.shutdown(Shutdown::Both);
            }
            M::TearsDown if now_and_then => self.request("TEARDOWN")?,
            M::TearsDownAndStops if due => {
                self.request("TEARDOWN")?;
                // The connection stays open; its other thread holds it.
                self.upstream = None;
                return Ok(());
            }
            M::LengthOfFrameWrong if now_and_then => {
                let length = (packet.len() + 37) as u16;
                self.socket.write_all(&[b'$', 0])?;
                self.socket.write_all(&length.to_be_bytes())?;
                return self.socket.write_all(&packet);
            }
            M::GarbageBetweenFrames if now_and_then => self.socket.write_all(&[0xa5; 77])?,
            M::UnknownChannels => self.interleaved((self.packets % 200) as u8 + 50, &[0x5a; 1000])?,
            M::FloodsInPicture if due && !Header::of(&packet).marker => {
                self.shift(&mut packet);
                self.interleaved(0, &packet)?;
                self.flood(77, &[0x5a; 1000])?;
            }
            M::TimestampsJump if self.every(Duration::from_secs(2)) => {
                self.timestamp_shift = self.timestamp_shift.wrapping_add(3600 * 90_000);
            }
            M::TimestampsGoBack if self.every(Duration::from_secs(2)) => {
                self.timestamp_shift = self.timestamp_shift.wrapping_sub(600 * 90_000);
            }
            M::TimestampsStop | M::TimestampsCrawl if due => {
                let told = Header::of(&packet).timestamp;
                let held = *self.held.get_or_insert(told);
                let passed = if does == M::TimestampsStop {
                    0
                } else {
                    told.wrapping_sub(held) / 3
                };
                packet[4..8].copy_from_slice(&held.wrapping_add(passed).to_be_bytes());
            }
            M::ParametersEverySecond if kind == 7 => {
                packet[HEADER_BYTES + 3] = self.keyframes as u8 % 20 + 30
            }
            M::NoKeyframe => forge::without_keyframe(&mut packet[HEADER_BYTES..]),
            M::OneKeyframe if self.keyframes > 1 => forge::without_keyframe(&mut packet[HEADER_BYTES..]),
            M::ChangesSource if due => packet[8] ^= 0xff,
            M::SequenceJumps if now_and_then => self.sequence_shift = self.sequence_shift.wrapping_add(1000),
            M::SequenceGoesBack if due => self.sequence_shift = 0x9000,
            M::Goodbye if now_and_then => self.interleaved(1, &goodbye(Header::of(&packet).ssrc))?,
            M::GarbageReports if now_and_then => self.interleaved(1, &[0xff; 40])?,
            _ if due => return self.forge(&packet),
            _ => {}
        }
        self.shift(&mut packet);
        self.interleaved(0, &packet)
    }

    /// Packets of its own making, from a picture's end on.
    fn forge(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut header = Header::of(packet);
        let due = header.marker;
        if due {
            // The picture ends well; what is forged follows it.
            let mut packet = packet.to_vec();
            self.shift(&mut packet);
            self.interleaved(0, &packet)?;
            header.sequence = header.sequence.wrapping_add(self.sequence_shift).wrapping_add(1);
        }
        match self.does {
            M::ParametersHuge if due => {
                self.insert(header, &[&[0x67, 66, 0, 52][..], &[0x55; 10_000]].concat())
            }
            M::PictureTooLarge if due => self.insert(header, &forge::sps(4096)),
            M::EmptyPacket if due => self.insert(header, &[]),
            M::EmptyAggregate if due => self.insert(header, &[24, 0, 0, 1]),
            M::TruncatedFragment if due => self.insert(header, &[28 | 0x60]),
            M::FragmentWithoutEnd if due => self.insert(header, &[28 | 0x60, 0x80 | 1, 1, 2, 3]),
            M::FloodsUnknownChannel if due => self.flood(77, &[0x5a; 4]),
            M::FloodsReports if due => self.flood(1, &[0x80, 201, 0, 1, 0, 0, 0, 0]),
            M::EndlessPicture if due => {
                self.endless(header, &[&[28 | 0x60, 1][..], &[0x5a; LARGE_BYTES]].concat())
            }
            M::EndlessNals if due => {
                let nals = [&[24 | 0x60][..], &[0, 1, 6].repeat(LARGE_BYTES / 3)].concat();
                self.endless(header, &nals)
            }
            M::LargePictures(mib) if due => self.large(header, mib << 20),
            M::PaddingWrong | M::ExtensionWrong | M::SourcesWrong => {
                let mut packet = packet.to_vec();
                match self.does {
                    M::PaddingWrong => {
                        packet[0] |= 0x20;
                        packet.truncate(100);
                        *packet.last_mut().expect("a header") = 255;
                    }
                    M::ExtensionWrong => {
                        packet[0] |= 0x10;
                        packet.truncate(HEADER_BYTES);
                        packet.extend_from_slice(&[0xbe, 0xde, 0xff, 0xff, 0]);
                    }
                    _ => {
                        packet[0] |= 0x0f;
                        packet.truncate(HEADER_BYTES + 20);
                    }
                }
                self.interleaved(0, &packet)
            }
            M::GarbageDatagrams if due => self.interleaved(0, &[0x17; 300]),
            _ if due => Ok(()),
            _ => {
                let mut packet = packet.to_vec();
                self.shift(&mut packet);
                self.interleaved(0, &packet)
            }
        }
    }

    /// A packet after the picture that ended with `header`, as the beginning of the next.
    fn insert(&mut self, header: Header, payload: &[u8]) -> io::Result<()> {
        self.sequence_shift = self.sequence_shift.wrapping_add(1);
        let next = Header {
            marker: false,
            timestamp: header.timestamp.wrapping_add(3000),
            ..header
        };
        self.interleaved(0, &next.packet(payload))
    }

    /// The same payload without end, all of one picture.
    fn endless(&mut self, header: Header, payload: &[u8]) -> io::Result<()> {
        let mut next = Header {
            marker: false,
            timestamp: header.timestamp.wrapping_add(3000),
            ..header
        };
        let mut first = payload.to_vec();
        if first[0] & 0x1f == 28 {
            first[1] |= 0x80;
        }
        self.interleaved(0, &next.packet(&first))?;
        self.upstream = None;
        loop {
            next.sequence = next.sequence.wrapping_add(1);
            self.interleaved(0, &next.packet(payload))?;
            if self.datagrams.is_some() {
                // A datagram that its socket has no room for is lost, and its picture with it.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// The same on one channel without end, faster than anybody can take it apart.
    fn flood(&mut self, channel: u8, bytes: &[u8]) -> io::Result<()> {
        let [high, low] = (bytes.len() as u16).to_be_bytes();
        let frame = [&[b'$', channel, high, low], bytes].concat();
        let many = frame.repeat((256 << 10) / frame.len());
        self.upstream = None;
        loop {
            self.socket.write_all(&many)?;
        }
    }

    /// Whole pictures of this size, one a second.
    fn large(&mut self, header: Header, bytes: usize) -> io::Result<()> {
        let mut next = header;
        self.upstream = None;
        loop {
            next.timestamp = next.timestamp.wrapping_add(90_000);
            let pieces = bytes / LARGE_BYTES;
            for piece in 0..pieces {
                let bits = u8::from(piece == 0) << 7 | u8::from(piece + 1 == pieces) << 6;
                next.marker = piece + 1 == pieces;
                let payload = [&[28 | 0x60, bits | 5][..], &[0x5a; LARGE_BYTES]].concat();
                self.interleaved(0, &next.packet(&payload))?;
                next.sequence = next.sequence.wrapping_add(1);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn shift(&self, packet: &mut [u8]) {
        let header = Header::of(packet);
        packet[2..4].copy_from_slice(&header.sequence.wrapping_add(self.sequence_shift).to_be_bytes());
        packet[4..8].copy_from_slice(&header.timestamp.wrapping_add(self.timestamp_shift).to_be_bytes());
    }

    fn every(&mut self, time: Duration) -> bool {
        let due = self.shifted_at.elapsed() >= time;
        if due {
            self.shifted_at = Instant::now();
        }
        due
    }

    fn request(&mut self, method: &str) -> io::Result<()> {
        let address = &self.shared.address;
        let request = format!("{method} rtsp://{address}/cam/0 RTSP/1.0\r\nCSeq: 1\r\nSession: 1\r\n\r\n");
        self.socket.write_all(request.as_bytes())
    }

    fn interleaved(&mut self, channel: u8, bytes: &[u8]) -> io::Result<()> {
        if let Some(datagrams) = &mut self.datagrams {
            return datagrams.send(channel, bytes);
        }
        let length = bytes.len() as u16;
        let [high, low] = length.to_be_bytes();
        self.socket
            .write_all(&[&[b'$', channel, high, low], bytes].concat())
    }
}

/// RTCP: an empty receiver report and a BYE.
fn goodbye(ssrc: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, 201, 0, 1];
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(&[0x81, 203, 0, 1]);
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes
}
