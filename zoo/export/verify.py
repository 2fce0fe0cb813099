"""Every artefact is read back and compared with the eager model on real images; what differs is not written."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from zoo.errors import ZooError
from zoo.files import new_folder
from zoo.registry.contracts import Exportable, Exporter
from zoo.registry.events import ArtefactWritten


def export_verified(
    exporter: Exporter, model: Exportable, eager: Callable[[Tensor], Tensor], images: Tensor, folder: Path
) -> ArtefactWritten:
    """Write the artefact into `folder` and return what was written.

    `eager` maps normalised images (B, 3, H, W) to logits (B, K) as the trained model gives them. ZooError: the artefact
    read back differs by more than the exporter's tolerance, or cannot be written (disk full); then `folder` stays as it
    was.
    """
    try:
        with new_folder(folder) as draft:
            files = exporter.write(model, draft)
            difference = compare(exporter.read(model, draft), eager, images)
            _check(exporter, difference)
    except (OSError, SafetensorError) as error:
        what = f"{exporter.name}: the artefact cannot be written: {error}"
        raise ZooError(what, where=str(folder), hint="mend this, then `zoo export RUN`") from error
    return ArtefactWritten(exporter.name, tuple(folder / file.name for file in files), difference)


def _check(exporter: Exporter, difference: float) -> None:
    if not difference <= exporter.tolerance:
        what = f"{exporter.name}: the artefact's logits differ from the model's by {difference:.2g} of the largest"
        raise ZooError(f"{what}, more than {exporter.tolerance:g}", hint="nothing was written; please report this")


@torch.inference_mode()
def compare(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Return the largest difference in logits on `images`, as a share of the largest logit of the second."""
    expected = second(images).float().cpu()
    difference = (first(images).float().cpu() - expected).abs().max()
    return float(difference / expected.abs().max().clamp_min(1e-12))
