"""Playlists are not accepted as videos, whatever their name: FFmpeg would open the files they list."""

import os
import shutil

import cv2
import pytest

from mcl_jax.errors import DataError
from mcl_jax.footage.sources import open_source
from mcl_jax.footage.video import CODECS
from mcl_jax.walkers.filming import Passer, film

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period>'
    "</MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na={}\n"
PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile {}\n",
    "concat by address": "ffconcat version 1.0\nfile file:{}\n",
    "hls": HLS,
    "hls by address": HLS.replace("{}", "file://{}"),
    "hls of hls": MASTER,
    "dash": DASH,
    "sdp": SDP,
    "smil": "<smil><body><video src='{}'/></body></smil>",
    "asx": "<ASX VERSION='3'><ENTRY><REF HREF='{}'/></ENTRY></ASX>",
    "ram": "file://{}\n",
    "pls": "[playlist]\nFile1={}\n",
    "m3u": "{}\n",
    "metadata": ";FFMETADATA1\ntitle={}\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("target", ["alone.avi", "whole", "pipe"])
def test_playlists_open_nothing(tmp_path, alone, name, target):
    """A pipe that nobody writes to would hold up whoever opens it."""
    shutil.copy(alone, tmp_path / "alone.avi")
    os.mkfifo(tmp_path / "pipe")
    place = tmp_path / "alone.avi" if target == "whole" else target
    for kind in (".mp4", ".avi", ".ts", ".m3u8", ".ffconcat"):
        path = tmp_path / f"list{kind}"
        path.write_text(PLAYLISTS[name].format(place))
        with pytest.raises(DataError, match="cannot be opened as a video; .* instead of a playlist, give"):
            open_source(path, None).clock()


def test_opencv_by_itself_follows_them(tmp_path, alone):
    """Else the test above would show nothing."""
    shutil.copy(alone, tmp_path / "alone.avi")
    path = tmp_path / "list.mp4"
    path.write_text(PLAYLISTS["concat"].format("alone.avi"))
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).isOpened()


@pytest.mark.parametrize("kind", CODECS)
def test_what_is_written_here_is_read(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "probesize;100000")
    path = tmp_path / f"film{kind}"
    film(path, (Passer(7, height=0.6),), size=(240, 136))
    assert open_source(path, None).clock()[1] > 9
    assert os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] == "probesize;100000"
