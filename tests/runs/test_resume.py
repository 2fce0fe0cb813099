"""A resume goes on with the same run, on the same data; what would make it another one is refused, nothing lost."""

import json

import pytest
import tomli

from zoo.run import steps


@pytest.fixture
def run(zoo, recipe, tmp_path):
    """A finished run, and what it left."""
    assert zoo("finetune", recipe, "--out", "run")[0] == 0
    return tmp_path / "run"


@pytest.fixture
def resume(zoo, run):
    """Go on with the run for a third epoch."""

    def resume(*sets):
        words = [word for setting in ("run.epochs=3", *sets) for word in ("--set", setting)]
        status, _, err = zoo("finetune", run / "recipe.toml", "--out", run, "--resume", *words)
        return status, err

    return resume


def facts(run):
    return {name: (run / name).read_bytes() for name in ("recipe.toml", "classes.txt", "environment.json", "load.json")}


def epochs(run):
    return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_resume_and_overwrite_exclude_each_other(zoo, run):
    before = facts(run)
    status, _, err = zoo("finetune", run / "recipe.toml", "--out", run, "--resume", "--overwrite")
    assert (status, err) == (
        2,
        "error: --resume goes on with a run and --overwrite removes it\n  mend:  leave out one of them\n",
    )
    assert facts(run) == before


def test_a_precision_that_is_named_is_the_one_that_is_used(run, resume):
    assert resume("device.precision=bf16") == (0, "")
    assert tomli.loads((run / "recipe.toml").read_text())["device"]["precision"] == "bf16"


def test_what_was_measured_is_not_measured_again(zoo, recipe, tmp_path, monkeypatch):
    """The recipe says "auto"; the run has what was fast, and keeps to it."""
    auto = ("--set", "device.precision=auto", "--set", "device.channels_last=auto")
    assert zoo("finetune", recipe, "--out", "run", *auto)[0] == 0
    before = tomli.loads((tmp_path / "run/recipe.toml").read_text())["device"]
    monkeypatch.setattr(steps, "choose_settings", lambda *_: pytest.fail("it is measured again"))
    assert zoo("finetune", recipe, "--out", "run", *auto, "--resume", "--set", "run.epochs=3")[::2] == (0, "")
    assert tomli.loads((tmp_path / "run/recipe.toml").read_text())["device"] == before


def test_only_what_is_measured_may_be_auto_in_the_recipe(zoo, recipe):
    assert zoo("finetune", recipe, "--out", "fixed", "--set", "freeze.bn=fixed")[0] == 0
    status, _, err = zoo("finetune", recipe, "--out", "fixed", "--resume", "--set", "run.epochs=3")
    assert (status, err) == (
        2,
        "error: the recipe is not the run's: freeze.bn\n  where: fixed/recipe.toml\n"
        "  mend:  give the run's own recipe, or name the change: --set freeze.bn=…\n",
    )
    text = recipe.read_text().replace('"fp32"', '"auto"').replace("channels_last = false\n", "")
    recipe.write_text(text.replace("[run]", '[freeze]\nbn = "fixed"\n\n[run]'))
    assert zoo("finetune", recipe, "--out", "fixed", "--resume", "--set", "run.epochs=3")[0] == 0


def test_other_classes_are_refused_even_when_they_are_as_many(run, photos, resume):
    before = facts(run)
    for split in ("train", "val"):
        (photos / split / "below").rename(photos / split / "aaa")
    status, err = resume("data.on_bad_image=skip")
    assert status == 2
    assert err == (
        "error: the data is not what the run was trained on: classes above, below then, aaa, above now\n"
        "  where: [data]\n  mend:  put it back, or start a new run\n"
    )
    assert (facts(run), epochs(run)) == (before, [1, 2])


def test_other_images_are_refused_unless_the_change_is_named(run, photos, resume):
    (photos / "train/above/03.png").unlink()
    status, err = resume()
    assert status == 2
    assert err.startswith("error: the data is not what the run was trained on: images 32 (")
    assert err.endswith(
        "  where: [data]\n"
        "  mend:  put it back, or start a new run; name a key of it to take other images: --set data.…=…\n"
    )
    assert resume(f"data.root={photos}") == (0, "")
    assert epochs(run) == [1, 2, 3]


@pytest.mark.parametrize(
    "changes", [["head.name=other"], ["run.ema=0.9", "export=[{use='safetensors',weights='ema'}]"]]
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_the_run_is_as_it_was(zoo, run, resume, changes):
    before = facts(run)
    status, err = resume(*changes)
    assert status == 2
    assert err.startswith("error: step-00000008 does not fit the recipe: ")
    assert err.endswith("  mend:  resume with the run's own recipe, or start a new run\n")
    assert facts(run) == before
    assert zoo("evaluate", run)[0] == 0


def test_a_run_that_stopped_early_stays_stopped(zoo, recipe, tmp_path):
    sets = ["--set", "callback=[{use='early-stop', patience=1, min_delta=1.0}]", "--set", "run.epochs=5"]
    assert zoo("finetune", recipe, "--out", "run", *sets)[0] == 0
    before = epochs(tmp_path / "run")
    status, out, _ = zoo("finetune", tmp_path / "run/recipe.toml", "--out", "run", "--resume")
    assert status == 0
    assert "stopped: val/accuracy has not improved" in out
    assert epochs(tmp_path / "run") == before
