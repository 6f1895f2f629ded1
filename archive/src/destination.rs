//! Where an address leads: the one rule for every connection that a camera's URL makes this service open.
//!
//! A camera URL must not lead to what only this machine should reach. Its text is judged when a camera is
//! added; what its name resolves to, and where the camera points from there, when a session connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Where a camera URL points, as far as its text tells. Names are checked again when they are resolved.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// This machine.
    Loopback,
    /// Never a camera: link-local and cloud metadata addresses, multicast, the unspecified address.
    Forbidden,
    /// Anything else.
    Network,
}

/// Where `url` points. Addresses in every notation that resolvers take count as addresses.
pub fn destination(url: &Url) -> Destination {
    // Only for `http` does the URL standard read `0x7f.1` or `2130706433` as the address that it is.
    let host = url
        .host_str()
        .filter(|h| !h.is_empty())
        .and_then(|h| Url::parse(&format!("http://{h}/")).ok());
    match host.as_ref().and_then(Url::host) {
        None => Destination::Forbidden,
        Some(Host::Ipv4(ip)) => of_v4(ip),
        Some(Host::Ipv6(ip)) => of_v6(ip),
        Some(Host::Domain(name)) => of_name(name.trim_end_matches('.')),
    }
}

/// Where an address points; for names once they are resolved.
pub fn destination_of(ip: IpAddr) -> Destination {
    match ip {
        IpAddr::V4(ip) => of_v4(ip),
        IpAddr::V6(ip) => of_v6(ip),
    }
}

fn of_name(name: &str) -> Destination {
    let name = name.to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return Destination::Loopback;
    }
    if matches!(
        name.as_str(),
        "metadata" | "metadata.google.internal" | "instance-data"
    ) {
        return Destination::Forbidden;
    }
    Destination::Network
}

fn of_v4(ip: Ipv4Addr) -> Destination {
    if ip.is_loopback() {
        Destination::Loopback
    } else if ip.is_link_local() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0 {
        Destination::Forbidden
    } else {
        Destination::Network
    }
}

fn of_v6(ip: Ipv6Addr) -> Destination {
    if let Some(v4) = ip.to_ipv4_mapped().or_else(|| nat64(ip)) {
        return of_v4(v4);
    }
    let aws_metadata = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if ip.is_loopback() {
        Destination::Loopback
    } else if ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified() || ip == aws_metadata {
        Destination::Forbidden
    } else {
        Destination::Network
    }
}

/// The address within `64:ff9b::/96` or the deprecated `::/96`.
fn nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = ip.segments();
    let inside = matches!(
        [a, b, c, d, e, f],
        [0x64, 0xff9b, 0, 0, 0, 0] | [0, 0, 0, 0, 0, 0]
    );
    let special = ip.is_loopback() || ip.is_unspecified();
    (inside && !special).then(|| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_in_every_notation() {
        for host in [
            "127.0.0.1",
            "localhost",
            "a.localhost",
            "[::1]",
            "0x7f.1",
            "2130706433",
            "[::ffff:127.0.0.1]",
            "0177.1",
        ] {
            let url = Url::parse(&format!("rtsp://{host}:554/")).expect("url");
            assert_eq!(destination(&url), Destination::Loopback, "{host}");
        }
    }
}
