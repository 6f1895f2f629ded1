"""A live viewer without eyes: polls the playlist and fetches every fragment as hls.js does, and throws it away."""

import http.client
import re
import threading
import time

READ_BYTES = 256 << 10
ENTRY = re.compile(r"#EXT-X-BYTERANGE:(\d+)@(\d+)\n(\S+)")


class Viewer(threading.Thread):
    """Watches the live stream of a camera until it is told to stop. Counts, and keeps what went wrong."""

    def __init__(self, port, camera, read_delay=0.0):
        super().__init__(daemon=True)
        self.port, self.camera, self.read_delay = port, camera, read_delay
        self.base = f"/hls/{camera}/"
        self.fragments = self.bytes = self.polls = self.missed = 0
        self.errors = []
        self.stopping = threading.Event()
        self.connection = None

    def stop(self):
        self.stopping.set()

    def get(self, path, headers=None):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            self.connection.request("GET", path, headers=headers or {})
            answer = self.connection.getresponse()
            return answer
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise

    def text(self, path):
        answer = self.get(path)
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"{path} answered {answer.status}")
        return body.decode()

    def fetch(self, path, offset, length):
        answer = self.get(path, {"Range": f"bytes={offset}-{offset + length - 1}"})
        left = length
        while left > 0:
            piece = answer.read(min(left, READ_BYTES))
            if not piece:
                break
            left -= len(piece)
            if self.read_delay:
                time.sleep(self.read_delay)
        if answer.status != 206 or left:
            raise OSError(f"{path} answered {answer.status} and lacked {left} bytes")
        self.bytes += length

    def watch(self):
        master = self.text(self.base + "live.m3u8")
        playlist = self.base + next(line for line in master.splitlines() if line.endswith(".m3u8"))
        folder = playlist.rpartition("/")[0] + "/"
        last = None
        while not self.stopping.is_set():
            begun = time.monotonic()
            body = self.text(playlist)
            self.polls += 1
            target = int(re.search(r"#EXT-X-TARGETDURATION:(\d+)", body)[1])
            first = int(re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", body)[1])
            entries = ENTRY.findall(body)
            end = first + len(entries)
            # A player begins three target durations before the end, which is about three fragments.
            begin = max(first, end - 3) if last is None else last
            self.missed += max(0, first - begin)
            for number in range(max(begin, first), end):
                length, offset, uri = entries[number - first]
                self.fetch(folder + uri, int(offset), int(length))
                self.fragments += 1
            changed = last != end
            last = end
            # As the standard asks: again after a target duration, or half of it where nothing was new.
            self.stopping.wait(max(0.0, (target if changed else target / 2) - (time.monotonic() - begun)))

    def run(self):
        while not self.stopping.is_set():
            try:
                self.watch()
            except (OSError, http.client.HTTPException, ValueError, TypeError, StopIteration) as error:
                self.errors.append(repr(error))
                self.stopping.wait(0.5)


def start(port, cameras, read_delay=0.0):
    """One viewer for each of `cameras`, which may name one several times."""
    viewers = [Viewer(port, camera, read_delay) for camera in cameras]
    for viewer in viewers:
        viewer.start()
    return viewers


def stop(viewers):
    for viewer in viewers:
        viewer.stop()
    for viewer in viewers:
        viewer.join(30)
