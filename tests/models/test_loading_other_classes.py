"""Checkpoints of images or sound, which transformers loads with other classes: told in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msgrpo_cli.config.compose import compose
from msgrpo_cli.errors import UsageError
from msgrpo_cli.models.loading import load_model


@pytest.mark.parametrize("kind", ["clip", "vit", "wav2vec2", "llava", "qwen2_vl"])
def test_a_model_that_only_other_classes_load_is_told_in_a_line(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    model = compose("train", []).model.model_copy(update={"path": str(tmp_path), "init": "pretrained"})
    with pytest.raises(UsageError) as caught:
        load_model(model)
    assert str(caught.value) == (
        f"model.path={tmp_path}: cannot be loaded: transformers loads it with other classes than those of language "
        "models alone, as it does with models of images or sound"
    )
