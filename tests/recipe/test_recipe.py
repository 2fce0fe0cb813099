import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.recipe.conftest import SMALL
from zoo.recipe.read import Document
from zoo.recipe.resolve import resolve

SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "clip_norm": st.floats(1e-6, 1e6),
        "ema": st.floats(0, 0.999),
        "accumulate": st.integers(1, 8),
    },
)


@given(SETTINGS, st.sampled_from(["none", "head", "zero-lr"]), st.lists(st.just({"use": "early-stop"}), max_size=2))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_reads_back_equal(registry, run, freeze, callbacks):
    table = tomli.loads(SMALL)
    table["run"] |= run
    table["freeze"] = {"use": freeze}
    table["callback"] = callbacks
    table["export"] = [{"use": "safetensors", "weights": "ema" if run.get("ema") else "last"}]
    recipe = resolve(Document(table), registry)
    again = resolve(Document(tomli.loads(recipe.to_toml())), registry)
    assert again == recipe
    assert again.to_toml() == recipe.to_toml()


def test_every_default_is_written(read):
    table = tomli.loads(read().to_toml())
    assert table["run"] == {
        "name": "small", "epochs": 1, "batch_size": 32, "accumulate": 1, "seed": 0, "best_by": "val/accuracy",
        "ema": 0.0,
    }  # fmt: skip
    assert table["device"] == {
        "use": "single", "device": "auto", "devices": "auto", "precision": "auto", "channels_last": "auto",
        "compile": False, "sync_batchnorm": False,
    }  # fmt: skip
    assert table["export"] == [{"use": "safetensors", "dtype": "float32"}]


def test_measured_settings_are_written(read):
    recipe = read().with_device(precision="bf16", channels_last=True)
    assert tomli.loads(recipe.to_toml())["device"] == {
        "use": "single", "device": "auto", "devices": "auto", "precision": "bf16", "channels_last": True,
        "compile": False, "sync_batchnorm": False,
    }  # fmt: skip


def test_every_kind_of_part_is_among_the_chosen(read):
    kinds = [chosen.part.kind.name for chosen in read().chosen()]
    assert kinds == ["backbone", "weights", "data", "freeze", "device", "head", "export", "callback", "callback"]
