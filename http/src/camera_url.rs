//! Which URLs a camera may have. A camera URL makes this service connect to where it points, so it must not
//! point at what only this machine should reach.

use archive::destination::{Destination, destination};
use url::Url;

const URL_BYTES_MAX: usize = 2048;

/// Reads a camera's URL. The error says what to change.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    let too_long = || format!("the URL is longer than {URL_BYTES_MAX} bytes");
    if text.len() > URL_BYTES_MAX {
        return Err(too_long());
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("the URL holds spaces or control characters".to_owned());
    }
    let url = Url::parse(text).map_err(|e| format!("not a URL: {e}"))?;
    // Written as it is kept: what is no ASCII takes three times its bytes.
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(too_long());
    }
    match url.scheme() {
        "rtsp" => {}
        "rtsps" => {
            return Err(
                "RTSP over TLS is not supported yet: use rtsp:// within a trusted network".to_owned(),
            );
        }
        _ => return Err("the URL must begin with rtsp://".to_owned()),
    }
    if destination(&url) == Destination::Forbidden {
        return Err("this address is never a camera's".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rtsp_urls_with_a_host_are_cameras() {
        assert!(parse("rtsp://user:pa%40ss@10.0.0.20:554/stream1?x=1").is_ok());
        assert!(parse("rtsp://camera.example/live").is_ok());
        for bad in [
            "http://10.0.0.20/",
            "file:///etc/passwd",
            "exec:ffmpeg",
            "rtsp:///path",
            "rtsp:x",
            "10.0.0.20",
            "rtsp://10.0.0.20/a b",
            "rtsp://10.0.0.20/\r\nX: y",
            "",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("rtsps://10.0.0.20/").is_err_and(|e| e.contains("not supported")));
        assert!(parse(&format!("rtsp://10.0.0.20/{}", "x".repeat(3000))).is_err());
        assert!(parse(&format!("rtsp://10.0.0.20/{}", "ü".repeat(900))).is_err());
    }

    #[test]
    fn metadata_and_link_local_addresses_are_refused_in_every_notation() {
        for bad in [
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::169.254.169.254]",
            "0xa9.254.169.254",
            "2852039166",
            "metadata.google.internal",
            "METADATA.google.internal.",
            "[fd00:ec2::254]",
            "0.0.0.0",
            "[::]",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(parse(&format!("rtsp://{bad}/")).is_err(), "{bad}");
        }
    }
}
