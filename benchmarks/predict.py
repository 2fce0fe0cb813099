"""`zoo predict` over a folder against a bare torchvision loop, each a whole command from start to end.

AMD EPYC, 2 cores; torch 2.14.1, timm 1.0.31; tf_efficientnet_lite0 at 224 px, JPEG photos: see the last run below.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from machine import describe
from PIL import Image

BAR = 0.9  # of the bare loop's throughput
IMAGES = 600

RECIPE = """\
format = 1
[run]
name = "predict"
epochs = 1
[backbone]
use = "timm"
arch = "tf_efficientnet_lite0"
[data]
use = "imagefolder"
root = "{root}"
image_size = 224
[freeze]
use = "head"
[device]
precision = "fp32"
channels_last = false
"""

BARE = """\
import json, sys
from pathlib import Path
import timm, torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

bundle, root = map(Path, sys.argv[1:])
facts = json.loads((bundle / "model.json").read_text())
spec = facts["input"]
transform = v2.Compose([
    v2.PILToTensor(),
    v2.Resize(int(spec["size"][0] / spec["crop_pct"]), v2.InterpolationMode(spec["interpolation"])),
    v2.CenterCrop(spec["size"]), v2.ToDtype(torch.float32, scale=True), v2.Normalize(spec["mean"], spec["std"]),
])
files = sorted(root.rglob("*.jpg"))

class Photos(Dataset):
    def __len__(self):
        return len(files)
    def __getitem__(self, index):
        return transform(Image.open(files[index]).convert("RGB"))

model = timm.create_model("tf_efficientnet_lite0", num_classes=len(facts["classes"]))
model.load_state_dict(load_file(bundle / "model.safetensors"))
model.eval()
with torch.inference_mode():
    places = [place for images in DataLoader(Photos(), 32, num_workers=2) for place in model(images).argmax(1).tolist()]
for file, place in zip(files, places):
    print(f"{file}  {facts['classes'][place]}")
"""


def write_photos(root: Path, count: int) -> None:
    """Crops of scikit-image's photos, as JPEG files of mixed size, in two class folders."""
    from skimage import data

    random = np.random.default_rng(0)
    for name in ("astronaut", "coffee"):
        photo = getattr(data, name)()
        (root / name).mkdir(parents=True)
        for index in range(count // 2):
            side = int(random.integers(300, 400))
            top, left = (int(random.integers(0, length - side)) for length in photo.shape[:2])
            Image.fromarray(photo[top : top + side, left : left + side]).save(root / name / f"{index:04d}.jpg")


def seconds(command: list[str]) -> tuple[float, list[str]]:
    """Return how long a command took, and the words of its lines."""
    started = time.perf_counter()
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return time.perf_counter() - started, said.splitlines()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    print(describe())
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos", IMAGES)
        write_photos(folder / "few", 16)
        (folder / "recipe.toml").write_text(RECIPE.format(root=folder / "few"))
        zoo = [sys.executable, "-m", "zoo"]
        seconds([*zoo, "finetune", str(folder / "recipe.toml"), "--out", str(folder / "run")])
        bundle = str(folder / "run/export")
        ways = {
            "bare": [sys.executable, "-c", BARE, bundle, str(folder / "photos")],
            "zoo": [*zoo, "predict", bundle, str(folder / "photos")],
        }
        turns = [{way: seconds(command) for way, command in ways.items()} for _ in range(chosen.rounds)]
    answers = [{way: [line.split()[:2] for line in said] for way, (_, said) in turn.items()} for turn in turns]
    for way in ways:
        print(f"{way:<5} {IMAGES / median(turn[way][0] for turn in turns):6.1f} images/s, the whole command")
    same = all(one["bare"] == one["zoo"] for one in answers)
    ratio = median(turn["bare"][0] / turn["zoo"][0] for turn in turns)
    print(f"same answers: {same}; {ratio:.2f} of the bare loop's throughput (bar {BAR})")
    return int(ratio < BAR or not same)


if __name__ == "__main__":
    sys.exit(main())
