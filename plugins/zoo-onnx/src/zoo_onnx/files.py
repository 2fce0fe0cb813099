"""A graph in a file, checked as it lies there."""

from pathlib import Path

import onnx
from onnx import ModelProto

LIMIT = 2_000_000_000
"""Bytes of weights from which they lie in a file of their own: a protobuf message ends at 2 GiB."""


def save(model: ModelProto, path: Path) -> tuple[Path, ...]:
    """Write the model to `path`, its weights beside it where they are more than `LIMIT`; return the files.

    onnx.checker.ValidationError: it is no valid ONNX.
    """
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= LIMIT:
        path.write_bytes(model.SerializeToString(deterministic=True))
        files: tuple[Path, ...] = (path,)
    else:
        beside = path.with_name(f"{path.name}.data")
        onnx.save_model(model, path, save_as_external_data=True, location=beside.name)
        files = (path, beside)
    onnx.checker.check_model(path, full_check=True)
    return files
