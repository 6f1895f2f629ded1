//! Where a session may connect to: the address that the operator gave, and where cameras point from there.

use archive::destination::{Destination, destination, destination_of};
use retina::client::{Guard, Named};
use url::Url;

/// Where a session may connect to.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Reach {
    /// Wherever the URL leads: the operator wrote it into the configuration file.
    #[default]
    Anywhere,
    /// To networks and to this machine.
    Loopback,
    /// To networks.
    Network,
}

impl Reach {
    /// Whether a connection may be made there.
    pub fn allows(self, destination: Destination) -> bool {
        match destination {
            Destination::Network => true,
            Destination::Loopback => self != Self::Network,
            Destination::Forbidden => self == Self::Anywhere,
        }
    }

    /// What remains of it for addresses that a camera names. A camera on the network must not lead to this
    /// machine, and no camera leads to what is never a camera's.
    pub(super) fn named_by_camera(self, camera: Destination) -> Self {
        match (self, camera) {
            (Self::Anywhere | Self::Loopback, Destination::Loopback) => Self::Loopback,
            _ => Self::Network,
        }
    }

    /// The rule for one session with the camera at `url`, asked with resolved addresses.
    pub(super) fn guard(self, url: &Url) -> Guard {
        let camera = self.named_by_camera(destination(url));
        Guard::new(move |ip, named| {
            let reach = match named {
                Named::ByCaller => self,
                Named::ByServer => camera,
            };
            reach.allows(destination_of(ip))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_resolves_to_is_judged_like_an_address() {
        let url = Url::parse("rtsp://camera.example/").expect("url");
        let allowed =
            |reach: Reach, ip: &str, named| reach.guard(&url).allows(ip.parse().expect("ip"), named);
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(!allowed(Reach::Network, ip, Named::ByCaller), "{ip}");
            assert!(allowed(Reach::Loopback, ip, Named::ByCaller), "{ip}");
        }
        for ip in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0"] {
            assert!(!allowed(Reach::Loopback, ip, Named::ByCaller), "{ip}");
            assert!(!allowed(Reach::Network, ip, Named::ByCaller), "{ip}");
            assert!(!allowed(Reach::Anywhere, ip, Named::ByServer), "{ip}");
        }
        assert!(allowed(Reach::Network, "10.0.0.20", Named::ByServer));
    }

    #[test]
    fn a_camera_on_the_network_does_not_lead_to_this_machine() {
        let far = Reach::Anywhere.named_by_camera(Destination::Network);
        assert!(!far.allows(Destination::Loopback) && !far.allows(Destination::Forbidden));
        let near = Reach::Anywhere.named_by_camera(Destination::Loopback);
        assert!(near.allows(Destination::Loopback) && !near.allows(Destination::Forbidden));
    }
}
