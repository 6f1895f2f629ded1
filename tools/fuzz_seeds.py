#!/usr/bin/env python3
"""Real streams as inputs of the fuzz targets that read coded video: their parameter sets are too deep for chance.

    tools/fuzz_seeds.py [FOLDER]     default fuzz/corpus; writes FOLDER/TARGET/seed-*

Encodes small clips of H.264 and H.265 with ffmpeg and writes them as the targets take them: MP4 and Annex B for `clip`,
MP4 for `import`, packets for `depacketize` (RFC 6184 and 7798: single units and fragments), and a session's answers for
`rtsp_session`. `tools/fuzz.sh keep` makes a few of them and what was found from them.
"""

import pathlib
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "ingest" / "tests" / "camera"))
from sent_log import nal_type, nal_units  # noqa: E402

SOURCE = ["-f", "lavfi", "-i", "testsrc2=size=96x64:rate=5:duration=0.8"]
KINDS = {
    "h264": ["-c:v", "libx264", "-preset", "veryfast", "-crf", "40", "-g", "3"],
    "h264-interlaced": ["-c:v", "libx264", "-flags", "+ilme+ildct", "-x264opts", "tff=1:bframes=2", "-crf", "45"],
    "h264-444": ["-c:v", "libx264", "-pix_fmt", "yuv444p10le", "-crf", "45", "-x264opts", "nal-hrd=vbr:vbv-maxrate=200:vbv-bufsize=200"],
    "h265": ["-c:v", "libx265", "-preset", "ultrafast", "-crf", "40", "-x265-params", "log-level=none:keyint=3:open-gop=1"],
    "h265-10": [
        "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-crf", "45",
        "-x265-params", "log-level=none:bframes=2:hrd=1:vbv-maxrate=200:vbv-bufsize=200:aud=1:sar=2:colorprim=bt709",
    ],
}
# A packet's payload; larger units are fragmented.
PAYLOAD_BYTES = 400


def encode(arguments, path):
    command = ["ffmpeg", "-v", "error", "-y", *SOURCE, *arguments, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path.read_bytes()


def is_slice(unit, codec):
    kind = nal_type(codec, unit)
    return kind < 32 if codec == "h265" else kind in (1, 5)


def payloads(unit, codec):
    """A unit as payloads of packets."""
    if len(unit) <= PAYLOAD_BYTES:
        return [unit]
    kind = nal_type(codec, unit)
    if codec == "h265":
        head, rest = bytes([unit[0] & 0x81 | 49 << 1, unit[1]]), unit[2:]
    else:
        head, rest = bytes([unit[0] & 0xE0 | 28]), unit[1:]
    parts = [rest[at : at + PAYLOAD_BYTES] for at in range(0, len(rest), PAYLOAD_BYTES)]
    flags = [kind | (0x80 if i == 0 else 0) | (0x40 if i == len(parts) - 1 else 0) for i in range(len(parts))]
    return [head + bytes([flag]) + part for flag, part in zip(flags, parts)]


def piece(data):
    """As `Input::piece` reads it."""
    return struct.pack(">H", len(data)) + data


def packets(units, codec, later):
    """The packets of pictures of one slice each; `later` is the flag of a timestamp that has moved on."""
    out, behind_mark = b"", False
    for unit in units:
        parts = payloads(unit, codec)
        for i, part in enumerate(parts):
            mark = is_slice(unit, codec) and i == len(parts) - 1
            out += bytes([(later if behind_mark else 0) | (4 if mark else 0)]) + piece(part)
            behind_mark = mark
    return out


def depacketize(units, codec):
    return bytes([1 if codec == "h265" else 0]) + piece(b"") + packets(units, codec, later=2)


def session(units, codec):
    """A description of ours without sound, no headers of its own, and good packets."""
    return bytes([4 if codec == "h265" else 6]) + piece(b"") * 5 + packets(units, codec, later=0x20)


def main():
    if len(sys.argv) > 2 or sys.argv[1:2] == ["--help"]:
        sys.exit(__doc__)
    corpus = pathlib.Path(sys.argv[1] if len(sys.argv) == 2 else "fuzz/corpus")
    written = 0

    def write(target, name, data):
        nonlocal written
        (corpus / target).mkdir(parents=True, exist_ok=True)
        (corpus / target / f"seed-{name}").write_bytes(data)
        written += 1

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, arguments in KINDS.items():
            codec = name[:4]
            annexb = encode(arguments, folder / f"clip.{codec}")
            mp4 = encode(arguments, folder / "clip.mp4")
            fragmented = encode([*arguments, "-movflags", "frag_keyframe+empty_moov"], folder / "fragmented.mp4")
            write("clip", f"{name}.{codec}", annexb)
            for kind, data in (("progressive", mp4), ("fragmented", fragmented)):
                write("clip", f"{name}-{kind}", data)
                write("import", f"{name}-{kind}", data)
            units = nal_units(annexb)
            write("depacketize", name, depacketize(units, codec))
            write("rtsp_session", name, session(units, codec))
    print(f"fuzz_seeds: {written} inputs in {corpus}")


if __name__ == "__main__":
    main()
