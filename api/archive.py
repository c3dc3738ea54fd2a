"""A directory as a tar archive that is made while it is sent: no temporary file, no file held whole."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 20
END_BYTES = 2 * tarfile.BLOCKSIZE
"""A tar archive ends with two empty blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    path: Path
    header: bytes
    size: int

    @property
    def padding(self) -> int:
        return -self.size % tarfile.BLOCKSIZE


class DirectoryArchive:
    """The files below ``directory``, under the folder ``name``; ``num_bytes`` is known beforehand.

    The length lets a client see that a download broke off. The files must not change meanwhile.
    """

    def __init__(self, directory: Path, name: str) -> None:
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        self._members = [_member(path, f"{name}/{path.relative_to(directory).as_posix()}") for path in files]

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole archive."""
        return sum(len(m.header) + m.size + m.padding for m in self._members) + END_BYTES

    def __iter__(self) -> Iterator[bytes]:
        """Yield the archive in pieces of at most ``CHUNK_BYTES``."""
        for member in self._members:
            yield member.header
            with member.path.open("rb") as file:
                left = member.size
                while left:
                    chunk = file.read(min(CHUNK_BYTES, left))
                    if not chunk:
                        raise OSError(f"{member.path}: became shorter while it was sent")
                    left -= len(chunk)
                    yield chunk
            yield bytes(member.padding)
        yield bytes(END_BYTES)


def _member(path: Path, name: str) -> _Member:
    status = path.stat()
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = status.st_size, int(status.st_mtime), 0o644
    return _Member(path=path, header=info.tobuf(tarfile.PAX_FORMAT), size=status.st_size)
