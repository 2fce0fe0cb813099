"""The branch case: a second head beside a trained, frozen classifier, and what became of the first."""

import json

import pytest
import torch

from zoo import load_registry
from zoo.run.folder import RunFolder
from zoo.run.trained import load_trained

BRANCH = """\
export = []

[[head]]
name = "main"

[[head]]
name = "second"
target = "half"
dropout = 0.2
"""


@pytest.fixture
def branch(zoo, recipe, tmp_path):
    """A trained run in "first", and a recipe that goes on from it with a second head, which alone trains."""
    assert zoo("finetune", recipe, "--out", "first")[0] == 0
    path = tmp_path / "branch.toml"
    text = recipe.read_text().replace("format = 1\n", "format = 1\n" + BRANCH, 1)
    text += f'\n[weights]\nuse = "run"\nrun = "{tmp_path / "first"}"\nhead = "keep"\n'
    text += (
        '\n[freeze]\nuse = "head"\ntrain = ["second"]\n\n[data.targets.half]\nlower = ["below"]\nupper = ["above"]\n'
    )
    path.write_text(text.replace('name = "tiny"\n', 'name = "branch"\nbest_by = "val/second/accuracy"\n'))
    return path


def logits(run, head, images):
    model = load_trained(RunFolder(run), load_registry()).network.model
    with torch.inference_mode():
        return model(images)[head]


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_the_first_head_s_logits_are_bit_identical(zoo, branch, tmp_path, cache):
    status, out, err = zoo("finetune", branch, "--out", "second", "--set", f"data.cache={cache}")
    assert (status, err) == (0, ""), err
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before, after = (logits(tmp_path / run, "main", images) for run in ("first", "second"))
    assert torch.equal(before, after)
    found = json.loads((tmp_path / "second" / "audit.json").read_text())["heads"]
    assert list(found) == ["main"]
    assert found["main"]["identical"]
    assert found["main"]["start"] == found["main"]["end"]
    assert "head main, frozen: its logits on the validation images are bit-identical" in out


def test_tracked_statistics_drift_and_the_audit_says_how_much_accuracy_changed(zoo, branch, tmp_path):
    status, out, err = zoo("finetune", branch, "--out", "second", "--set", "freeze.bn=track")
    assert (status, err) == (0, ""), err
    report = json.loads((tmp_path / "second" / "audit.json").read_text())
    found = report["heads"]["main"]
    assert not found["identical"]
    assert len(report["drifted"]) == 45
    start, end = found["start"]["accuracy"], found["end"]["accuracy"]
    assert f"head main, frozen: its logits changed: accuracy {start:.4g} → {end:.4g}" in out
    assert "45 statistics of frozen layers drifted, as freeze.bn lets them" in out
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before, after = (logits(tmp_path / run, "main", images) for run in ("first", "second"))
    assert not torch.equal(before, after)


def test_a_resume_compares_with_the_run_s_own_start(zoo, branch, tmp_path):
    assert zoo("finetune", branch, "--out", "second", "--set", "freeze.bn=track", "--set", "run.epochs=1")[0] == 0
    first = json.loads((tmp_path / "second" / "audit.json").read_text())["heads"]["main"]
    status, _, err = zoo(
        *("finetune", branch, "--out", "second", "--resume", "--set", "freeze.bn=track", "--set", "run.epochs=2")
    )
    assert (status, err) == (0, ""), err
    assert json.loads((tmp_path / "second" / "audit.json").read_text())["heads"]["main"]["start"] == first["start"]


def test_zoo_audit_reads_the_bytes_again(zoo, branch, tmp_path):
    zoo("finetune", branch, "--out", "second")
    status, out, err = zoo("audit", "second")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "audit        92 tensors frozen throughout, bit-identical",
        "audit        from epoch 1: at step 1 2 of 2 trained tensors moved, 47 frozen",
        "audit        head main, frozen: its logits on the validation images are bit-identical",
        f"checked      92 tensors in {_best(tmp_path / 'second')}: the same bytes",
    ]
    status, out, _ = zoo("audit", "second", "--json")
    assert json.loads(out)["checked"] == 92


def test_zoo_audit_refuses_other_bytes(zoo, branch, tmp_path):
    zoo("finetune", branch, "--out", "second")
    path = tmp_path / "second" / "audit.json"
    report = json.loads(path.read_text())
    report["frozen"]["backbone.bn1.weight"]["start"] = "0" * 64
    path.write_text(json.dumps(report))
    status, _, err = zoo("audit", "second")
    assert status == 2
    assert err == (
        "error: frozen, but moved: backbone.bn1.weight of model\n"
        "  where: second/audit.json\n  mend:  run the recipe again\n"
    )


def test_zoo_audit_of_a_run_that_has_none(zoo, recipe, tmp_path):
    zoo("finetune", recipe, "--out", "first")
    (tmp_path / "first" / "audit.json").unlink()
    status, _, err = zoo("audit", "first")
    assert status == 2
    assert err == (
        "error: cannot read audit.json: [Errno 2] No such file or directory: 'first/audit.json'\n"
        "  where: first\n  mend:  run the recipe again\n"
    )


def test_a_head_of_a_target_that_is_not_there(zoo, branch):
    branch.write_text(branch.read_text().replace('target = "half"', 'target = "hlaf"'))
    status, _, err = zoo("check", branch)
    assert status == 2
    assert err == (
        "error: head 'second' predicts 'hlaf', which is no target\n"
        f"  where: {branch}, key head\n  mend:  did you mean 'half'?\n"
    )


def _best(run):
    return json.loads((run / "checkpoints" / "index.json").read_text())["best"]
