from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.serve_app.guarded import Keyed


@pytest.fixture
def keyed(tmp_path: Path) -> Keyed:
    return Keyed(tmp_path)
