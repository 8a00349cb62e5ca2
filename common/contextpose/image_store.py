"""Where the prepared images of Human3.6M are read from: a folder, or a zip file of it."""
import io
import os
import zipfile
from pathlib import Path

from common.contextpose.image import decode_image
from common.utils import DataError, require

AGAIN = "make them with prepare_data_h36m.py --images, or correct dataset.root"


class Folder:
    """Images below a folder, named as `common.h36m_images.image_path` does."""

    def __init__(self, root):
        self.root = Path(root)

    def bytes_of(self, name):
        """The file with this name, or DataError."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            raise DataError(f"{self.where(name)}: no such image; {AGAIN}") from None
        except OSError as error:
            raise DataError(f"{self.where(name)}: could not be read ({error.strerror or error})") from None

    def has(self, name):
        """Whether there is a file with this name."""
        return (self.root / name).is_file()

    def where(self, name):
        """What an error calls it."""
        return str(self.root / name)

    def read(self, name):
        """The image (H, W, 3) uint8 RGB with this name; DataError names the file where it is missing or damaged."""
        return decode_image(self.bytes_of(name), self.where(name))

    def size(self, name):
        """(height, width) of the image with this name, from its first bytes."""
        image = require("PIL.Image", "pillow")
        try:
            with image.open(io.BytesIO(self.bytes_of(name))) as picture:
                return picture.size[::-1]
        except OSError:
            raise DataError(f"{self.where(name)}: damaged, or no image; get it again") from None


class ZipFile(Folder):
    """The same in a zip file: `root` itself, or `root` with .zip after it.

    Its members begin with `S1/...`, or with the folder's name before that. Every process opens the file for itself,
    when it reads its first image: processes that share one would read at each other's places.
    """

    def __init__(self, root):
        root = Path(root)
        super().__init__(root if root.suffix == ".zip" else root.with_name(root.name + ".zip"))
        self._opened = None, None

    def __getstate__(self):
        return {"root": self.root, "_opened": (None, None)}

    def _archive(self):
        process, archive = self._opened
        if process != os.getpid():
            if not self.root.is_file():
                raise DataError(f"{self.root}: no such zip file of images; {AGAIN} or dataset.data_format")
            try:
                archive = zipfile.ZipFile(self.root)
            except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
                raise DataError(f"{self.root}: truncated, or no zip file ({error}); copy it again") from None
            self._opened = os.getpid(), archive
        return archive

    def _member(self, name):
        archive = self._archive()
        for folder in ("", f"{self.root.stem}/", "processed/"):
            try:
                return archive.getinfo(f"{folder}{name}")
            except KeyError:
                continue
        return None

    def bytes_of(self, name):
        """The member with this name, or DataError."""
        member = self._member(name)
        if member is None:
            raise DataError(f"{self.where(name)}: no such image; {AGAIN}")
        try:
            return self._archive().read(member)
        except Exception as error:  # a damaged zip file raises about anything
            raise DataError(f"{self.where(name)}: damaged ({type(error).__name__}: {error}); copy the zip file "
                            "again") from None

    def has(self, name):
        """Whether there is a member with this name."""
        return self._member(name) is not None

    def where(self, name):
        """What an error calls it."""
        return f"{self.root}: {name}"
