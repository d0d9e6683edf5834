from __future__ import annotations

from typing import Any

import pytest

from configs.errors import InputError
from configs.serving import parse


def test_texts_of_a_command_line_are_read() -> None:
    settings = parse({"run": "runs/demo", "replicas": "2", "explore_share": "0.5", "keys": None, "limits": {"body_bytes": "5"}})
    assert (settings.replicas, settings.explore_share, settings.keys, settings.limits.body_bytes) == (2, 0.5, None, 5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "run is missing; give it, as run=runs/demo"),
        ({"run": " "}, "run is empty"),
        ({"run": "r", "replica": 1}, "replica: no such setting of serving; did you mean replicas?"),
        ({"run": "r", "replicas": 0}, "replicas=0: Input should be greater than or equal to 1"),
        ({"run": "r", "limits": {"body_bytes": "many"}}, "limits.body_bytes='many'"),
        ({"run": "r", "shadow": {}}, "shadow.release is missing"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        parse(given)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
