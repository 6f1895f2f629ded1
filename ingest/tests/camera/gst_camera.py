#!/usr/bin/python3
"""An RTSP camera made of GStreamer's own server and encoders, for tests. See README.md beside this file."""

import argparse
import os
import signal
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer, GstVideo  # noqa: E402

from sent_log import SentLog  # noqa: E402

# From 1900, where NTP counts, to 1970, where the host counts.
NTP_TO_UNIX_S = 2_208_988_800
# Lengths in frames that --variable-gop goes through, within any sensible --gop.
VARIABLE_GOPS = [25, 7, 40, 3, 12]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--codec", choices=["h264", "h265"], default="h264")
    parser.add_argument("--audio", choices=["aac", "none"], default="none")
    parser.add_argument("--bframes", type=int, default=0)
    parser.add_argument("--gop", type=int, default=30, help="longest distance of keyframes, in frames")
    parser.add_argument("--variable-gop", action="store_true", help="keyframes at irregular distances")
    parser.add_argument("--open-gop", action="store_true", help="pictures that lead a keyframe may refer past it")
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--vfr", action="store_true", help="leave out 2 of 7 frames: a variable frame rate")
    parser.add_argument("--size", default="640x360", metavar="WxH")
    parser.add_argument("--size2", default="320x240", metavar="WxH", help="where SIGUSR1 switches to and back")
    parser.add_argument("--bitrate", type=int, default=500, help="kbit/s")
    parser.add_argument("--sei", action="store_true", help="H.264 timing SEI in every access unit")
    parser.add_argument("--aud", action="store_true", help="access unit delimiters")
    parser.add_argument("--user", help="ask for this user by digest authentication")
    parser.add_argument("--password", default="")
    parser.add_argument("--clock-offset-ms", type=float, default=0, help="the camera's clock is ahead of the host's")
    parser.add_argument("--clock-drift-ppm", type=float, default=0, help="and runs faster")
    parser.add_argument("--hash-log", metavar="FILE", help="one JSON line per access unit sent")
    parser.add_argument("--es-log", metavar="FILE", help="the video elementary stream as sent")
    return parser.parse_args()


def raw_caps(size, fps):
    width, height = (int(side) for side in size.split("x"))
    return f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"


def encoder(a):
    """The encoder in Annex B form, whole access units, with the parameter sets in band before every keyframe."""
    common = f"name=enc bitrate={a.bitrate} key-int-max={a.gop}"
    options = [f"open-gop={int(a.open_gop)}"]
    if a.codec == "h264":
        if a.sei:
            options.append("nal-hrd=vbr:force-cfr=1")
        # zerolatency would switch B-frames off again.
        delay = "rc-lookahead=0 sync-lookahead=0" if a.bframes else "tune=zerolatency"
        return (
            f"x264enc {common} speed-preset=superfast {delay} bframes={a.bframes} b-adapt=false aud={a.aud}"
            f" option-string={':'.join(options)}"
            # h264parse would add an access unit delimiter to every frame.
            " ! video/x-h264,profile=high,stream-format=byte-stream,alignment=au"
        )
    # x265 refuses a lookahead no longer than the run of B-frames.
    options += [f"bframes={a.bframes}", "b-adapt=0", f"rc-lookahead={a.bframes + 1}", f"aud={int(a.aud)}"]
    options += ["frame-threads=1", "info=0"]
    return (
        f"x265enc {common} speed-preset=ultrafast tune=0 option-string={':'.join(options)}"
        " ! h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au"
    )


def launch_line(a):
    """The pipeline behind the URL. `sent` and `sent_audio` see exactly what the RTP payloaders take."""
    payloader = {"h264": "rtph264pay", "h265": "rtph265pay"}[a.codec]
    line = (
        f"( videotestsrc is-live=true pattern=ball ! capsfilter name=size caps={raw_caps(a.size, a.fps)}"
        f" ! clockoverlay time-format=%F\\ %T ! timeoverlay valignment=bottom ! identity name=raw"
        f" ! {encoder(a)} ! identity name=sent ! {payloader} name=pay0 pt=96"
    )
    if a.audio == "aac":
        line += (
            " audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=48000,channels=2 ! audioconvert"
            " ! avenc_aac bitrate=64000 ! aacparse ! audio/mpeg,stream-format=raw"
            " ! identity name=sent_audio ! rtpmp4gpay name=pay1 pt=97"
        )
    return line + " )"


class CameraClock:
    """A pipeline clock that tells NTP time as a camera with a wrong clock would."""

    def __init__(self, a):
        self.wrong = a.clock_offset_ms != 0 or a.clock_drift_ppm != 0
        self.clock = Gst.SystemClock.obtain()
        if not self.wrong:
            return
        self.clock = type(self.clock)(name="camera", clock_type="realtime")
        now = self.clock.get_internal_time()
        told = now + NTP_TO_UNIX_S * Gst.SECOND + int(a.clock_offset_ms * Gst.MSECOND)
        self.clock.set_calibration(now, told, 1_000_000_000 + int(a.clock_drift_ppm * 1000), 1_000_000_000)

    def apply(self, factory, media_rtpbin):
        """Called with a factory before, or an rtpbin once a media is made."""
        if not self.wrong:
            return
        if factory:
            factory.set_clock(self.clock)
        if media_rtpbin:
            media_rtpbin.set_property("ntp-time-source", 3)


class Camera:
    """The server, its one shared media, and what a signal changes on it."""

    def __init__(self, a):
        self.a = a
        self.log = SentLog(a.hash_log, a.codec, a.es_log)
        self.clock = CameraClock(a)
        self.size = a.size
        self.size_filter = None
        self.frame = 0
        self.next_key = 0
        self.gop_index = 0

        self.server = GstRtspServer.RTSPServer()
        self.server.set_address("127.0.0.1")
        self.server.set_service(str(a.port))
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(launch_line(a))
        # One encoder however many watch.
        factory.set_shared(True)
        factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP)
        factory.connect("media-configure", self.configure)
        self.clock.apply(factory, None)
        if a.user:
            self.require_login(factory)
        self.server.get_mount_points().add_factory("/stream", factory)

    def require_login(self, factory):
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_digest(self.a.user, self.a.password, token)
        self.server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)

    def start(self):
        """Listens and returns the URL."""
        if self.server.attach(None) == 0:
            sys.exit(f"cannot listen on port {self.a.port}")
        GLib.timeout_add_seconds(2, self.forget_dead_sessions)
        return f"rtsp://127.0.0.1:{self.server.get_bound_port()}/stream"

    def forget_dead_sessions(self):
        self.server.get_session_pool().cleanup()
        return True

    def configure(self, _factory, media):
        """A pipeline was built: for the first client, and again when all had gone."""
        self.log.media += 1
        self.frame = self.next_key = self.gop_index = 0
        bin_ = media.get_element()
        self.size_filter = bin_.get_by_name("size")
        self.size_filter.set_property("caps", Gst.Caps.from_string(raw_caps(self.size, self.a.fps)))
        probe = Gst.PadProbeType.BUFFER
        bin_.get_by_name("raw").get_static_pad("src").add_probe(probe, self.on_raw)
        bin_.get_by_name("sent").get_static_pad("src").add_probe(probe, self.on_video)
        audio = bin_.get_by_name("sent_audio")
        if audio:
            audio.get_static_pad("src").add_probe(probe, self.on_audio)
        if self.clock.wrong:
            media.connect("prepared", self.on_prepared)

    def on_prepared(self, media):
        rtpbin = media.get_stream(0) and media.get_element().get_parent().get_by_name("rtpbin0")
        self.clock.apply(None, rtpbin)

    def on_raw(self, pad, _info):
        frame, self.frame = self.frame, self.frame + 1
        if self.a.vfr and frame % 7 in (3, 4):
            return Gst.PadProbeReturn.DROP
        if self.a.variable_gop and frame >= self.next_key:
            self.next_key = frame + VARIABLE_GOPS[self.gop_index % len(VARIABLE_GOPS)]
            self.gop_index += 1
            none = Gst.CLOCK_TIME_NONE
            event = GstVideo.video_event_new_downstream_force_key_unit(none, none, none, True, 0)
            pad.get_peer().send_event(event)
        return Gst.PadProbeReturn.OK

    def on_video(self, _pad, info):
        buffer = info.get_buffer()
        key = not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT)
        self.log.video(buffer.extract_dup(0, buffer.get_size()), buffer.pts, buffer.dts, key)
        return Gst.PadProbeReturn.OK

    def on_audio(self, _pad, info):
        buffer = info.get_buffer()
        self.log.audio(buffer.extract_dup(0, buffer.get_size()), buffer.pts)
        return Gst.PadProbeReturn.OK

    def switch_size(self):
        """The encoder starts over with the other size: new parameter sets, in band, before a keyframe."""
        self.size = self.a.size2 if self.size == self.a.size else self.a.size
        if self.size_filter:
            self.size_filter.set_property("caps", Gst.Caps.from_string(raw_caps(self.size, self.a.fps)))
        print(f"size {self.size} at {time.time():.3f}", flush=True)
        return True


def main():
    a = arguments()
    Gst.init(None)
    camera = Camera(a)
    loop = GLib.MainLoop()
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, camera.switch_size)
    for stop in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, stop, loop.quit)
    print(camera.start(), flush=True)
    loop.run()
    # The encoder's threads are not worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    main()
