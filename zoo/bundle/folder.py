"""A bundle on disk, opened: its files checked, its model described, its artefacts as callables."""

import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from zoo.bundle.golden import Golden, read_golden
from zoo.bundle.manifest import FILE, Artefact, Manifest, check_chain, read_manifest
from zoo.errors import PluginError, Problem, ZooError
from zoo.files import sha256
from zoo.meta import on_meta
from zoo.registry import Registry, kinds
from zoo.registry.contracts import Backbone, Described, Exporter
from zoo.registry.owner import read_owners
from zoo.registry.parts import Part

RECIPE = "recipe.toml"
LEDGER = "load.json"
WHOLE = "model.safetensors"
"""The weights as they are: their digest ends the lineage."""
LARGEST_ZIP = 1 << 36
"""Bytes that a zipped bundle may unpack to: 64 GiB."""

SPOILT_ZIP = (
    *(zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, IndexError),
    *(zlib.error, lzma.LZMAError, struct.error),
)
"""What `zipfile` raises on a damaged zip; RuntimeError on an encrypted one or one that is packed in unknown ways."""
NO_BUNDLE = "give the folder or zip of `zoo export`"

Base = Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Bundle:
    """A folder with model.json, as `write_bundle` makes it."""

    path: Path
    manifest: Manifest
    registry: Registry

    @property
    def recipe(self) -> Path:
        """The recipe that the run followed."""
        return self.path / RECIPE

    def golden(self) -> Golden:
        """Return the golden images. ZooError: they are missing or damaged."""
        return read_golden(self.path)

    def described(self, base: Base | None = None) -> Described:
        """Return what exporters are told. ZooError: the backbone's part is not installed, or refuses its options."""
        part, manifest = self.manifest.backbone, self.manifest
        found = self._find(kinds.BACKBONE, part.use)
        with on_meta(), _options_of(f"the backbone {part.use!r}"):
            backbone: Backbone = found.builder()(found.options(**part.options), manifest.spec.size)
        return Described(native=backbone.native, input=manifest.spec, classes=tuple(manifest.classes), base=base)

    def exporter(self, artefact: Artefact) -> Exporter:
        """Return who wrote an artefact and can read it. ZooError: the part is not installed, or another version."""
        part = self._find(kinds.EXPORT, artefact.exporter)
        with _options_of(f"the exporter {artefact.exporter!r}"):
            exporter: Exporter = part.builder()(part.options(**artefact.options))
        return exporter

    def _find(self, kind: kinds.Kind, name: str) -> Part:
        """Return a part. PluginError: it is not installed; says what the bundle's parts came from."""
        try:
            return self.registry.find(kind, name).part
        except PluginError as error:
            origin = "".join(link.origin for link in self.manifest.lineage if link.what == "parts")
            where = f"{self.path}, of parts from {origin}"
            raise PluginError(error.problems[0].what, where, error.problems[0].hint) from None

    def open(self, artefact: Artefact, base: Base | None = None) -> Callable[[Tensor], Tensor]:
        """Return an artefact as a function from what it takes to logits.

        ZooError: its files are not those written, or this version of what runs it cannot open them.
        """
        faults = self.damage(artefact)
        if faults:
            raise ZooError.of(Problem(fault, str(self.path), "export the run again") for fault in faults)
        exporter, described = self.exporter(artefact), self.described(base)
        try:
            return exporter.read(described, self.path)
        except ZooError:
            raise
        except Exception as error:  # each runtime has its own way to fail
            what = f"{artefact.file} cannot be opened by {artefact.runtime}: {type(error).__name__}: {error}"
            raise ZooError(what.splitlines()[0], str(self.path), "was it written for another version?") from error

    def damage(self, artefact: Artefact) -> list[str]:
        """Return what is wrong with an artefact's files."""
        found = []
        for name, digest in artefact.files.items():
            path = self.path / name
            if not path.is_file():
                found.append(f"{name} is missing")
            elif sha256(path) != digest:
                found.append(f"{name} has other bytes than when the bundle was made")
        return found

    def broken_lineage(self) -> list[str]:
        """Return what is wrong with the chain from the base weights to these."""
        files = {"recipe": self.recipe, "ledger": self.path / LEDGER}
        there = {what: sha256(path) for what, path in files.items() if path.is_file()}
        gone = [path.name for what, path in files.items() if what not in there]
        for artefact in self.manifest.artefacts:
            if WHOLE in artefact.files:
                there["weights"] = artefact.files[WHOLE]
        return [*(f"lineage: {name} is missing" for name in gone), *check_chain(self.manifest, there)]

    def choose(self, runtime: str | None = None) -> tuple[Artefact, ...]:
        """Return the artefacts, those of one runtime where it is named. ZooError: there is none."""
        artefacts = self.manifest.artefacts
        found = tuple(artefact for artefact in artefacts if runtime in (None, artefact.runtime))
        if not found:
            have = ", ".join(sorted({artefact.runtime for artefact in artefacts}))
            raise ZooError(f"the bundle has nothing for {runtime}", where=str(self.path), hint=f"it has: {have}")
        return found


@contextmanager
def _options_of(owner: str) -> Iterator[None]:
    try:
        yield
    except (ValidationError, TypeError) as error:
        what = f"{owner} does not take the options in {FILE}: {str(error).splitlines()[0]}"
        raise ZooError(what, hint="the bundle was made with another version of it") from error


@contextmanager
def opened(path: Path, registry: Registry) -> Iterator[Bundle]:
    """Give the bundle at `path`, a folder or a zip; a zip is unpacked while the block runs. ZooError: it is none."""
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name too long, no permission
        raise ZooError(f"{str(path)!r} cannot be read: {error.strerror}", hint=NO_BUNDLE) from error
    if is_folder:
        yield Bundle(path, read_manifest(path), registry.remembering(read_owners(path.parent)))
        return
    if not is_there:
        raise ZooError(f"there is no {str(path)!r}", hint="`zoo export RUN` makes a bundle, in RUN/export")
    with unpacked(path) as folder:
        yield Bundle(folder, read_manifest(folder), registry)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a zipped bundle as a folder while the block runs. ZooError: it is none."""
    folder = Path(tempfile.mkdtemp(prefix="zoo-bundle-"))
    try:
        _unpack(path, folder)
        if not (folder / FILE).is_file():
            raise ZooError(f"{str(path)!r} is no bundle: it has no {FILE}", hint=NO_BUNDLE)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_ZIP:
                raise ValueError(f"it unpacks to more than {LARGEST_ZIP:,} bytes")
            archive.extractall(folder)  # names are kept inside the folder by zipfile
    except SPOILT_ZIP as error:
        raise ZooError(f"{str(path)!r} is no bundle: {error}", hint=NO_BUNDLE) from error


def pack(folder: Path, path: Path) -> None:
    """Write a folder as a zip, the same for the same files: names sorted, no times, stored as they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix())
            entry.external_attr = 0o644 << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 1 << 20)
