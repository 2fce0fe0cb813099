"""The hooks. `PartHooks` is how plugins offer parts; `RunEvents` is how callbacks observe a run. Each docstring is a
complete plugin."""

from collections.abc import Iterable, Sequence

import pluggy

from zoo.registry import events
from zoo.registry.parts import (
    BackbonePart,
    CallbackPart,
    DataPart,
    DevicePart,
    ExportPart,
    FreezePart,
    HeadPart,
    WeightsPart,
)

PROJECT = "zoo"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class PartHooks:
    """One hook a kind. A plugin is a module (or object) with any of these, named by an entry point in the group `zoo`:

    [project.entry-points.zoo]
    my_plugin = "my_package.plugin"
    """

    @hookspec
    def zoo_backbones(self) -> Iterable[BackbonePart]:  # type: ignore[empty-body]
        """Offer backbones.

        @zoo.hookimpl
        def zoo_backbones():
            return [BackbonePart("tiny", build="my_package.tiny:build", options=TinyOptions)]

        # my_package/tiny.py
        def build(options: TinyOptions, image_size: tuple[int, int] | None) -> Backbone: ...
        """

    @hookspec
    def zoo_heads(self) -> Iterable[HeadPart]:  # type: ignore[empty-body]
        """Offer heads.

        @zoo.hookimpl
        def zoo_heads():
            return [HeadPart("cosine", build="my_package.cosine:build", metrics={"accuracy": "max"})]

        # my_package/cosine.py
        def build(options: NoOptions, features: FeatureSpec, target: TargetSpec) -> Head: ...
        """

    @hookspec
    def zoo_weights_sources(self) -> Iterable[WeightsPart]:  # type: ignore[empty-body]
        """Offer places that weights come from.

        @zoo.hookimpl
        def zoo_weights_sources():
            return [WeightsPart("bucket", build="my_package.bucket:build", options=BucketOptions)]

        # my_package/bucket.py
        def build(options: BucketOptions, request: WeightsRequest) -> WeightsFile | None: ...
        """

    @hookspec
    def zoo_data_sources(self) -> Iterable[DataPart]:  # type: ignore[empty-body]
        """Offer labelled images.

        @zoo.hookimpl
        def zoo_data_sources():
            return [DataPart("csv", build="my_package.csv:build", options=CsvOptions)]

        # my_package/csv.py
        def build(options: CsvOptions, seed: int) -> DataSource: ...
        """

    @hookspec
    def zoo_freeze_policies(self) -> Iterable[FreezePart]:  # type: ignore[empty-body]
        """Offer freeze policies.

        @zoo.hookimpl
        def zoo_freeze_policies():
            return [FreezePart("biases", build="my_package.biases:build")]

        # my_package/biases.py
        def build(options: NoOptions) -> FreezePolicy:
            return lambda layout, epoch: {n: 1.0 if n.endswith("bias") else None for n in layout.parameters}
        """

    @hookspec
    def zoo_device_strategies(self) -> Iterable[DevicePart]:  # type: ignore[empty-body]
        """Offer device strategies.

        @zoo.hookimpl
        def zoo_device_strategies():
            return [DevicePart("cluster", build="my_package.cluster:build", options=ClusterOptions)]

        # my_package/cluster.py
        def build(options: ClusterOptions, settings: DeviceSettings) -> Strategy: ...
        """

    @hookspec
    def zoo_exporters(self) -> Iterable[ExportPart]:  # type: ignore[empty-body]
        """Offer artefact formats.

        @zoo.hookimpl
        def zoo_exporters():
            return [ExportPart("npz", build="my_package.npz:build")]

        # my_package/npz.py
        def build(options: NoOptions) -> Exporter: ...
        """

    @hookspec
    def zoo_callbacks(self) -> Iterable[CallbackPart]:  # type: ignore[empty-body]
        """Offer observers of a run. Files of a callback's own go into `folder / NAME`, its part's name.

        @zoo.hookimpl
        def zoo_callbacks():
            return [CallbackPart("bell", build="my_package.bell:build")]

        # my_package/bell.py
        class Bell:
            @zoo.hookimpl
            def run_ended(self, event): print("\\a")

        def build(options: NoOptions, folder: Path) -> Bell: return Bell()
        """


class RunEvents:
    """What a callback may observe, by methods of these names marked `@zoo.hookimpl`."""

    @hookspec
    def run_started(self, event: events.RunStarted) -> None:
        """Everything is built; the first step comes next."""

    @hookspec
    def epoch_started(self, event: events.EpochStarted) -> None:
        """An epoch begins."""

    @hookspec
    def step_ended(self, event: events.StepEnded) -> None:
        """An optimiser step is done. Called on the hot path: do not wait on the device here."""

    @hookspec
    def evaluated(self, event: events.Evaluated) -> None:
        """The validation split was measured."""

    @hookspec
    def mistakes_found(self, event: events.MistakesFound) -> None:
        """The same validation's worst mistakes, after `evaluated`. Looked for only where a callback has this."""

    @hookspec
    def checkpoint_saved(self, event: events.CheckpointSaved) -> None:
        """A checkpoint lies whole on disk."""

    @hookspec
    def artefact_written(self, event: events.ArtefactWritten) -> None:
        """An artefact was written and verified, after the run ended."""

    @hookspec
    def run_ended(self, event: events.RunEnded) -> None:
        """The run is over, for whichever reason."""

    @hookspec(firstresult=True)
    def should_stop(self, history: Sequence[events.Evaluated]) -> str | None:
        """Return the reason to stop after the newest of `history`, or None to go on. The first reason counts."""
