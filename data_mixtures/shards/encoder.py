"""Frames of one episode and camera to H.264 packets, each frame one, without a container.

Measured on 4 real and simulated clips at 256 px (microseconds of one core a decoded frame; a window is 16 frames from
a random one on, a single any frame; decoding alone, on a busy machine):

    gop, crf 23                 bytes a frame   PSNR dB   frame   window ms   single ms
      4  yuv420p                2064            35.6      163     2.9         0.41
      8  yuv420p                1518            35.7      130     2.5         0.59
     16  yuv420p                1198            35.5      120     2.8         1.02
      8  yuv444p                1635            35.9      233     4.6         1.05

So 8: windows are fastest, single frames cost half of GOP 16. 4:4:4 costs twice the time (its conversion to RGB, not in
the table, four times), and camera pictures of this size hold no more colour. It is there for small renders, whose
colours 4:2:0 blurs, with a lower CRF: x264 spends less on full-size colour planes. Slower presets give 0.6 dB at the
same size for twice the encoding time.

As set below, over 5 clips: 36.0 dB (2.6 levels of 255) at 1.4 kB a frame; 4:4:4 40.1 dB (1.6) at 3.1 kB. CRF 25 gives
36.9 dB at 1.7 kB; its frames take 16 % longer to decode. LeRobot's default (AV1, every second frame a keyframe) gives
37.1 dB at 4.4 kB (4 of the clips). The table is from before the macroblock tree was turned off.
"""

from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter

PixelFormat = Literal["yuv420p", "yuv444p"]

GOP = 8
CRF = {"yuv420p": 27, "yuv444p": 20}
_X264 = ":".join(
    [
        f"keyint={GOP}:min-keyint={GOP}:scenecut=0:open-gop=0:bframes=0",  # keyframes are where the row number says
        "threads=1:repeat-headers=1:annexb=1",
        # x264's macroblock tree gave other bytes in some runs on the same frames, with one thread: 27 of 150 at 48 px,
        # 3 of 100 at 96 (none of 200 at 64). With the settings here 380 of 380 agreed, 32 to 256 px.
        "mbtree=0:rc-lookahead=0:ipratio=1.8",
        "aq-mode=0",  # 0.4 dB; adaptive quantisation is for eyes
        "partitions=i8x8,p8x8",  # without i4x4 the same picture decodes 3 % faster
    ]
)
# fastdecode leaves out CABAC and deblocking
_OPTIONS = {"preset": "veryfast", "tune": "fastdecode", "x264-params": _X264}


def settings(pixel_format: PixelFormat) -> str:
    """The settings in words; other words, other bytes."""
    return f"libx264 {pixel_format} veryfast fastdecode crf={CRF[pixel_format]}:{_X264}"


class PacketEncoder:
    """Encodes one episode of one camera; a pure function of its frames.

    Every `GOP`-th frame from the first on is a keyframe that nothing after it looks behind, with the decoder's
    headers in front: any group of pictures decodes alone.

    Args:
        size: height and width in pixels, even.
        pixel_format: of the encoded pictures.
    """

    def __init__(self, size: int, pixel_format: PixelFormat) -> None:
        context = av.CodecContext.create("libx264", "w")
        context.width = context.height = size
        context.pix_fmt = pixel_format
        context.framerate, context.time_base = Fraction(25), Fraction(1, 25)  # nobody reads the time
        context.gop_size, context.max_b_frames, context.thread_count = GOP, 0, 1
        context.options = _OPTIONS | {"crf": str(CRF[pixel_format])}
        self._context, self._reformatter, self._pixel_format = context, VideoReformatter(), pixel_format
        self._num_sent = self._num_got = 0

    def encode(self, frames: np.ndarray) -> list[bytes]:
        """Take uint8 [n, 3, size, size] RGB; give the packets that are ready."""
        packets = []
        for pixels in np.ascontiguousarray(frames.transpose(0, 2, 3, 1)):
            packed = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            # One thread: by default the scaler takes one a core, and cuts the picture accordingly.
            frame = self._reformatter.reformat(packed, format=self._pixel_format, threads=1)
            frame.pts = self._num_sent
            self._num_sent += 1
            packets += self._take(frame)
        return packets

    def finish(self) -> list[bytes]:
        """The packets still inside; all frames have one then."""
        packets = self._take(None)
        assert self._num_got == self._num_sent, (self._num_got, self._num_sent)
        return packets

    def _take(self, frame: av.VideoFrame | None) -> list[bytes]:
        packets = []
        for packet in self._context.encode(frame):
            assert packet.is_keyframe == (self._num_got % GOP == 0), "a keyframe is not where readers look for it"
            packets.append(bytes(packet))
            self._num_got += 1
        return packets
