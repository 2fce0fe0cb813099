"""Options to try the parts with: tiny data sets and networks, made in a folder."""

import io
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageClassification

VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
SWIN: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "window_size": 4,
}


def data(folder: Path) -> list[dict[str, Any]]:
    """Return the same rows as Parquet, as saved by `datasets`, and streamed."""
    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])})
    rows = [{"image": {"bytes": _png(place), "path": None}, "label": int(place >= 12)} for place in range(24)]
    table = datasets.Dataset.from_list(rows, features=features)
    table.to_parquet(str(folder / "rows.parquet"))
    table.save_to_disk(str(folder / "saved"))
    parquet = {"path": "parquet", "data_files": str(folder / "rows.parquet")}
    return [parquet, {"path": str(folder / "saved")}, {**parquet, "streaming": True, "train_limit": 24}]


def _png(place: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (10, 9), (place * 10, place * 5, 255 - place * 10)).save(file, "PNG")
    return file.getvalue()


def backbones(folder: Path) -> list[dict[str, Any]]:
    """Return a transformer, a convolutional network, and one in a folder."""
    make_vit(folder / "vit")
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    return [{"arch": "vit", "config": VIT}, {"arch": "resnet", "config": resnet}, {"arch": str(folder / "vit")}]


def make_vit(folder: Path) -> None:
    """Save a tiny ViT of 2 classes as transformers does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model("vit", num_labels=2, **VIT)
        AutoModelForImageClassification.from_config(config).save_pretrained(folder)


def weights(folder: Path) -> list[dict[str, Any]]:
    """Return a tiny ViT in a folder."""
    make_vit(folder / "vit")
    return [{"path": str(folder / "vit")}]
