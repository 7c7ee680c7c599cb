"""Videos from strangers, and files named like videos that make FFmpeg open other files."""

import hashlib
import random
import shutil
from pathlib import Path

from mutations import NAMES, damaged, text_damaged

from mcl_jax.footage.sources import open_source
from mcl_jax.walkers.filming import Passer, film
from targets.base import Target

LISTS = (
    "ffconcat version 1.0\nfile sound.avi\n",
    "ffconcat version 1.0\nfile 'sound.avi'\nduration 1\nfile 'sound.mp4'\n",
    "ffconcat version 1.0\nstream\nfile file:sound.avi\n",
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsound.mp4\n#EXT-X-ENDLIST\n",
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nsound.mp4\n",
    '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="sound.avi"\n#EXTINF:9,\nsound.mp4\n#EXT-X-ENDLIST\n',
    '#EXTM3U\n#EXT-X-MAP:URI="sound.mp4"\n#EXTINF:9,\nsound.mp4\n#EXT-X-ENDLIST\n',
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" bandwidth="1"><BaseURL>sound.mp4</BaseURL></Representation></AdaptationSet>'
    "</Period></MPD>",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "[playlist]\nFile1=sound.mp4\n",
    "file sound.avi\n",
    "rtsp://127.0.0.1/sound.mp4\n",
)


def frames_of(path: Path) -> str:
    """Returns a digest of all frames."""
    source = open_source(path, None)
    sha = hashlib.sha256(str(source.clock()).encode())
    for picture in source.pictures():
        sha.update(f"{picture.shape}".encode() + picture.tobytes())
    return sha.hexdigest()


class Video(Target):
    harm_is = "bytes of an AVI or MP4"
    may_differ = True
    seconds = 60

    def make(self, folder: Path) -> None:
        for kind in ("avi", "mp4"):
            film(folder / f"sound.{kind}", (Passer(7, height=0.6),), size=(160, 96))

    def harm(self, folder: Path, rng: random.Random) -> str:
        path = folder / rng.choice(("sound.avi", "sound.mp4"))
        for _ in range(rng.choice((1, 1, 3, 30))):
            path.write_bytes(damaged(path.read_bytes(), rng))
        return path.name

    def answer(self, folder: Path) -> str:
        found = [frames_of(folder / "sound.avi"), frames_of(folder / "sound.mp4")]
        return " ".join(found)


class Playlist(Video):
    """Each is to be refused: an answer other than the sound video's would be that of another file."""

    harm_is = "playlists that are called as videos"
    may_differ = False

    def make(self, folder: Path) -> None:
        super().make(folder)
        shutil.copy(folder / "sound.avi", folder / "chosen.mp4")

    def harm(self, folder: Path, rng: random.Random) -> str:
        text = rng.choice(LISTS)
        if rng.random() < 0.5:
            text = text_damaged(text, rng, NAMES)
        path = folder / "chosen.mp4"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return text[:60]

    def answer(self, folder: Path) -> str:
        return frames_of(folder / "chosen.mp4") + ("" if is_video(folder / "chosen.mp4") else " of another")


def is_video(path: Path) -> bool:
    return path.read_bytes()[:4] == b"RIFF"
