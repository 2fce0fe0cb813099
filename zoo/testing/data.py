"""Checks of data sources."""

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator

from PIL import Image

from zoo.data import TrainBatches
from zoo.data.checks import check_classes, fingerprint
from zoo.recipe.schema import DataTable
from zoo.registry.contracts import DataSource, InputSpec, Split
from zoo.testing.kit import Trial, check, expect
from zoo.testing.network import make, require_type

MANY = 64
"""Images that are decoded at most of a split."""


def build(trial: Trial, seed: int = 0) -> DataSource:
    """Return the data source for a run's seed."""
    source: DataSource = make(lambda: trial.build(seed))
    require_type(source, DataSource, trial)
    return source


def _splits(source: DataSource) -> tuple[tuple[str, Split], ...]:
    return (("train", source.train), ("val", source.val))


def _some(split: Split) -> Iterator[int]:
    """Indices all over a split: never the first ones alone."""
    return iter(range(0, len(split), max(1, len(split) // MANY)))


@check("a classifier cannot be trained or validated on less")
def contract(trial: Trial) -> None:
    """Two classes or more, each with training images, targets that are class indices, and two splits."""
    source = build(trial)
    named = isinstance(source.classes, tuple) and all(isinstance(name, str) and name for name in source.classes)
    expect(named, "classes as a tuple of names", source.classes)
    expect(all(map(str.isprintable, source.classes)), "names that a line of text can hold", source.classes)
    for name, split in _splits(source):
        for index in _some(split):
            target = split.target(index)
            expect(type(target) is int, f"{name} targets of type int", type(target).__name__)
    check_classes(source)


@check("augmentation and caches take what PIL gives")
def images(trial: Trial) -> None:
    """PIL images, the same ones every time, and each one's own to change."""
    for name, split in _splits(build(trial)):
        for index in _some(split):
            image = split.image(index)
            expect(isinstance(image, Image.Image), f"{name} image {index} as a PIL image", type(image).__name__)
            before = _content(image)
            image.paste(0, (0, 0, *image.size))
            again = _content(split.image(index))
            expect(again == before, f"{name} image {index} the same when it is asked for again", "another image")


def _content(image: Image.Image) -> str:
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).hexdigest()


@check("a sample's name is what it is cached, reported and resumed by")
def identities(trial: Trial) -> None:
    """A name for every sample, no two alike in a split."""
    for name, split in _splits(build(trial)):
        names = [split.identity(index) for index in range(len(split))]
        expect(all(isinstance(one, str) and one for one in names), f"{name} identities as text", names[:3])
        double = sorted({one for one in names if names.count(one) > 1})[:3] if len(set(names)) < len(names) else []
        expect(not double, f"{name} identities that differ", f"twice: {double}")


@check("a run is repeated, resumed and shared between processes by the order of its images")
def order(trial: Trial) -> None:
    """The same samples in the same order at every build, in this process and in another."""
    source, again = build(trial), build(trial)
    prints = [fingerprint(split) for _, split in _splits(source)]
    expect([fingerprint(split) for _, split in _splits(again)] == prints, "the same order at every build", "another")
    for (name, split), (_, other) in zip(_splits(source), _splits(again), strict=True):
        for index in _some(split):
            same = _content(split.image(index)) == _content(other.image(index))
            expect(same, f"the same {name} image {index} at every build", "another image of that name")
    expect(again.classes == source.classes, "the same classes at every build", again.classes)


@check("a process that is launched or resumed has other hashes, and must have the same images", slow=True)
def order_elsewhere(trial: Trial) -> None:
    """The same samples in the same order in another process."""
    source = build(trial)
    wanted = [*(fingerprint(split) for _, split in _splits(source)), *source.classes]
    found = _elsewhere(trial)
    expect(found == wanted, f"the order and classes {wanted}", found)


ELSEWHERE = """
import json, pickle, sys
path, part, options = pickle.load(sys.stdin.buffer)
sys.path[:] = path
from zoo.data.checks import fingerprint
source = pickle.loads(part).builder()(pickle.loads(options), 0)
print(json.dumps([fingerprint(source.train), fingerprint(source.val), *source.classes]))
"""


def _elsewhere(trial: Trial) -> list[str]:
    """Return the splits' fingerprints and the class names in a new process, where hashes of strings are others."""
    given = pickle.dumps((sys.path, pickle.dumps(trial.part), pickle.dumps(trial.options)))
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=given, capture_output=True, check=False)
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    expect(done.returncode == 0, "a build in another process", " ".join(last))
    found: list[str] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


@check("accuracy on images that were trained on says nothing")
def no_leak(trial: Trial) -> None:
    """No image of the training split in the validation split, by content, whatever the seed."""
    for seed in (0, 1):
        source = build(trial, seed)
        seen = {_content(source.train.image(index)): index for index in range(len(source.train))}
        for index in range(len(source.val)):
            same = seen.get(_content(source.val.image(index)))
            came = "" if same is None else f"{source.val.identity(index)!r} is {source.train.identity(same)!r}"
            expect(same is None, "other images for validation than for training", came)


@check("loader processes are spawned on some systems, and get the split pickled")
def pickles(trial: Trial) -> None:
    """A pickled copy of each split gives the same samples."""
    for name, split in _splits(build(trial)):
        copied = pickle.loads(pickle.dumps(split))
        expect(fingerprint(copied) == fingerprint(split), f"the {name} split from its pickle", "other samples")
        index = len(split) - 1
        expect(_content(copied.image(index)) == _content(split.image(index)), "the same images", "another image")


@check("the number of loader processes is a matter of speed alone")
def workers(trial: Trial) -> None:
    """The same batches from none and from two loader processes."""
    split, spec = build(trial).train, InputSpec(size=(32, 32))
    found = []
    for count in (0, 2):
        batches = TrainBatches(split, spec, DataTable(workers=count, augment="flip"), batch_size=8, seed=0)
        found.append(
            [(part.images, part.targets.tolist()) for part, _ in zip(batches.epoch(0), range(3), strict=False)]
        )
        batches.close()
    same = all(one[1] == two[1] and bool((one[0] == two[0]).all()) for one, two in zip(*found, strict=True))
    expect(same, "the same batches", "other ones")


CHECKS = (contract, images, identities, order, order_elsewhere, no_leak, pickles, workers)
