"""The backbone `transformers`: image classifiers built from their configuration, under transformers' own names."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import zoo
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from zoo_hf.input import find_input
from zoo_hf.plugin import TransformersOptions
from zoo_hf.repository import open_repository

_NOT_THE_NETWORK = frozenset(
    {"architectures", "dtype", "id2label", "label2id", "model_type", "num_labels", "problem_type", "torch_dtype"}
    | {"transformers_version", "_name_or_path", "return_dict", "output_attentions", "output_hidden_states"}
    | {"stage_names", "out_features", "out_indices"}
)
"""What a configuration says beside the network that it describes; the number of classes is the head's."""


@dataclass(frozen=True)
class Create:
    """Makes transformers' own classifier with random weights; `arguments` are those of its configuration."""

    model_type: str
    arguments: Mapping[str, Any]

    def __call__(self, classes: int) -> nn.Module:
        """Return the model with so many classes."""
        # A copy: configurations keep the lists that they are given. `architectures`: from_config looks through it.
        arguments = copy.deepcopy(dict(self.arguments))
        config = AutoConfig.for_model(self.model_type, architectures=[], num_labels=classes, **arguments)
        module: nn.Module = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
        return module

    @property
    def code(self) -> str:
        """The same as Python."""
        given = "".join(f", {key}={value!r}" for key, value in self.arguments.items())
        config = f'transformers.AutoConfig.for_model("{self.model_type}", architectures=[], num_labels=classes{given})'
        return f"transformers.AutoModelForImageClassification.from_config({config})"


def build(options: TransformersOptions, image_size: tuple[int, int] | None) -> zoo.Backbone:
    """Return the architecture with random weights on torch's default device, for images of `image_size` (or its own).

    ZooError: there is no such type, folder or name on the hub, transformers has no image classifier of the type, it
    does not end in a linear layer on pooled features, it cannot take that size, or `config` says what it does not know.
    """
    repository = open_repository(options.arch, options.revision, architectures())
    config = _changed(repository.config, options)
    expected = find_input(config, repository)
    arguments = {key: value for key, value in config.to_diff_dict().items() if key not in _NOT_THE_NETWORK}
    if image_size is not None and "image_size" in config.to_dict():
        arguments["image_size"] = image_size[0] if image_size[0] == image_size[1] else list(image_size)
    create = Create(config.model_type, arguments)
    return zoo.wrap_classifier(
        create,
        library="transformers",
        arch=config.model_type,
        code=create.code,
        input=expected,
        image_size=image_size,
        arguments=arguments,
        logits="logits",
    )


def architectures() -> list[str]:
    """Return the model types that transformers has image classifiers of."""
    return list(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)


def _changed(config: Any, options: TransformersOptions) -> Any:
    """Return the configuration with the recipe's changes, and what follows from them."""
    known = config.to_dict()
    strange = [key for key in options.config if key not in known or key in _NOT_THE_NETWORK]
    if strange:
        what = f"the configuration of {options.arch!r} has no {strange[0]!r} to change"
        keys = ", ".join(sorted(key for key in known if key not in _NOT_THE_NETWORK))
        raise zoo.ZooError(what, where="[backbone] config", hint=f"it has {keys}")
    if not options.config:
        return config
    # Swin's like work these out from `depths`, and say them as if they had been told.
    derived = {"hidden_size", "num_layers"} if "depths" in known else set()
    kept = {key: value for key, value in config.to_diff_dict().items() if key not in _NOT_THE_NETWORK | derived}
    try:
        return AutoConfig.for_model(config.model_type, **{**kept, **options.config})
    except Exception as error:
        what = f"the configuration of {options.arch!r} cannot be changed so: {str(error).splitlines()[0]}"
        raise zoo.ZooError(
            what, where="[backbone] config", hint="see the type in transformers' documentation"
        ) from error
