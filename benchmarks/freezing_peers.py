"""The ways to freeze that benchmarks/freezing.py compares: a function for each library, and what they are given."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freezing_watch import BATCH, CLASSES, EPOCHS, TRAIN, VAL, KerasWatch, Watch

WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "resnet50.fashion-mnist.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DROP_PATH = 0.1
OPTIMISERS: dict[str, dict[str, Any]] = {
    "AdamW": {"lr": 1e-3, "weight_decay": 0.1},
    "SGD": {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1},
}


@dataclass(frozen=True)
class Setting:
    """What a run is given: the optimiser's name, the folder of images (`train/` and `val/`), and one to write in."""

    optimiser: str
    images: Path
    out: Path

    @property
    def options(self) -> dict[str, Any]:
        """The optimiser's options, in torch's words."""
        return OPTIMISERS[self.optimiser]

    def network(self, classes: int = CLASSES, **arguments: Any) -> Any:
        """Return timm's ResNet-50 with the shipped weights and a fresh classifier `fc`, or none when 0 classes."""
        import timm

        net = timm.create_model("resnet50", num_classes=classes, drop_path_rate=DROP_PATH, **arguments)
        return load_shipped(net)

    def optimizer(self, parameters: Iterable[Any]) -> Any:
        """Return torch's optimiser."""
        import torch

        return getattr(torch.optim, self.optimiser)(parameters, **self.options)

    def loader(self, split: str) -> Any:
        """Return batches of "train" or "val"."""
        from torch.utils.data import DataLoader
        from torchvision.datasets import ImageFolder
        from torchvision.transforms import Compose, Normalize, ToTensor

        images = ImageFolder(self.images / split, Compose([ToTensor(), Normalize(MEAN, STD)]))
        return DataLoader(images, batch_size=BATCH, shuffle=split == "train")

    def probe(self) -> Any:
        """Return the images whose features are compared, (8, 3, 32, 32): every fifth to validate on."""
        import torch

        images = self.loader("val").dataset
        return torch.stack([images[index][0] for index in range(0, VAL, 5)])


def load_shipped(net: Any) -> Any:
    from safetensors.torch import load_file

    tensors = {name: value.float() for name, value in load_file(WEIGHTS).items() if not name.startswith("fc.")}
    left = net.load_state_dict(tensors, strict=False)
    if any(not name.startswith("fc.") and not name.endswith("tracked") for name in left.missing_keys):
        raise RuntimeError(f"the weights leave out {left.missing_keys}")
    return net


def plain_loop(net: Any, optimizer: Any, setting: Setting, after_train: Callable[[], object] = lambda: None) -> None:
    """The loop of PyTorch's tutorials: `model.train()` before each epoch, `model.eval()` before each validation."""
    import torch
    from torch.nn.functional import cross_entropy

    for _ in range(EPOCHS):
        net.train()
        after_train()
        for images, targets in setting.loader("train"):
            optimizer.zero_grad()
            cross_entropy(net(images), targets).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            for images, _ in setting.loader("val"):
                net(images)


def torch_alone(setting: Setting, eval_mode: str = "never") -> Watch:
    """Follow "ConvNet as fixed feature extractor" of pytorch.org/tutorials/beginner/transfer_learning_tutorial.html.

    `eval_mode`: the backbone is put in eval mode "never", "once" before training, or "always", after each `train()`.
    The tutorial does none of it.
    """
    net = setting.network().requires_grad_(False)
    net.fc.requires_grad_(True)
    watch = Watch(net, net.fc, setting.probe())

    def still() -> None:
        for name, child in net.named_children():
            if name != "fc":
                child.eval()

    if eval_mode == "once":
        still()
    plain_loop(net, setting.optimizer(net.fc.parameters()), setting, still if eval_mode == "always" else lambda: None)
    return watch


def timm_freeze(setting: Setting) -> Watch:
    """`timm.utils.freeze`, as its docstring has it; the loop does what timm's train.py does."""
    from timm.utils import freeze

    net = setting.network()
    freeze(net, [name for name, _ in net.named_children() if name != "fc"])
    watch = Watch(net, net.fc, setting.probe())
    plain_loop(net, setting.optimizer(p for p in net.parameters() if p.requires_grad), setting)
    return watch


def torchvision_frozen(setting: Setting) -> Watch:
    """As the backbones of torchvision's detectors (`resnet_fpn_backbone`, trainable_layers=0)."""
    from torchvision.models import resnet50
    from torchvision.ops import FrozenBatchNorm2d

    net = load_shipped(resnet50(num_classes=CLASSES, norm_layer=FrozenBatchNorm2d)).requires_grad_(False)
    net.fc.requires_grad_(True)
    watch = Watch(net, net.fc, setting.probe())
    plain_loop(net, setting.optimizer(p for p in net.parameters() if p.requires_grad), setting)
    return watch


def zoo_finetune(setting: Setting, freeze: str) -> Watch:
    """`zoo.finetune` of a recipe (docs/recipes.md); the model is met when its first phase begins.

    Features are not kept, or there would be no step of the backbone to look at.
    """
    import zoo
    from zoo.train import loop

    recipe = setting.out / "recipe.toml"
    recipe.write_text(recipe_text(setting, freeze))
    met: list[Watch] = []

    find_route = loop.find_route

    def meet(model: Any, *given: Any, **named: Any) -> Any:
        if not met:
            met.append(Watch(model.backbone, model.heads, setting.probe()))
        return find_route(model, *given, **named)

    loop.find_route = meet
    zoo.finetune(zoo.load_recipe(recipe), setting.out / "run")
    return met[0]


def recipe_text(setting: Setting, freeze: str) -> str:
    optim = "\n".join(f"{key} = {value}" for key, value in setting.options.items())
    return f"""
format = 1
export = []
run = {{name = "freezing", epochs = {EPOCHS}, batch_size = {BATCH}}}
backbone = {{use = "timm", arch = "resnet50", drop_path = {DROP_PATH}}}
weights = {{use = "card", card = "resnet50.fashion-mnist"}}
head = {{use = "linear"}}
data = {{use = "imagefolder", root = "{setting.images}", image_size = 32, workers = 0, cache = "off"}}
freeze = {freeze}
schedule = {{use = "constant"}}
device = {{use = "single", device = "cpu", precision = "fp32", channels_last = false}}

[optim]
use = "{setting.optimiser.lower()}"
{optim}
"""


def lightning_module(setting: Setting, documented: bool = False) -> Any:
    """Return a LightningModule with a backbone and a head.

    The optimiser gets what trains, as `BaseFinetuning` asks. `documented`: the backbone is used as in "Transfer
    Learning" of Lightning's documentation (advanced/transfer_learning.html), and the optimiser gets all parameters.
    """
    import torch
    from lightning.pytorch import LightningModule
    from torch.nn.functional import cross_entropy

    class Lit(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = setting.network(0)
            self.head = torch.nn.Linear(self.backbone.num_features, CLASSES)
            if documented:
                self.backbone.eval()

        def forward(self, images: Any) -> Any:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not documented):
                features = self.backbone(images)
            return self.head(features)

        def training_step(self, batch: Any, _: int) -> Any:
            return cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", cross_entropy(self(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return setting.optimizer(p for p in self.parameters() if p.requires_grad or documented)

    return Lit()


def lightning_fit(setting: Setting, callback: str, **options: Any) -> Watch:
    """`Trainer.fit` with a callback: one of Lightning's, as their docstrings have them, or of finetuning-scheduler."""
    from lightning.pytorch import Trainer

    model = lightning_module(setting, documented=callback == "none")
    watch = Watch(model.backbone, model.head, setting.probe())
    callbacks = [] if callback == "none" else [lightning_callback(callback, options)]
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=callbacks,
        default_root_dir=setting.out,
        logger=False,
        enable_checkpointing=callback == "FinetuningScheduler",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, setting.loader("train"), setting.loader("val"))
    return watch


def lightning_callback(name: str, options: dict[str, Any]) -> Any:
    from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning

    class Freeze(BaseFinetuning):
        def freeze_before_training(self, pl_module: Any) -> None:
            self.freeze(pl_module.backbone, **options)

        def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
            pass

    if name == "BaseFinetuning":
        return Freeze()
    if name == "BackboneFinetuning":
        return BackboneFinetuning(unfreeze_backbone_at_epoch=EPOCHS + 1, **options)
    from finetuning_scheduler import FinetuningScheduler

    return FinetuningScheduler(ft_schedule={0: {"params": ["head.weight", "head.bias"]}}, max_depth=0, **options)


def fastai_fit(setting: Setting, bn_freeze: bool = False) -> Watch:
    """`vision_learner`, `Learner.freeze`, `Learner.fit` (docs.fast.ai/vision.learner.html).

    `bn_freeze`: with train_bn=False and the callback `BnFreeze` (docs.fast.ai/callback.training.html).
    """
    from fastai.vision import all as fastai

    mean_std = fastai.Normalize.from_stats(MEAN, STD)
    data = fastai.ImageDataLoaders.from_folder(
        setting.images, train="train", valid="val", bs=BATCH, batch_tfms=[mean_std], num_workers=0, device="cpu"
    )
    options = {"train_bn": False, "cbs": [fastai.BnFreeze]} if bn_freeze else {}
    optimiser = fastai.Adam if setting.optimiser == "AdamW" else fastai.SGD
    learn = fastai.vision_learner(
        data, "resnet50", pretrained=False, drop_path_rate=DROP_PATH, opt_func=optimiser, path=setting.out, **options
    )
    load_shipped(learn.model[0].model)
    learn.freeze()
    watch = Watch(learn.model[0].model, learn.model[1], setting.probe())
    with learn.no_bar(), learn.no_logging():
        learn.fit(EPOCHS, setting.options["lr"], wd=setting.options["weight_decay"])
    watch.steps = learn.train_iter
    watch.optimised = {id(parameter) for parameter, *_ in learn.opt.all_params()}
    return watch


def transformers_fit(setting: Setting) -> Watch:
    """`Trainer` on timm's network in transformers' wrapper, `model.base_model` frozen but for its classifier.

    The wrapper and the loop are those of huggingface.co/docs/transformers/model_doc/timm_wrapper and
    main_classes/trainer; there is no call that freezes, so `requires_grad` is set as in plain PyTorch.
    """
    import torch
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, Trainer, TrainingArguments

    arguments = {"drop_path_rate": DROP_PATH}
    config = TimmWrapperConfig(architecture="resnet50", num_labels=CLASSES, model_args=arguments)
    model = TimmWrapperForImageClassification(config)
    net = load_shipped(model.base_model)
    for parameter in net.parameters():
        parameter.requires_grad = False
    net.get_classifier().requires_grad_(True)
    watch = Watch(net, net.get_classifier(), setting.probe())
    train, val = (
        [{"pixel_values": image, "labels": target} for image, target in setting.loader(split).dataset]
        for split in ("train", "val")
    )
    options = TrainingArguments(
        output_dir=str(setting.out),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        eval_strategy="epoch",
        save_strategy="no",
        weight_decay=setting.options["weight_decay"],
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    cls = getattr(torch.optim, setting.optimiser)
    Trainer(
        model, options, train_dataset=train, eval_dataset=val, optimizer_cls_and_kwargs=(cls, setting.options)
    ).train()
    return watch


def keras_fit(setting: Setting, **call: Any) -> KerasWatch:
    """Follow "Transfer learning & fine-tuning" (keras.io/guides/transfer_learning): `base_model.trainable = False`.

    `call` is how the base is called within the model; the guide has training=False.
    """
    import keras
    import torch

    base = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg")
    base.trainable = False
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(base(inputs, **call)))
    options = {"learning_rate" if key == "lr" else key: value for key, value in setting.options.items()}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(getattr(keras.optimizers, setting.optimiser)(**options), loss)
    watch = KerasWatch(model, base, setting.probe())
    train, val = (
        tuple(torch.cat(parts).numpy() for parts in zip(*setting.loader(split), strict=True))
        for split in ("train", "val")
    )
    train, val = ((images.transpose(0, 2, 3, 1), targets) for images, targets in (train, val))
    model.fit(*train, batch_size=BATCH, epochs=EPOCHS, validation_data=tuple(val), verbose=0)
    if int(model.optimizer.iterations) != EPOCHS * TRAIN // BATCH:
        raise RuntimeError(f"{model.optimizer.iterations} steps were taken")
    return watch
