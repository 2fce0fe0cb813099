"""What "freeze the backbone" really does: each library's own way, run through its own loop where it has one.

    python benchmarks/freezing.py --peers FOLDER [--write]

FOLDER is filled by `pip install --target FOLDER --no-deps …`, so that no other torch comes along, with lightning
finetuning-scheduler; transformers accelerate psutil regex tokenizers; keras absl-py namex h5py optree ml-dtypes; fastai
fastcore fasttransform fastdownload fastprogress "plum-dispatch<2.10" beartype cloudpickle matplotlib cycler kiwisolver
pyparsing contourpy fonttools python-dateutil six pandas pytz scikit-learn joblib threadpoolctl narwhals requests
urllib3 certifi charset-normalizer python-fasthtml fastlite apswutils apsw starlette uvicorn itsdangerous
python-multipart beautifulsoup4 soupsieve oauthlib httpx httpcore. What cannot be imported is "not installed".

All train timm's ResNet-50 with drop path, from the shipped weights, on 80 of the digits: two epochs of five steps, each
with its validation. Keras, which knows no torch modules' freezing, has its own EfficientNetB0. Each way runs in a
process of its own, once with AdamW and once with SGD with momentum, both with weight decay 0.1. What is measured: the
bits of weights and statistics, which statistics a batch norm's output was made with, and whether dropout's output
differs from its input, both in real training steps. The table is in docs/freezing.md, written by `--write`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from freezing_peers import (
    OPTIMISERS,
    Setting,
    fastai_fit,
    keras_fit,
    lightning_fit,
    timm_freeze,
    torch_alone,
    torchvision_frozen,
    transformers_fit,
    zoo_finetune,
)
from freezing_watch import CLASSES, TRAIN, VAL, Found, KerasWatch, Watch

PAGE = Path(__file__).resolve().parents[1] / "docs" / "freezing.md"
BEGIN, END = "<!-- peers: made by benchmarks/freezing.py -->", "<!-- /peers -->"
HEADINGS = (
    *("what", "`requires_grad` off", "weights", "BN statistics used", "BN statistics kept"),
    *("drop path", "in the optimiser", "features changed by"),
)


@dataclass(frozen=True)
class Way:
    """One way to freeze: what the table calls it, the distribution and module that it needs, and how it is run."""

    what: str
    package: str
    run: Callable[[Setting], Watch | KerasWatch]
    module: str = ""


def _lightning(what: str, callback: str, **options: Any) -> Way:
    return Way(f"Lightning: {what}", "lightning", lambda setting: lightning_fit(setting, callback, **options))


def _scheduler(what: str, **options: Any) -> Way:
    def run(setting: Setting) -> Watch:
        return lightning_fit(setting, "FinetuningScheduler", **options)

    return Way(f"finetuning-scheduler: {what}", "finetuning-scheduler", run, "finetuning_scheduler")


def _zoo(what: str, table: str) -> Way:
    return Way(f"zoo: {what}", "zoo-finetune", lambda setting: zoo_finetune(setting, table), "zoo")


def _torch(what: str, eval_mode: str) -> Way:
    return Way(f"PyTorch: `requires_grad_(False)`{what}", "torch", lambda setting: torch_alone(setting, eval_mode))


WAYS = (
    _zoo('`use = "head"` (`bn = "auto"`)', '{use = "head"}'),
    _zoo('`use = "head"`, `bn = "track"`', '{use = "head", bn = "track"}'),
    _zoo('`use = "zero-lr"`', '{use = "zero-lr"}'),
    _torch("", "never"),
    _torch(", `backbone.eval()` once before training", "once"),
    _torch(", `backbone.eval()` after each `model.train()`", "always"),
    Way("timm: `timm.utils.freeze`", "timm", timm_freeze),
    Way("torchvision: `norm_layer=FrozenBatchNorm2d`, `requires_grad_(False)`", "torchvision", torchvision_frozen),
    _lightning("`BackboneFinetuning`", "BackboneFinetuning"),
    _lightning("`BackboneFinetuning(train_bn=False)`", "BackboneFinetuning", train_bn=False),
    _lightning("`BaseFinetuning.freeze`", "BaseFinetuning"),
    _lightning("`BaseFinetuning.freeze`, `train_bn=False`", "BaseFinetuning", train_bn=False),
    _lightning("`backbone.eval()` in `__init__`, `no_grad` in `forward` (its guide)", "none"),
    _scheduler("a schedule of the head alone"),
    _scheduler("the same, `frozen_bn_track_running_stats=False`", frozen_bn_track_running_stats=False),
    Way("fastai: `vision_learner`, `freeze()`", "fastai", fastai_fit),
    Way(
        "fastai: `train_bn=False`, `freeze()`, callback `BnFreeze`",
        "fastai",
        lambda setting: fastai_fit(setting, bn_freeze=True),
    ),
    Way("transformers: `Trainer`, `requires_grad = False` in `model.base_model`", "transformers", transformers_fit),
    Way("Keras: `base.trainable = False`", "keras", keras_fit),
    Way(
        "Keras: `base.trainable = False`, `base(inputs, training=False)` (its guide)",
        "keras",
        lambda setting: keras_fit(setting, training=False),
    ),
)


def write_images(folder: Path) -> None:
    """Write digits of 32 px as two folders of class folders, the same of each class."""
    from PIL import Image

    from zoo.data.digits import build
    from zoo.registry.parts import NoOptions

    source = build(NoOptions(), 0)
    for split, images, count in (("train", source.train, TRAIN), ("val", source.val, VAL)):
        taken: Counter[int] = Counter()
        for index in range(len(images)):
            target = images.target(index)
            if taken[target] < count // CLASSES:
                path = folder / split / str(target) / f"{taken[target]}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                images.image(index).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC).save(path)
                taken[target] += 1


def measure_here(way: Way, setting: Setting) -> dict[str, Any]:
    """Run a way in this process; return its version and what was found, or why there is nothing."""
    if find_spec(way.module or way.package) is None:
        return {"why": "not installed"}
    import torch

    torch.manual_seed(0)
    return {"version": f"{way.package} {version(way.package)}", "found": asdict(way.run(setting).found())}


def measure(way: Way, optimiser: str, peers: Path | None, images: Path) -> dict[str, Any]:
    """Run a way in a process of its own."""
    with TemporaryDirectory() as out:
        homes = dict.fromkeys(("FASTAI_HOME", "KERAS_HOME", "MPLCONFIGDIR"), out)
        offline = {
            "HF_HUB_OFFLINE": "1",
            "KERAS_BACKEND": "torch",
            "CUDA_VISIBLE_DEVICES": "",
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, __file__, "--child", str(WAYS.index(way)), optimiser, str(images), out]
        command += ["--peers", str(peers)] if peers else []
        done = subprocess.run(command, env={**os.environ, **homes, **offline}, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        return {"why": "could not be run: " + done.stderr.strip().rpartition("\n")[2][:80]}
    return json.loads(done.stdout.strip().rpartition("\n")[2])


def rows(way: Way, peers: Path | None, images: Path, versions: dict[str, None]) -> Iterator[list[str]]:
    """Yield the way's row, of the first optimiser; another where an optimiser gives other words."""
    first: Found | None = None
    for optimiser in OPTIMISERS:
        result = measure(way, optimiser, peers, images)
        if "found" not in result:
            yield [way.what, result["why"], *[""] * (len(HEADINGS) - 2)]
            return
        versions[result["version"]] = None
        found = Found(**result["found"])
        if first is None or found.words() != first.words():
            yield [way.what if first is None else f"{way.what}, {optimiser}", *found.cells()]
        first = first or found


def make_table(ways: Iterable[Way], peers: Path | None) -> str:
    """Return the table and its caption, in Markdown."""
    versions: dict[str, None] = {}
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    with TemporaryDirectory() as images:
        write_images(Path(images))
        for way in ways:
            started = time.perf_counter()
            made = [f"| {' | '.join(row)} |" for row in rows(way, peers, Path(images), versions)]
            print("\n".join(made), f"{time.perf_counter() - started:.0f} s", flush=True)
            lines += made
    networks = (
        "timm’s ResNet-50 with drop path; torchvision’s, which has none; EfficientNetB0 in Keras, with `trainable`"
    )
    rest = "Where SGD gives other words it has a row of its own; figures are AdamW’s."
    caption = f"{', '.join(versions)}; {networks}. {rest}"
    return "\n".join([caption, "", *lines])


def write_page(table: str) -> None:
    """Put the table between its markers in docs/freezing.md."""
    text = PAGE.read_text("utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{PAGE} has no {BEGIN} … {END}")
    PAGE.write_text(pattern.sub(lambda _: f"{BEGIN}\n{table}\n{END}", text), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="the folder that the peers are installed in")
    parser.add_argument("--write", action="store_true", help="write the table into docs/freezing.md")
    parser.add_argument("--only", default="", help="run the ways with this text in their names")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peers:
        sys.path.append(str(arguments.peers))
    if arguments.child:
        index, optimiser, images, out = arguments.child
        print("\n" + json.dumps(measure_here(WAYS[int(index)], Setting(optimiser, Path(images), Path(out)))))
        return 0
    table = make_table([way for way in WAYS if arguments.only in way.what], arguments.peers)
    print(f"\n{table}")
    if arguments.write and not arguments.only:
        write_page(table)
    return int("could not be run" in table)


if __name__ == "__main__":
    sys.exit(main())
