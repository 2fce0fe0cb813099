"""`zoo weights`, on the checkpoint that ships, on changed copies of it, and on cards for what real servers serve."""

import hashlib
import json
from pathlib import Path

import pytest
import timm
import tomli_w
import torch
from safetensors.torch import load_file, save, save_file

from tests.fileserver import files
from tests.hub import COMMIT, hub
from zoo.files import sha256

__all__ = ["files", "hub"]  # the fixtures

BODY = save({"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)})


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A working folder and a cache of one's own, and a function that writes a card for BODY."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("weights").mkdir()

    def write(name, **keys):
        known = {
            "architecture": "timm/tiny",
            "bytes": len(BODY),
            "sha256": hashlib.sha256(BODY).hexdigest(),
            "licence": "CC0-1.0",
            "made": "by this test",
        }
        Path(f"weights/{name}.toml").write_text(tomli_w.dumps({**known, **keys}))

    return write


@pytest.fixture
def tiny(tmp_path):
    """A tiny network's weights, and a function that saves a changed copy."""
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    save_file(state, tmp_path / "a.safetensors")

    def changed(change, name="b.pth"):
        copy = {key: tensor.clone() for key, tensor in state.items()}
        torch.save(change(copy), tmp_path / name)
        return tmp_path / name

    return tmp_path / "a.safetensors", changed


def test_list_says_what_there_is_and_whether_it_is_here(zoo, shelf, hub):
    Path("weights/a.safetensors").write_bytes(BODY)
    shelf("a", file="a.safetensors")
    shelf("b", file="b.safetensors", metric={"name": "accuracy", "value": 0.5, "dataset": "digits", "source": "me"})
    shelf("c", origin={"use": "package", "package": "not-installed", "file": "c.pth"})
    shelf("d", origin={"use": "hub", "repo": "zoo/tiny"})
    shelf("e", origin={"use": "url", "url": "http://127.0.0.1:9/e.pth?key=secret"})
    status, out, err = zoo("weights", "list")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()[:5]] == [
        ["a", "timm/tiny", "0.0", "MB", "CC0-1.0", "file", "a.safetensors", "here"],
        ["b", "timm/tiny", "0.0", "MB", "CC0-1.0", "accuracy", "0.5", "file", "b.safetensors", "not", "here"],
        ["c", "timm/tiny", "0.0", "MB", "CC0-1.0", "package", "not-installed", "not", "here"],
        ["d", "timm/tiny", "0.0", "MB", "CC0-1.0", "hub", "zoo/tiny", "not", "here"],
        ["e", "timm/tiny", "0.0", "MB", "CC0-1.0", "url", "http://127.0.0.1:9/e.pth", "not", "here"],
    ]
    assert "resnet50.fashion-mnist " in out  # zoo's own are found from anywhere
    assert hub.asked == []


def test_list_gives_json(zoo, shelf):
    Path("weights/a.safetensors").write_bytes(BODY)
    shelf("a", file="a.safetensors")
    _, out, _ = zoo("weights", "list", "--json")
    assert json.loads(out)[0] == {
        "name": "a",
        "card": "weights/a.toml",
        "architecture": "timm/tiny",
        "bytes": len(BODY),
        "sha256": hashlib.sha256(BODY).hexdigest(),
        "licence": "CC0-1.0",
        "metric": None,
        "source": "file a.safetensors",
        "here": True,
        "path": "weights/a.safetensors",
        "problem": None,
    }


def test_list_says_what_is_wrong_with_a_card_or_its_file(zoo, shelf):
    Path("weights/a.toml").write_text("architecture = resnet")
    Path("weights/b.safetensors").write_bytes(BODY[:-1])
    shelf("b", file="b.safetensors")
    shelf("c", origin={"use": "hub", "repo": "no--repository"})
    shelf("d", origin={"use": "hub", "repo": "zoo/tiny", "file": "../x.safetensors"})
    Path("weights/e.toml").mkdir()
    status, out, _ = zoo("weights", "list", "--json")
    found = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert [found[name]["here"] for name in "abcde"] == [False] * 5
    assert [found[name]["problem"] for name in "abe"] == [
        "the card is not TOML: Invalid value (at line 1, column 16)",
        f"weights/b.safetensors has {len(BODY) - 1} bytes, the card says {len(BODY)}",
        "the card cannot be read: Is a directory",
    ]
    assert "repo" in found["c"]["problem"]
    assert "../x.safetensors" in found["d"]["problem"]
    assert "a " + " " * 20 in zoo("weights", "list")[1].splitlines()[0]


def test_fetch_downloads_once_from_an_address(zoo, shelf, files, tmp_path):
    files.files["/x.safetensors"] = BODY
    shelf("tiny", origin={"use": "url", "url": f"{files.address}/x.safetensors"})
    digest = hashlib.sha256(BODY).hexdigest()
    path = tmp_path / "cache/zoo-finetune/downloads" / digest / "x.safetensors"
    for _ in range(2):
        assert zoo("weights", "fetch", "tiny") == (
            0,
            f"weights      card tiny, url {files.address}/x.safetensors\n"
            f"file         {path}, {len(BODY)} bytes, sha256 {digest}\n"
            "architecture timm/tiny\n"
            "licence      CC0-1.0\n",
            "",
        )
    assert path.read_bytes() == BODY
    assert len(files.asked) == 1
    assert json.loads(zoo("weights", "list", "--json")[1])[-1]["path"] == str(path)


def test_fetch_downloads_once_from_the_hub(zoo, shelf, hub):
    hub.files["zoo/tiny/model.safetensors"] = BODY
    shelf("tiny", origin={"use": "hub", "repo": "zoo/tiny"})
    for _ in range(2):
        status, out, err = zoo("weights", "fetch", "weights/tiny.toml", "--json")
        found = json.loads(out)
        assert (status, err, Path(found.pop("path")).read_bytes()) == (0, "", BODY)
        assert found == {
            "name": "tiny",
            "bytes": len(BODY),
            "sha256": hashlib.sha256(BODY).hexdigest(),
            "licence": "CC0-1.0",
            "architecture": "timm/tiny",
            "origin": f"card tiny, hub zoo/tiny@{COMMIT[:12]}",
        }
    assert sum(asked.startswith("GET /zoo/tiny/") for asked in hub.asked) == 1
    hub.asked.clear()
    assert json.loads(zoo("weights", "list", "--json")[1])[-1]["here"]
    assert hub.asked == []


def test_fetch_refuses_other_bytes_and_unknown_cards(zoo, shelf):
    Path("weights/a.safetensors").write_bytes(BODY)
    shelf("a", file="a.safetensors", sha256="0" * 64)
    assert zoo("weights", "fetch", "a") == (
        2,
        "",
        f"error: a.safetensors has sha256 {hashlib.sha256(BODY).hexdigest()}, not {'0' * 64}\n"
        "  where: weights/a.safetensors\n"
        "  mend:  download it again, or correct the sha256 if the file is the one you mean\n",
    )
    status, _, err = zoo("weights", "fetch", "resnet50.fashion-mnis")
    assert (status, err.splitlines()[0]) == (2, "error: there is no card 'resnet50.fashion-mnis'")
    assert err.splitlines()[2] == "  mend:  did you mean 'resnet50.fashion-mnist'?"


def test_inspect_shows_what_is_in_a_file(zoo, root):
    file = root / "weights/resnet50.fashion-mnist.safetensors"
    status, out, err = zoo("weights", "inspect", file)
    assert (status, err) == (0, "")
    assert out.splitlines()[:2] == [
        f"file         {file}, 47,192,412 bytes, sha256 {sha256(file)}",
        "tensors      320, 23,581,695 elements, 267 bfloat16, 53 int64",
    ]
    assert "fc        2 tensors   20,490 elements" in out
    status, out, _ = zoo("weights", "inspect", file, "--json")
    found = json.loads(out)
    assert found["shapes"]["fc.weight"] == [10, 2048]
    assert sum(stage["elements"] for stage in found["stages"]) == found["elements"] == 23_581_695


def test_inspect_names_containers_and_wrappers(zoo, tiny):
    _, changed = tiny
    file = changed(lambda state: {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}})
    status, out, _ = zoo("weights", "inspect", file, "-v")
    assert status == 0
    assert "inside       state_dict\n" in out
    assert "names have segments of DDP, torch.compile or the like" in out
    assert "module.fc.weight" in out


def test_check_accepts_what_would_load_in_either_library(zoo, root):
    file = root / "weights/resnet50.fashion-mnist.safetensors"
    for backbone in ("timm/resnet50", "torchvision/resnet50"):
        status, out, err = zoo("weights", "check", file, "--backbone", backbone, "--head", "keep")
        assert (status, err) == (0, "")
        assert out.splitlines()[1].endswith("backbone 23,561,205 of 23,561,205 elements, 100 %")


def test_check_is_asked_as_a_recipe_asks(zoo, tiny):
    _, changed = tiny
    other = changed(lambda state: {"teacher.fc.bias": state["fc.bias"], "aux.weight": state["fc.bias"], **state})
    asked = ["weights", "check", other, "--backbone", "timm/test_resnet"]
    assert zoo(*asked)[0] == 2
    status, out, err = zoo(*asked, "--may-drop", "aux.*", "--may-drop", "teacher.*", "-v")
    assert (status, err) == (0, "")
    assert "dropped      1 (aux.weight): may_drop 'aux.*'" in out.splitlines()
    assert "stage        conv1.0: 1 of 1 tensors, 432 of 432 elements" in out.splitlines()
    plain = changed(lambda state: {f"net.{name}": value for name, value in state.items()}, "c.pth")
    aligned = ["weights", "check", plain, "--backbone", "timm/test_resnet", "--align"]
    assert zoo(*aligned, "order")[0] == 0
    assert zoo(*aligned, "sideways")[2] == "error: --align sideways is not understood\n  mend:  names or order\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "timm/resnet51"], "error: there is no backbone 'timm/resnet51': timm has no architecture"),
        (["--backbone", "tim/resnet50"], "error: there is no backbone 'tim'\n  mend:  did you mean 'timm'?\n"),
        (["--backbone", "timm/test_vit"], "error: a.safetensors does not fit the model: "),
        (["--backbone", "timm/test_resnet", "--head", "kep"], "error: --head kep is not understood\n  mend:  reset or"),
    ],
)
def test_check_refuses_what_would_not_load(zoo, tiny, arguments, message):
    status, _, err = zoo("weights", "check", tiny[0], *arguments)
    assert status == 2
    assert err.startswith(message)


def test_diff_finds_the_stage_that_moved_and_those_that_did_not(zoo, tiny):
    first, changed = tiny

    def move(state):
        state["fc.weight"] += 1
        return {f"module.{key}": value for key, value in state.items()}

    status, out, _ = zoo("weights", "diff", first, changed(move), "--json")
    found = json.loads(out)
    moved = {stage["name"] for stage in found["stages"] if stage["identical"] < stage["tensors"]}
    assert (status, moved, found["identical"]) == (1, {"fc"}, False)
    assert [one["name"] for one in found["tensors"] if not one["identical"]] == ["fc.weight"]
    _, out, _ = zoo("weights", "diff", first, changed(move), "-v")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines()[len(found["stages"]) :])
    assert rows.pop("fc.weight").startswith("apart by ")
    assert set(rows.values()) == {"identical"}
    assert len(rows) == len(found["tensors"]) - 1
    assert zoo("weights", "diff", first, changed(lambda state: state))[0] == 0


def test_diff_names_what_only_one_has_and_what_has_another_shape(zoo, tiny):
    first, changed = tiny

    def change(state):
        state["extra"] = torch.ones(1)
        state["fc.weight"] = torch.ones(5, 2)
        del state["fc.bias"]
        return state

    status, out, _ = zoo("weights", "diff", first, changed(change))
    assert status == 1
    assert out.splitlines()[-3:] == ["only first   fc.bias", "only second  extra", "other shape  fc.weight"]


def test_a_file_equals_its_copy_in_another_format(zoo, tiny, tmp_path):
    first, _ = tiny
    torch.save(load_file(first), tmp_path / "copy.pth")
    assert zoo("weights", "diff", first, tmp_path / "copy.pth")[0] == 0


def test_convert_takes_the_tensors_out_of_a_file_that_asks_for_code(zoo, tiny, tmp_path):
    first, changed = tiny
    file = changed(lambda state: {"state_dict": state, "args": Path("somewhere")})
    status, _, err = zoo("weights", "inspect", file)
    assert status == 2
    assert "pathlib" in err
    assert "zoo weights convert" in err
    status, out, err = zoo("weights", "convert", file, tmp_path / "safe")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].startswith(f"wrote        {tmp_path / 'safe.safetensors'}, ")
    assert zoo("weights", "diff", first, tmp_path / "safe.safetensors")[0] == 0
