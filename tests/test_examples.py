"""Training loops of others, as the examples show them, train submodels; skipped without their packages."""

from importlib import import_module
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LOOPS = {"timm_loop": "timm.task", "lightning_loop": "lightning", "hf_trainer": "transformers"}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_of_others_train_submodels(name, monkeypatch):
    pytest.importorskip(
        LOOPS[name], reason=f"install the extra loops: pip install 'eavit-bench[loops]' ({LOOPS[name]})"
    )
    monkeypatch.syspath_prepend(EXAMPLES)
    elastic = import_module(name).train(epochs=1)
    assert elastic.accuracy[1.0] > 0.6
    assert elastic.accuracy[0.5] > 0.3
