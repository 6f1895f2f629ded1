//! Real object store servers for tests: built once by `tools/servers.sh`, started on free loopback ports with data
//! folders of their own, stopped by their process ids.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const KEY: &str = "tierline-tests";
pub(crate) const SECRET: &str = "not-a-secret-at-all";
pub(crate) const BUCKET: &str = "footage";

/// Writes the keys of all servers into a file in `folder`, as a configuration names it.
pub(crate) fn keys_file(folder: &Path) -> PathBuf {
    let keys = folder.join("keys");
    let text = format!("aws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(&keys, text).expect("keys");
    keys
}

/// Which server.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Minio,
    Versity,
    /// Has archive classes, and keeps everything in memory: what was in it is gone after a restart.
    Moto,
}

/// A server with one bucket. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    kind: Kind,
    address: SocketAddr,
    data: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts a server whose data lies below `folder`.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Self {
        let data = folder.join(format!("{kind:?}").to_lowercase());
        // The bucket is a folder, to both of them.
        std::fs::create_dir_all(data.join(BUCKET)).expect("data folder");
        let address = free_address();
        let mut server = Self {
            kind,
            address,
            data,
            child: None,
        };
        server.restart();
        server
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again, on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().expect("start the server"));
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{:?} does not listen on {}",
                self.kind,
                self.address
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        // It listens before it is ready.
        std::thread::sleep(Duration::from_millis(500));
        // While it was away somebody else may have taken its port, and it has ended.
        let ended = self
            .child
            .as_mut()
            .map(|child| child.try_wait().expect("a child"));
        assert_eq!(ended, Some(None), "{:?} on {}", self.kind, self.address);
        if self.kind == Kind::Moto {
            self.ask("PUT", &format!("/{BUCKET}"), "");
        }
    }

    /// From now on moto takes so long over a restore; over those of objects that are younger than that, no time.
    pub(crate) fn restores_take(&self, time: Duration) {
        self.restores_go_on(&format!(
            "\"progression\":\"time\",\"seconds\":{}",
            time.as_secs()
        ));
    }

    /// moto goes on for ever with what it is restoring, once that is older than a restore took until now.
    pub(crate) fn restores_last(&self) {
        // A restore begins when somebody looks at its object.
        let listed = self.ask("GET", &format!("/{BUCKET}?list-type=2"), "");
        for key in listed.split("<Key>").skip(1) {
            let key = key.split('<').next().unwrap_or_default();
            self.ask("HEAD", &format!("/{BUCKET}/{key}"), "");
        }
        self.restores_go_on("\"progression\":\"manual\",\"times\":1000000");
    }

    fn restores_go_on(&self, progression: &str) {
        assert_eq!(self.kind, Kind::Moto, "no other has archive classes");
        let body = format!("{{\"model_name\":\"s3::keyrestore\",\"transition\":{{{progression}}}}}");
        self.ask("POST", "/moto-api/state-manager/set-transition", &body);
    }

    /// A request whose signature is none, which moto does not look at; it must go well.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("the server");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request\r\n\
             Connection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{method} {path}: {answer}");
        answer.into_owned()
    }

    fn command(&self) -> Command {
        match self.kind {
            Kind::Minio => {
                let mut command = Command::new(program("minio"));
                let console = free_address();
                command
                    .args(["server", "--quiet", "--address", &self.address.to_string()])
                    .args(["--console-address", &console.to_string()])
                    .arg(&self.data)
                    .env("MINIO_ROOT_USER", KEY)
                    .env("MINIO_ROOT_PASSWORD", SECRET)
                    .env("MINIO_BROWSER", "off")
                    .env("MINIO_CI_CD", "1");
                command
            }
            Kind::Versity => {
                let mut command = Command::new(program("versitygw"));
                command
                    .args(["--port", &self.address.to_string(), "posix"])
                    .arg(&self.data)
                    .env("ROOT_ACCESS_KEY", KEY)
                    .env("ROOT_SECRET_KEY", SECRET);
                command
            }
            Kind::Moto => {
                let mut command = Command::new(program("moto_server"));
                let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
                command.args(["-H", &host, "-p", &port]);
                command
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server that is built where it is missing.
pub(crate) fn program(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tools/servers.sh"))
        .find(|script| script.exists())
        .expect("tools/servers.sh");
    let output = Command::new(script)
        .args(["path", name])
        .output()
        .expect("tools/servers.sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("address")
}
