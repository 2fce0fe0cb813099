"""The version of what plugins are built on, and the handshake: a plugin says it without being imported."""

import re

from zoo.registry.owner import Owner

API = "1.0"
"""MAJOR.MINOR of the hooks, contracts and names in `zoo`: the first rises when something breaks, the second when
something is added."""

GROUP = "zoo.api"
"""The entry-point group in which a plugin says what it was built for, under its own name: `my_plugin = "v1_0"`.

setuptools takes identifiers alone as values, so "1.0" is written `v1_0`; where the builder allows it `1.0` is the same.
"""

_VERSION = re.compile(r"v?(\d{1,4})[._](\d{1,4})")


def objection(said: str | None, owner: Owner) -> tuple[str, str]:
    """Return why a plugin built for the API `said` cannot be used here, and the mend; empty when it can, or says none.

    A newer minor is refused as well: what it uses may not be here.
    """
    if said is None:
        return "", ""
    match = _VERSION.fullmatch(said.strip())
    if match is None:
        return f"says {said!r} for zoo's plugin API, which is no version such as v1_0", owner.report()
    wanted, here = (int(match[1]), int(match[2])), _pair(API)
    text = f"{wanted[0]}.{wanted[1]}"
    if wanted > here:
        mend = "pip install -U zoo-finetune"
        return f"built for zoo's plugin API {text}, this zoo has {API}: {mend}", mend
    if wanted[0] < here[0]:
        mend = f"pip install -U {owner.distribution}"
        return f"built for zoo's plugin API {text}, which this zoo ({API}) no longer has: {mend}", mend
    return "", ""


def _pair(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)
