"""What the camera sent, one JSON object per line, for a test to compare with what was stored."""

import hashlib
import json


def nal_units(annex_b):
    """The NAL units of one access unit in Annex B form, start codes and trailing zeros removed."""
    starts, at = [], annex_b.find(b"\x00\x00\x01")
    while at >= 0:
        starts.append(at + 3)
        at = annex_b.find(b"\x00\x00\x01", at + 3)
    ends = [start - 3 for start in starts[1:]] + [len(annex_b)]
    return [annex_b[start:end].rstrip(b"\x00") for start, end in zip(starts, ends)]


def nal_type(codec, nal):
    """nal_unit_type as H.264 (5 bits) or H.265 (6 bits) defines it."""
    return nal[0] & 0x1F if codec == "h264" else (nal[0] >> 1) & 0x3F


PARAMETER_SETS = {"h264": {7, 8}, "h265": {32, 33, 34}}


def length_prefixed(nals):
    """The form that MP4 stores: a 4-byte big-endian length before each NAL unit."""
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def digest(data):
    return hashlib.sha256(data).hexdigest()


class SentLog:
    """Writes the lines. `media` counts how often the server built its pipeline anew: the clock starts over with it."""

    def __init__(self, path, codec, elementary_path):
        self.file = open(path, "w", buffering=1) if path else None
        self.elementary = open(elementary_path, "wb", buffering=0) if elementary_path else None
        self.codec = codec
        self.media = 0
        self.count = {"video": 0, "audio": 0}

    def video(self, data, pts, dts, key):
        """One access unit in Annex B form."""
        if self.elementary:
            self.elementary.write(data)
        if not self.file:
            return
        nals = nal_units(data)
        kept = [nal for nal in nals if nal_type(self.codec, nal) not in PARAMETER_SETS[self.codec]]
        line = {
            "pts": pts,
            "dts": dts,
            "key": key,
            "bytes": len(data),
            "annex_b_sha256": digest(data),
            "mp4_bytes": len(length_prefixed(nals)),
            "mp4_sha256": digest(length_prefixed(nals)),
            "mp4_bare_bytes": len(length_prefixed(kept)),
            "mp4_bare_sha256": digest(length_prefixed(kept)),
            "nals": [[nal_type(self.codec, nal), len(nal), digest(nal)] for nal in nals],
        }
        self._line("video", line)

    def audio(self, data, pts):
        """One raw AAC frame, without ADTS header."""
        if self.file:
            self._line("audio", {"pts": pts, "bytes": len(data), "sha256": digest(data)})

    def _line(self, track, fields):
        line = {"media": self.media, "track": track, "n": self.count[track], **fields}
        self.count[track] += 1
        self.file.write(json.dumps(line) + "\n")
