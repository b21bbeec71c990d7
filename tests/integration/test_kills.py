"""Training killed at random moments: what was reported committed is whole and bit-equal, nothing is half shown.

Eight kills here; the parts ``kills-*`` of ``python -m bench.safety`` make two hundred.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.kills import SHARES, run


@pytest.mark.slow
@pytest.mark.keras
@pytest.mark.parametrize("name", SHARES)
def test_what_was_reported_before_a_kill_is_whole(name: str, tmp_path: Path) -> None:
    n = round(8 * SHARES[name])
    assert run(name, str(tmp_path / "s.mistique"), name, n) >= n
