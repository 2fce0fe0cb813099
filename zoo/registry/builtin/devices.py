"""Built-in device strategies."""

from zoo.registry.parts import DevicePart, NoOptions

PARTS = (
    DevicePart("single", build="zoo.devices.single:build", options=NoOptions, summary="one device: cuda, mps or cpu"),
)
