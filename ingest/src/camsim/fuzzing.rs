//! The clips and the requests of simulated cameras under fuzzing.

use archive::fuzzing::Input;

use super::clip::Clip;
use super::rtsp::Requests;

/// A clip, an MP4 file or a raw stream: it is refused, or its packets carry its pictures.
pub fn clip(data: &[u8]) {
    let Ok(clip) = Clip::from_bytes("fuzz", data, None) else {
        return;
    };
    assert!(!clip.is_empty());
    for index in 0..clip.len().min(16) {
        let sample = clip.sample(index).expect("a picture");
        // No picture is larger than the file, lengths and repeated parameter sets apart.
        assert!(sample.len() <= 8 * data.len() + 64);
    }
    assert_eq!(clip.sample(clip.len()), None);
}

/// What clients send: requests come out the same however the bytes are cut.
pub fn requests(data: &[u8]) {
    let mut input = Input(data);
    let cut = usize::from(input.u16());
    let bytes = input.rest();
    let read = |pieces: &[&[u8]]| {
        let mut requests = Requests::default();
        let mut read = Vec::new();
        for piece in pieces {
            requests.feed(piece);
            loop {
                match requests.next() {
                    Ok(Some(request)) => read.push(Ok(request)),
                    Ok(None) => break,
                    Err(refused) => {
                        read.push(Err(refused));
                        return read;
                    }
                }
            }
        }
        read
    };
    let (front, back) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(read(&[bytes]), read(&[front, back]));
}
