"""The plugin as a whole: what every zoo command pays for it."""

import pytest
from zoo.testing import Case, cases


@pytest.mark.parametrize("case", [case for case in cases("mlflow") if not isinstance(case, Case)], ids=str)
def test_it_is_light_and_says_its_api(case):
    case.run()
