import pytest

from tests.recipe.conftest import SMALL
from zoo.errors import RecipeError, nearest
from zoo.recipe import read_recipe, resolve
from zoo.registry import Candidate, HeadPart, Options, Owner, hookimpl, load_registry
from zoo.registry.builtin.architectures import known


def refusal(read, text=SMALL, *sets):
    with pytest.raises(RecipeError) as caught:
        read(text, *sets)
    return caught.value.problems


def test_what_is_left_out_gets_its_default(read):
    recipe = read()
    assert recipe.freeze.part.name == "none"
    assert recipe.weights.common.head == "reset"
    assert recipe.schedule.use == "cosine"
    assert [callback.part.name for callback in recipe.callbacks] == ["progress", "metrics-jsonl"]
    assert [export.part.name for export in recipe.exports] == ["safetensors"]


def test_a_callback_comes_before_the_runs_own_records(read):
    recipe = read(SMALL + '[[callback]]\nuse = "metrics-jsonl"\n[[callback]]\nuse = "early-stop"\npatience = 2\n')
    assert [callback.part.name for callback in recipe.callbacks] == ["metrics-jsonl", "early-stop", "progress"]
    assert recipe.callbacks[1].options.patience == 2


def test_all_errors_come_at_once_each_with_its_line(read, small):
    text = """\
format = 1
colour = 2

[run]
name = "small"
epochs = 0
bach_size = 3

[backbone]
use = "timm"
arch = "resnet5"

[data]
use = "digtis"

[optim]
lr = "fast"

[schedule]
use = "cosin"

[head]
dropout = 1.5
"""
    assert "\n".join(map(str, refusal(read, text))) == (
        f"a recipe has no table or key 'colour'\n"
        f"  where: {small}:2, key colour\n"
        f"  mend:  one of: backbone, callback, checkpoint, data, device, export, format, freeze, head, optim, "
        f"plugins, run, … (14 in all)\n"
        f"run.epochs = 0: input should be greater than or equal to 1\n"
        f"  where: {small}:6, key run.epochs\n"
        f"  mend:  Passes over the training images.\n"
        f"[run] has no key 'bach_size'\n"
        f"  where: {small}:7, key run.bach_size\n"
        f"  mend:  did you mean 'batch_size'?\n"
        f"optim.lr = 'fast': input should be a valid number, unable to parse string as a number\n"
        f"  where: {small}:17, key optim.lr\n"
        f"  mend:  Peak learning rate.\n"
        f"schedule.use = 'cosin': there is no schedule 'cosin'\n"
        f"  where: {small}:20, key schedule.use\n"
        f"  mend:  did you mean 'cosine'?\n"
        f"backbone.arch = 'resnet5': timm has no architecture 'resnet5'; "
        f"{nearest('resnet5', known('timm'))}\n"
        f"  where: {small}:11, key backbone.arch\n"
        f'  mend:  timm\'s name of the architecture, with or without a pretrained tag: "resnet50", '
        f'"resnet50.a1_in1k".\n'
        f"head.dropout = 1.5: input should be less than 1\n"
        f"  where: {small}:23, key head.dropout\n"
        f"  mend:  Probability of dropping a feature in training.\n"
        f"there is no data 'digtis'\n"
        f"  where: {small}:14, key data.use\n"
        f"  mend:  did you mean 'digits'?"
    )


def test_a_format_of_another_time_is_refused(read, small):
    (problem,) = refusal(read, SMALL.replace("format = 1", "format = 2"))
    assert str(problem) == (
        f"format 2 is not known to this zoo\n  where: {small}:1, key format\n  mend:  it reads format 1"
    )
    (problem,) = refusal(read, SMALL.replace("format = 1", ""))
    assert problem.what == "the recipe does not say its format"


def test_a_recipe_needs_a_backbone_and_data(read):
    whats = [problem.what for problem in refusal(read, 'format = 1\n[run]\nname = "a"\nepochs = 1\n')]
    assert whats == ["the recipe has no [backbone]", "the recipe has no [data]"]


def test_a_missing_key_and_a_missing_use(read):
    whats = [problem.what for problem in refusal(read, SMALL.replace('arch = "test_resnet"', ""), "data={}")]
    assert whats == ["[backbone] needs the key 'arch'", "[data] needs the key 'use'"]


def test_a_value_of_the_wrong_form(read):
    whats = [problem.what for problem in refusal(read, SMALL, "data=3", "callback={}", "backbone.use=1", "head=[]")]
    assert sorted(whats) == [
        "'callback' is a list of tables",
        "backbone.use = 1 is not a name",
        "data = 3 is not a table",
        "the recipe has no head",
    ]


def test_common_keys_and_options_share_a_table_and_its_suggestions(read):
    (problem,) = refusal(read, SMALL, "data.agument=flip")
    assert str(problem) == (
        "[data] has no key 'agument'\n  where: --set data.agument=flip\n  mend:  did you mean 'augment'?"
    )


def test_nothing_measures_the_best_by(read):
    (problem,) = refusal(read, SMALL, "run.best_by=val/acuracy")
    assert str(problem) == (
        "run.best_by = 'val/acuracy': nothing measures it\n"
        "  where: --set run.best_by=val/acuracy\n"
        "  mend:  did you mean 'val/accuracy'?"
    )


def test_several_heads_have_names_of_their_own(read):
    heads = "[[head]]\n[[head]]\nname = 'other'\n"
    recipe = read(SMALL + heads, "run.best_by=val/other/accuracy")
    assert list(recipe.directions()) == ["val/loss", "val/main/accuracy", "val/other/accuracy"]
    (problem,) = refusal(read, SMALL + "[[head]]\n[[head]]\n", "run.best_by=val/main/accuracy")
    assert problem.what == "two heads are named 'main'"


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("schedule.milestones=[0.5]", "[schedule] has no key 'milestones'"),
        ("optim.lr=nan", "optim.lr = nan: input should be a finite number"),
        (
            "device.device=cuda:x",
            "device.device = 'cuda:x': string should match pattern '^(auto|cpu|mps|cuda(:\\d+)?)$'",
        ),
        ("weights.rename=[['(', 'a']]", "[weights] has no key 'rename'"),
        *[
            (
                f"checkpoint.every={value}",
                f'checkpoint.every = {shown}: give "epoch", a number of steps (200), or minutes ("10m")',
            )
            for value, shown in [("0", "0"), ("true", "True"), ("0m", "'0m'"), ("10s", "'10s'"), ("1.5", "1.5")]
        ],
    ],
)
def test_single_refusals(read, setting, what):
    assert [problem.what for problem in refusal(read, SMALL, setting)] == [what]


@pytest.mark.parametrize(("value", "devices"), [("auto", "auto"), ("2", 2), ("[1, 3]", (1, 3)), ("[0]", (0,))])
def test_how_many_devices(read, value, devices):
    assert read(SMALL, f"device.devices={value}").device.common.devices == devices


WHY = 'input should be "auto", a number of devices, or a list of GPUs such as [1, 3]'


@pytest.mark.parametrize(
    ("value", "shown", "why"),
    [
        ("0", "0", WHY),
        ("true", "True", WHY),
        ("[]", "[]", WHY),
        ("[-1]", "[-1]", WHY),
        ('"two"', "'two'", WHY),
        ("[1, 1]", "[1, 1]", "a GPU can be named once"),
    ],
)
def test_devices_that_cannot_be(read, value, shown, why):
    whats = [problem.what for problem in refusal(read, SMALL, f"device.devices={value}")]
    assert whats == [f"device.devices = {shown}: {why}"]


@pytest.mark.parametrize("every", ["epoch", 200, "10m"])
def test_how_often_a_checkpoint_is_kept(read, every):
    assert read(SMALL, f"checkpoint.every={every}").checkpoint.every == every


def test_a_rename_rule_compiles(read):
    (problem,) = refusal(read, SMALL, "weights={use='file', file='x.pth', rename=[['(', 'a']]}")
    assert problem.what.startswith("weights.rename = [['(', 'a']]: '(' is not a regular expression: ")


@pytest.mark.parametrize("use", ["constant", "linear", "cosine", "step", "one-cycle"])
def test_every_schedule_names_its_own_unknown_keys(read, use):
    extra = ", milestones=[0.5]" if use == "step" else ""
    (problem,) = refusal(read, SMALL, f"schedule={{use='{use}', warmpu=0.1{extra}}}")
    assert (problem.what, problem.hint) == ("[schedule] has no key 'warmpu'", "did you mean 'warmup'?")


@pytest.mark.parametrize("size", ["0", "-5", "[32, 0]"])
def test_an_image_has_pixels(read, size):
    whats = [problem.what for problem in refusal(read, SMALL, f"data.image_size={size}")]
    assert any(what.endswith("input should be greater than or equal to 1") for what in whats)


def test_what_nothing_measures_comes_with_the_other_errors(read):
    whats = [problem.what for problem in refusal(read, SMALL, "run.best_by=val/acc", "freeze.use=stage")]
    assert whats == ["there is no freeze 'stage'", "run.best_by = 'val/acc': nothing measures it"]


class ShadowOptions(Options):
    weight: float = 3.0


class ShadowPlugin:
    @hookimpl
    def zoo_heads(self):
        return [HeadPart("shadow", build="a:b", options=ShadowOptions)]


def test_an_option_that_a_common_key_would_hide_is_refused(small):
    registry = load_registry(candidates=[Candidate(Owner("shadows", "1", "shadow"), ShadowPlugin)])
    with pytest.raises(RecipeError) as caught:
        resolve(read_recipe(small, ["head={use='shadow', weight=2}", "run.best_by=val/loss"]), registry)
    assert str(caught.value) == (
        "head 'shadow' has options named like keys of every [head]: weight\n"
        "  where: --set head={use='shadow', weight=2}\n  mend:  its author must rename them"
    )
