"""What may change when a run goes on: its length, its evaluations, its checkpoints, its trackers.

Knows the rule and applies overrides to a saved config. Knows nothing about run directories or training.
"""

from __future__ import annotations

from collections.abc import Sequence

from .config import dumped, validated
from .errors import UsageError
from .schema import RunConfig


def changed(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The saved config with the overrides that `--resume` allows; UsageError for any other, pointing to `--from`."""
    if not overrides:
        return config
    from .hydra_app import assignments

    data = dumped(config)
    for text, (key, value) in zip(overrides, assignments(overrides), strict=True):
        if not (key in ("max_updates", "trainer.report_to") or key.startswith(("eval.", "save."))):
            raise UsageError(
                f"{text}: a resumed run may only raise max_updates and change eval.*, save.*, trainer.report_to; "
                f"to start anew from its weights use msgrpo train --from"
            )
        if key == "max_updates" and isinstance(value, int) and value < config.max_updates:
            raise UsageError(f"{text}: the run was to last {config.max_updates} updates; --resume may only raise that")
        section, _, name = key.rpartition(".")
        (data[section] if section else data)[name] = value
    return validated(data)
