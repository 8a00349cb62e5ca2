"""A GIF encoder that holds two frames, however many it writes (Pillow's own `save_all` keeps them all).

Pillow chooses the colours and compresses; here are the palette, what changed since the last frame, and the delays.
"""
import numpy as np

TRANSPARENT = 255  # palette entry that means: as in the frame before
EXACT_COLOURS = 64  # the most frequent colours are kept as they are, so that flat backgrounds stay flat
MIN_DELAY = 2  # hundredths of a second; browsers slow anything shorter down to 10
BITS = 6  # per channel, of the colours that are told apart


def _pack(picture):
    """Colours (H, W, 3 or 4) uint8 as integers (H, W) of 3 x 6 bits, red lowest."""
    if picture.shape[2] == 3:
        picture = np.pad(picture, ((0, 0), (0, 0), (0, 1)))
    # Four bytes read as one number: three masks instead of three copies.
    words = np.ascontiguousarray(picture).view("<u4")[..., 0]
    return ((words >> 2 & 0x3F) | (words >> 4 & 0xFC0) | (words >> 6 & 0x3F000)).view(np.int32)


def _unpack(keys):
    """The colours (N, 3) uint8 of packed integers (N,)."""
    levels = np.stack([keys, keys >> BITS, keys >> 2 * BITS], axis=-1) & (2**BITS - 1)
    return (levels << (8 - BITS) | levels >> (2 * BITS - 8)).astype(np.uint8)


class Palette:
    """255 colours chosen for one frame, and the nearest of them for any packed colour (found once, then looked up)."""

    def __init__(self, keys):
        from PIL import Image

        counts = np.bincount(keys.ravel(), minlength=2 ** (3 * BITS))
        present = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        exact, others = present[:EXACT_COLOURS], present[EXACT_COLOURS:]
        self.colours = np.zeros((256, 3), dtype=np.uint8)
        self.colours[: len(exact)] = _unpack(exact)
        self._size = len(exact)
        if len(others):
            # The square root keeps a large wall from taking the colours of a thin limb.
            sample = np.repeat(_unpack(others), np.sqrt(counts[others]).astype(int), axis=0)
            image = Image.fromarray(sample[None]).quantize(TRANSPARENT - len(exact), Image.Quantize.MEDIANCUT)
            chosen = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)[: TRANSPARENT - len(exact)]
            self.colours[len(exact): len(exact) + len(chosen)] = chosen
            self._size += len(chosen)
        self._nearest = np.full(2 ** (3 * BITS), -1, dtype=np.int16)
        self._error = np.zeros(2 ** (3 * BITS), dtype=np.float32)
        self.fit = self.error(keys)

    def index(self, keys):
        """The palette entries (...,) uint8 nearest to packed colours (...,)."""
        entries = self._nearest[keys]
        unknown = entries < 0
        if unknown.any():
            self._learn(np.unique(keys[unknown]))
            entries = self._nearest[keys]
        return entries.astype(np.uint8)

    def error(self, keys):
        """Mean squared distance of packed colours (N,) to their palette entries."""
        self.index(keys)
        return float(self._error[keys].mean()) if keys.size else 0.0

    def _learn(self, keys):
        colours, entries = _unpack(keys).astype(np.float32), self.colours[: self._size].astype(np.float32)
        distance = (colours**2).sum(1)[:, None] - 2 * colours @ entries.T + (entries**2).sum(1)
        self._nearest[keys] = distance.argmin(1)
        self._error[keys] = distance.min(1)


class GifEncoder:
    """Writes frames to an open binary file as an animation that loops for ever.

    fps is kept on average: delays are whole hundredths of a second, spread so that their sum is right. Above 50 frames
    per second every frame is still there, but plays at 50. times: when each frame is shown, in seconds, where they are
    not evenly spread.
    """

    def __init__(self, file, fps, times=None):
        self._file, self._delay = file, max(100 / fps, MIN_DELAY)
        self._starts = None if times is None else 100 * (times - times[0])
        self._count = 0
        self._palette = self._previous = None
        self._global_palette = None

    def write(self, picture):
        """Append one uint8 frame (H, W, 3 or 4); all have the same size."""
        keys = _pack(picture)
        if self._previous is None:
            self._palette = self._global_palette = Palette(keys)
            self._write_header(keys.shape)
            offset, index = (0, 0), self._palette.index(keys)
        else:
            offset, index = self._changes(keys)
        self._previous = keys
        self._write_image(offset, index)

    def _changes(self, keys):
        """((x, y), entries (h, w)) of the smallest rectangle that holds all changes; what stayed is transparent."""
        changed = keys != self._previous
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        if not len(rows):  # a frame like the last one still counts: one transparent pixel
            return (0, 0), np.full((1, 1), TRANSPARENT, dtype=np.uint8)
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        keys, changed = keys[window], changed[window]
        # Another scene wants another palette. A quarter of the pixels is enough to tell.
        if self._palette.error(keys[::2, ::2][changed[::2, ::2]]) > 2 * self._palette.fit + 50:
            self._palette = Palette(keys[changed])
        index = np.where(changed, self._palette.index(keys), np.uint8(TRANSPARENT))
        return (int(columns[0]), int(rows[0])), index

    def _image(self, index):
        from PIL import Image

        image = Image.fromarray(index)
        image.putpalette(self._palette.colours.tobytes())
        return image

    def _write_header(self, shape):
        from PIL.GifImagePlugin import getheader

        header, _ = getheader(self._image(np.zeros(shape, dtype=np.uint8)), info={"loop": 0})
        self._file.write(b"".join(header))

    def _write_image(self, offset, index):
        from PIL.GifImagePlugin import getdata

        start, end = round(self._start(self._count)), round(self._start(self._count + 1))
        self._count += 1
        duration = 10 * max(end - start, MIN_DELAY)
        blocks = getdata(self._image(index), offset, duration=duration, transparency=TRANSPARENT, disposal=1,
                         include_color_table=self._palette is not self._global_palette)
        self._file.write(b"".join(blocks))

    def _start(self, number):
        """When a frame begins, in hundredths of a second."""
        if self._starts is None or number >= len(self._starts):
            return number * self._delay if self._starts is None else self._starts[-1] + self._delay
        return self._starts[number]

    def finish(self):
        self._file.write(b";")
