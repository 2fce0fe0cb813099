"""Every part holds to what zoo asks of its kind."""

import pytest


@pytest.mark.zoo_plugin("webdataset")
def test_it_conforms(zoo_case):
    zoo_case.run()
