"""Built-in device strategies."""

from pydantic import Field

from zoo.registry.parts import DevicePart, NoOptions, Options


class ProcessesOptions(Options):
    """One process for each device."""

    timeout: int = Field(600, ge=5)
    """Seconds that processes wait for one another before the one that does not answer is named."""
    restarts: int = Field(3, ge=0)
    """How many times processes that were killed are replaced; the run goes on from its newest checkpoint."""


PARTS = (
    DevicePart("single", build="zoo.devices.single:build", options=NoOptions, summary="one device: cuda, mps or cpu"),
    DevicePart(
        "data-parallel",
        build="zoo.devices.data_parallel:build",
        options=NoOptions,
        summary="one process, a batch split over several GPUs (nn.DataParallel)",
    ),
    DevicePart(
        "ddp",
        build="zoo.devices.ddp:build",
        options=ProcessesOptions,
        summary="a process for each device, each with the whole model (DistributedDataParallel)",
        processes=True,
    ),
    DevicePart(
        "fsdp",
        build="zoo.devices.fsdp:build",
        options=ProcessesOptions,
        summary="a process for each device, each with a shard of the model (fully_shard)",
        processes=True,
    ),
)
"""Devices: where a model runs, in which precision, and how it is stepped."""
