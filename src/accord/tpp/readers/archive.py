"""archive: the files in a zip archive, with a limit on what they unfold to."""

from __future__ import annotations

import io
import zipfile

from accord.tpp.errors import TPPError

MAGIC = b"PK\x03\x04"
LARGEST = 4 << 30  # bytes; a few packed MB could unfold to any size


def members(data: bytes, where: str) -> dict[str, bytes]:
    """The content of each file; ``where`` names the archive in errors.

    Raises:
        TPPError: if the archive is cut off, damaged, or unfolds to more than 4 GB.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(info.file_size for info in archive.infolist())
            if size > LARGEST:
                raise TPPError(f"{where}: the archive unfolds to {size} bytes; it is damaged or a trap.")
            return {info.filename: archive.read(info) for info in archive.infolist()}
    except TPPError:
        raise
    except Exception as error:  # a damaged archive ends in errors of zip, zlib, struct and more
        raise TPPError(f"{where}: cut off or no archive ({type(error).__name__}: {str(error)[:80]}).") from None
