import pytest
from serving import serving


@pytest.fixture(scope="module")
def server():
    """A server that all tests of a module share: 2 MB, 1 million pixels."""
    with serving(max_bytes=2_000_000, max_pixels=1_000_000, timeout=10) as running:
        yield running
