"""An ONNX file as a function, by onnxruntime on the CPU."""

from pathlib import Path

import onnxruntime  # type: ignore[import-untyped]
import torch
from torch import Tensor

from zoo_onnx.capture import INPUT, OUTPUT

PROVIDERS = ["CPUExecutionProvider"]

CODE = """import onnxruntime
import torch

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])


def network(images):
    return torch.from_numpy(session.run(["logits"], {{"images": images.numpy()}})[0])"""
"""The same without this package."""


class Session:
    """Maps images (B, 3, H, W), of the type and size that the file takes, to logits float32 (B, K)."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(path, options, providers=PROVIDERS)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return torch.from_numpy(self._session.run([OUTPUT], {INPUT: images.cpu().numpy()})[0])
