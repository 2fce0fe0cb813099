"""Bind every name of a recipe to a part and type every option. All of a recipe's errors come at once."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from zoo.errors import PluginError, Problem, RecipeError, nearest
from zoo.recipe import schema
from zoo.recipe.read import Document, read_recipe
from zoo.recipe.recipe import Chosen, Recipe
from zoo.registry import kinds
from zoo.registry.owner import read_owners
from zoo.registry.parts import Options
from zoo.registry.registry import Registry, load_registry

DEFAULT_CALLBACKS = ("progress", "metrics-jsonl")
DEFAULT_EXPORT = "safetensors"
SCHEDULES = {
    model.model_fields["use"].annotation.__args__[0]: model for model in get_args(get_args(schema.Schedule)[0])
}
"""The schedules' tables, by the word that chooses one."""

TABLES = ("format", *schema.FIXED, *kinds.BY_NAME)


def load_recipe(path: str | Path, registry: Registry | None = None, sets: Iterable[str] = ()) -> Recipe:
    """Read and resolve the recipe at `path`, with `KEY=VALUE` settings on top.

    `registry` is that of all installed plugins when None. RecipeError holds every problem found, each with its key and
    line.
    """
    registry = (registry or load_registry()).remembering(read_owners(Path(path).parent))
    return resolve(read_recipe(Path(path), sets), registry)


def resolve(document: Document, registry: Registry) -> Recipe:
    """Resolve a document against the installed parts. RecipeError holds every problem found."""
    return _Resolver(document, registry).resolve()


class _Resolver:
    """Collects problems on the way; values of what is wrong are None and never get out."""

    def __init__(self, document: Document, registry: Registry) -> None:
        self.document = document
        self.table = document.table
        self.registry = registry
        self.problems: list[Problem] = []

    def resolve(self) -> Recipe:
        self._check_format()
        self._check_tables()
        fixed: dict[str, Any] = {name: self._fixed(name, model) for name, model in schema.FIXED.items()}
        recipe = Recipe(
            **fixed,
            backbone=self._one(kinds.BACKBONE),
            weights=self._one(kinds.WEIGHTS),
            heads=self._heads(),
            data=self._one(kinds.DATA),
            freeze=self._one(kinds.FREEZE),
            device=self._one(kinds.DEVICE),
            exports=self._many(kinds.EXPORT, self._listed(kinds.EXPORT, [{"use": DEFAULT_EXPORT}])),
            callbacks=self._many(kinds.CALLBACK, self._callbacks()),
            path=self.document.path,
        )
        if recipe.plugins and recipe.plugins.require:
            self._check_requirements(recipe.plugins.require)
        if recipe.run and recipe.heads and all(head and head.common for head in recipe.heads):
            self._check_best_by(recipe)
        if recipe.data and recipe.data.common:
            self._check_targets(recipe)
        if recipe.run and all(export and export.common for export in recipe.exports):
            self._check_exports(recipe)
        if self.problems:
            raise RecipeError.of(self.problems)
        return recipe

    def _refuse(self, what: str, key: str, hint: str = "") -> None:
        self.problems.append(Problem(what, self.document.where(key), hint))

    def _check_format(self) -> None:
        found = self.table.get("format")
        if found is None:
            self._refuse("the recipe does not say its format", "format", f"write `format = {schema.FORMAT}` at its top")
        elif found != schema.FORMAT or isinstance(found, bool):
            self._refuse(f"format {found!r} is not known to this zoo", "format", f"it reads format {schema.FORMAT}")

    def _check_tables(self) -> None:
        for name in self.table:
            if name not in TABLES:
                self._refuse(f"a recipe has no table or key {name!r}", name, nearest(name, TABLES))

    def _fixed(self, name: str, model: Any) -> Any:
        value = self.table.get(name, {})
        if name == "schedule" and isinstance(value, dict):
            value = {"use": "cosine", **value}
        return self._validate(model, value, name)

    def _validate(self, model: Any, value: Any, key: str, known: Iterable[str] = ()) -> Any:
        try:
            return TypeAdapter(model).validate_python(value)
        except ValidationError as error:
            for detail in error.errors():
                self._add(detail, key, model, known)
            return None

    def _add(self, detail: ErrorDetails, key: str, model: Any, known: Iterable[str]) -> None:
        path = [str(word) for word in detail["loc"]]
        if key == "schedule" and path:
            path, model = path[1:], SCHEDULES[path[0]]
        full = ".".join([key, *path])
        if detail["type"] == "union_tag_invalid":
            use = str(detail["ctx"]["tag"])
            self._refuse(f"{full}.use = {use!r}: there is no {key} {use!r}", f"{full}.use", nearest(use, SCHEDULES))
        elif detail["type"] == "extra_forbidden":
            names = {*known, *_fields(model)}
            self._refuse(f"[{key}] has no key {path[-1]!r}", full, nearest(path[-1], names))
        elif detail["type"] == "missing":
            self._refuse(f"[{key}] needs the key {path[-1]!r}", full, _described(model, path))
        else:
            self._refuse(f"{full} = {detail['input']!r}: {_message(detail)}", full, _described(model, path))

    def _one(self, kind: kinds.Kind) -> Any:
        value = self.table.get(kind.name)
        if value is None and kind.required:
            self._refuse(f"the recipe has no [{kind.name}]", kind.name, f"choose one with `zoo list {kind.name}`")
            return None
        return self._chosen(kind, {} if value is None else value, kind.name)

    def _listed(self, kind: kinds.Kind, absent: Sequence[Any] = ()) -> Any:
        value = self.table.get(kind.name, list(absent))
        if not isinstance(value, list):
            self._refuse(f"{kind.name!r} is a list of tables", kind.name, f"write [[{kind.name}]]")
            return []
        return value

    def _many(self, kind: kinds.Kind, tables: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(self._chosen(kind, table, f"{kind.name}.{index}") for index, table in enumerate(tables))

    def _heads(self) -> tuple[Any, ...]:
        value = self.table.get(kinds.HEAD.name, {})
        if not isinstance(value, list):
            return (self._chosen(kinds.HEAD, value, kinds.HEAD.name),)
        heads = self._many(kinds.HEAD, value)
        names = [head.common.name for head in heads if head]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._refuse(f"two heads are named {name!r}", kinds.HEAD.name, "give each [[head]] a `name` of its own")
        if not value:
            self._refuse("the recipe has no head", kinds.HEAD.name, "write [head] or leave it out")
        return heads

    def _callbacks(self) -> list[Any]:
        """The recipe's callbacks, and after them the run's own records unless it names them itself."""
        named = self._listed(kinds.CALLBACK)
        used = {table.get("use") for table in named if isinstance(table, dict)}
        return [*named, *({"use": name} for name in DEFAULT_CALLBACKS if name not in used)]

    def _chosen(self, kind: kinds.Kind, table: Any, key: str) -> Any:
        if not isinstance(table, dict):
            self._refuse(f"{key} = {table!r} is not a table", key, f"write [{kind.name}] with `use = …`")
            return None
        name = table.get("use", kind.default)
        if not isinstance(name, str):
            what = f"[{key}] needs the key 'use'" if name is None else f"{key}.use = {name!r} is not a name"
            self._refuse(what, f"{key}.use", f"choose one with `zoo list {kind.name}`")
            return None
        try:
            owned = self.registry.find(kind, name)
        except PluginError as error:
            self.problems += [Problem(p.what, self.document.where(f"{key}.use"), p.hint) for p in error.problems]
            return None
        common, options = self._split(kind, table, owned.part.options, key)
        return Chosen(owned.part, owned.owner, options, common)

    def _split(self, kind: kinds.Kind, table: Mapping[str, Any], model: type[Options], key: str) -> tuple[Any, Any]:
        shared = schema.COMMON[kind.name]
        own = {name: value for name, value in table.items() if name not in shared.model_fields and name != "use"}
        common = {name: value for name, value in table.items() if name in shared.model_fields}
        known = {*shared.model_fields, *model.model_fields}
        hidden = sorted({"use", *shared.model_fields} & set(model.model_fields))
        if hidden:
            what = f"{kind.name} {table.get('use', kind.default)!r} has options named like keys of every [{kind.name}]"
            self._refuse(f"{what}: {', '.join(hidden)}", key, "its author must rename them")
        return self._validate(shared, common, key, known), self._validate(model, own, key, known)

    def _check_requirements(self, require: Sequence[str]) -> None:
        """What is not met comes first: it is why parts are missing."""
        from zoo.recipe.requirements import unmet

        found = [(f"plugins.require.{index}", text, *unmet(text)) for index, text in enumerate(require)]
        self.problems[:0] = [
            Problem(f"{key} = {text!r}: {what}", self.document.where(key), mend)
            for key, text, what, mend in found
            if what
        ]

    def _check_targets(self, recipe: Recipe) -> None:
        known = ["class", *recipe.data.common.targets]
        for head in recipe.heads:
            if head and head.common and head.common.target not in known:
                what = f"head {head.common.name!r} predicts {head.common.target!r}, which is no target"
                self._refuse(what, kinds.HEAD.name, nearest(head.common.target, known))
        if "class" in recipe.data.common.targets:
            what = "data.targets has 'class', which is what the data's own classes are called"
            self._refuse(what, "data.targets", "give it another name")

    def _check_exports(self, recipe: Recipe) -> None:
        wanted = {export.common.weights for export in recipe.exports}
        if len(wanted) > 1:
            what = "the artefacts of a run are one bundle, of one set of weights"
            self._refuse(what, kinds.EXPORT.name, "give every [[export]] the same `weights`")
        elif recipe.run.ema and wanted == {None}:
            what = "with run.ema there are two sets of weights, and no [[export]] says which one to write"
            hint = '`weights = "ema"` is what is validated; "best" and "last" are the raw ones'
            self._refuse(what, kinds.EXPORT.name, hint)
        elif not recipe.run.ema and wanted == {"ema"}:
            self._refuse('export.weights = "ema": there is no moving average', kinds.EXPORT.name, "set run.ema")

    def _check_best_by(self, recipe: Recipe) -> None:
        known = recipe.directions()
        if recipe.run.best_by not in known:
            what = f"run.best_by = {recipe.run.best_by!r}: nothing measures it"
            self._refuse(what, "run.best_by", nearest(recipe.run.best_by, known))


def _fields(model: Any) -> set[str]:
    return set(model.model_fields) if inspect.isclass(model) and issubclass(model, BaseModel) else set()


def _described(model: Any, path: Sequence[str]) -> str:
    if not path or path[0] not in _fields(model):
        return ""
    return (model.model_fields[path[0]].description or "").replace("\n", " ")


def _message(detail: ErrorDetails) -> str:
    text = detail["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
