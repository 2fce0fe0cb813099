import hashlib
from importlib.resources import files

import numpy as np

from zoo.data.checks import check_classes
from zoo.data.digits import build
from zoo.registry.parts import NoOptions


def test_four_fifths_of_1797_images_to_train_on() -> None:
    source = build(NoOptions(), 0)
    check_classes(source)
    assert (len(source.train), len(source.val)) == (1438, 359)
    assert source.classes == tuple("0123456789")
    names = {split.identity(i) for split in (source.train, source.val) for i in range(len(split))}
    assert names == {f"digits/{i}" for i in range(1797)}


def test_an_image_is_grey_0_to_255() -> None:
    source = build(NoOptions(), 0)
    images = np.stack([np.asarray(source.train.image(i)) for i in range(len(source.train))])
    assert images.shape[1:] == (8, 8)
    assert (images.min(), images.max()) == (0, 255)
    assert source.train.image(0).mode == "L"


def test_the_first_image_is_the_zero_that_scikit_learn_shows() -> None:
    source = build(NoOptions(), 0)
    where = {split.identity(i): (split, i) for split in (source.train, source.val) for i in range(len(split))}
    split, index = where["digits/0"]
    assert split.target(index) == 0
    assert np.asarray(split.image(index))[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


def test_the_seed_draws_the_split() -> None:
    def first(seed: int) -> list[str]:
        val = build(NoOptions(), seed).val
        return [val.identity(i) for i in range(len(val))]

    assert first(0) == first(0) != first(1)


def test_the_file_is_small_and_says_whose_it_is() -> None:
    folder = files("zoo.data")
    assert len(folder.joinpath("digits.npz").read_bytes()) < 200_000
    licence = folder.joinpath("digits.LICENCE.txt").read_text()
    assert all(word in licence for word in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49"))


def test_the_values_are_the_originals() -> None:
    with files("zoo.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    assert images.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
