from hypothesis import given
from hypothesis import strategies as st

from zoo.seeds import derive


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(0, 10**6) | st.text(max_size=5), max_size=4))
def test_a_seed_is_a_function_of_its_path(seed, path):
    assert derive(seed, *path) == derive(seed, *path)
    assert 0 <= derive(seed, *path) < 2**63


def test_paths_differ():
    seeds = {derive(seed, name, epoch) for seed in range(5) for name in ("order", "mix") for epoch in range(50)}
    assert len(seeds) == 500


def test_seeds_are_the_same_on_every_machine():
    assert derive(0, "order", 3) == 228291028133782092
