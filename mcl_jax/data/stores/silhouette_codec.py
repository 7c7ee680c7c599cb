"""Packs silhouettes to a quarter of their size; unpacking a clip is faster than reading a whole sequence.

Most pixels of a silhouette are 0 or 255 and are stored as one bit; the others, along the edge, are listed.
Written by hand, because unpacking with zstd took four times as long as all other reading of a sequence.
Format, little-endian: uint16 height, width and L; the bits of each frame; for each frame the places of L
listed pixels (uint16); for each frame their values (uint8). A frame with fewer listed pixels repeats some.
If the lists would take more space than the pixels, L is 65535 and the unpacked pixels follow.
"""

import numpy as np

_NUMBER = np.dtype("<u2")
_HEADER_BYTES = 3 * _NUMBER.itemsize
_PLAIN = 0xFFFF
_LISTED_BYTES = _NUMBER.itemsize + 1


def pack(frames: np.ndarray) -> bytes:
    """Packs frames, uint8 [s, h, w], losslessly."""
    count, height, width = frames.shape
    pixels = frames.reshape(count, height * width)
    listed = (pixels != 0) & (pixels != 255)
    of_frame = listed.sum(axis=1)
    most = int(of_frame.max())
    if pixels.shape[1] > _PLAIN or most * _LISTED_BYTES > pixels.shape[1]:
        return np.array([height, width, _PLAIN], _NUMBER).tobytes() + frames.tobytes()
    bits = np.packbits(pixels == 255, axis=1)
    starts = np.cumsum(of_frame) - of_frame
    order = starts[:, None] + np.arange(most) % np.maximum(of_frame, 1)[:, None]
    places = np.append(np.nonzero(listed)[1], 0)[order]
    values = np.take_along_axis(pixels, places, axis=1)
    header = np.array([height, width, most], _NUMBER)
    return b"".join(a.tobytes() for a in (header, bits, places.astype(_NUMBER), values))


class PackedFrames:
    """Packed frames; indexing along the first axis, as of an array [s, h, w], unpacks the chosen ones.

    Attributes:
        shape: (s, h, w).
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, content: bytes):
        """Takes packed silhouettes, as `pack` returns them.

        Raises:
            ValueError: if the content is something else.
        """
        height, width, listed = (int(n) for n in np.frombuffer(content, _NUMBER, 3))
        self._plain = listed == _PLAIN
        self._area = height * width
        bits = self._area if self._plain else -(-self._area // 8)
        listed = 0 if self._plain else listed
        count, rest = divmod(len(content) - _HEADER_BYTES, max(bits + listed * _LISTED_BYTES, 1))
        if rest:
            raise ValueError("not packed frames")
        places, values = count * bits, count * (bits + listed * _NUMBER.itemsize)
        body = np.frombuffer(content, np.uint8, offset=_HEADER_BYTES)
        self._bits = body[:places].reshape(count, bits)
        self._places = body[places:values].view(_NUMBER).reshape(count, listed)
        self._values = body[values:].reshape(count, listed)
        # Such a place would belong to the next frame.
        if (self._places >= self._area).any():
            raise ValueError("not packed frames")
        self.shape = (count, height, width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: np.ndarray | slice | int) -> np.ndarray:
        """Returns the chosen frames, uint8 [n, h, w], or [h, w] for an integer."""
        if isinstance(chosen, int | np.integer):
            return self[np.array([chosen])][0]
        if self._plain:
            return self._bits[chosen].reshape(-1, *self.shape[1:])
        pixels = np.unpackbits(self._bits[chosen], axis=1, count=self._area)
        np.negative(pixels, out=pixels)  # 1 becomes 255
        places = self._places[chosen] + np.arange(0, pixels.size, self._area)[:, None]
        pixels.reshape(-1)[places] = self._values[chosen]
        return pixels.reshape(-1, *self.shape[1:])
