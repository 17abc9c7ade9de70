from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from spherecv.cli.samples import altered_copy, sample_portrait
from spherecv.errors import InvalidArgumentError, MissingDependencyError


@pytest.mark.parametrize("who", ["grace-hopper", "eileen-collins"])
def test_the_portraits_are_found(who: str) -> None:
    portrait = sample_portrait(who)
    assert portrait.ndim == 3
    assert portrait.std() > 20
    changed = altered_copy(portrait)
    assert changed.shape == portrait.shape
    assert np.abs(changed.astype(int) - portrait).mean() > 10


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = r"B\.jpg\. The sample portrait .* needs the package matplotlib: pip install 'spherecv\[demo\]'$"
    with pytest.raises(MissingDependencyError, match=said):
        sample_portrait("grace-hopper")
    with pytest.raises(InvalidArgumentError, match="grace-hopper"):
        sample_portrait("nobody")
