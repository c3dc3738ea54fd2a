"""Writes a safetensors file tensor by tensor, so that no more than one of them need exist at a time.

The safetensors library, which reads what is written here, wants all tensors at once. Format:
https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of each tensor by its name, in the order of the file."""

_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8"}
_ALIGNMENT = 8


def write_tensors(
    path: Path, layout: Layout, tensors: Iterable[Tensor], *, metadata: Mapping[str, str]
) -> None:
    """Write tensors, on any device, in the order of ``layout``."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in layout.items():
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, expected), tensor in zip(layout.items(), tensors, strict=True):
            assert (tensor.dtype, tuple(tensor.shape)) == expected, f"{name}: is not as laid out"
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
