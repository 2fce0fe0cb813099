"""Both exporters hold to what zoo asks of every one."""

import pytest


@pytest.mark.slow
@pytest.mark.zoo_plugin("onnx")
def test_it_conforms(zoo_case):
    zoo_case.run()
