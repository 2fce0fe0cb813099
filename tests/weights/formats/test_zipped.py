"""Archives that are not what they say."""

import zipfile
from pathlib import Path

import pytest

from zoo.errors import WeightsError
from zoo.weights import read_tensors
from zoo.weights.formats.zipped import require_no_bomb


@pytest.mark.parametrize("entry", ["x/data.pkl", "a.npy"])
def test_a_bomb_is_refused_before_it_is_unpacked(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(entry, b"x")
        for index in range(5):
            archive.writestr(f"x/data/{index}", bytes(1 << 20))
    # What it declares is written four times over into its directory: nothing of that size need be made here.
    content = path.read_bytes()
    path.write_bytes(content.replace((1 << 20).to_bytes(4, "little"), (1 << 28).to_bytes(4, "little")))
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    assert str(caught.value) == (
        f"x.pth has {len(content):,} bytes and would unpack to {5 * (1 << 28) + 1:,}\n  where: {path}\n"
        "  mend:  no checkpoint packs so well: do not trust where it came from"
    )


def test_zeros_that_pack_well_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data/0", bytes(1 << 20))
    assert require_no_bomb(path) is False
