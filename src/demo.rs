//! `tierline demo`: the service with simulated cameras, to look at.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use indexer::{PRIORITY_DEFAULT, SecretUrl, StreamConfig, Transport};
use ingest::camsim;
use tiering::RetentionRule;

use crate::config::{CameraConfig, Config};
use crate::log;
use crate::serve::serve;

/// The cameras, by id and name.
const CAMERAS: [(&str, &str); 4] = [
    ("front-door", "Front door"),
    ("lobby", "Lobby"),
    ("loading-dock", "Loading dock"),
    ("parking", "Parking"),
];
/// What each camera may use, so that a forgotten demo does not fill the disk.
const QUOTA_BYTES: u64 = 2 << 30;

/// Try it: record four simulated cameras and show them on a page.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tierline demo
  tierline demo --dir /tmp/demo --listen 127.0.0.1:9000

Ctrl-C stops it. The footage stays in the folder, at most 2 GiB a camera, and is there again at the next start.")]
pub(crate) struct Args {
    /// The folder for index and footage; made when it is missing
    #[arg(long, value_name = "DIR", default_value = "demo-data")]
    dir: PathBuf,
    /// Where the page is; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let farm = camsim::start(camsim::Config {
        cameras: CAMERAS.len(),
        ..camsim::Config::default()
    })
    .context("simulating cameras")?;
    let mut config = Config {
        data_dir: std::path::absolute(&args.dir)?,
        rules: vec![RetentionRule {
            quota: Some(QUOTA_BYTES),
            ..RetentionRule::default()
        }],
        ..Config::default()
    };
    config.http.listen = args.listen;
    config.log.level = "warn".to_owned();
    for (i, (id, name)) in CAMERAS.into_iter().enumerate() {
        let main = StreamConfig {
            name: "main".parse()?,
            url: SecretUrl::new(farm.url(i).parse()?),
            transport: Transport::Tcp,
            enabled: true,
        };
        config.cameras.push(CameraConfig {
            id: id.parse()?,
            name: Some(name.to_owned()),
            priority: PRIORITY_DEFAULT,
            streams: vec![main],
        });
    }
    log::start(&config.log)?;
    let dir = config.data_dir.display().to_string();
    let code = serve(&config, |service| {
        let address = service.address();
        format!(
            "listening on http://{address}\n\n  Recording {} simulated cameras into {dir}\n  Open http://{address}/ in \
             a browser; Ctrl-C stops.\n",
            CAMERAS.len()
        )
    });
    farm.stop();
    code
}
