"""`msgrpo doctor`: does everything that a run needs work here? One check after the other, whatever the others said.

Knows the list of checks, their results and how they are shown. Knows nothing about how anything is checked.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgrpo_cli import doctor_install, doctor_machine
from msgrpo_cli.common.checklist import Examination
from msgrpo_cli.config.schema import RunConfig


def _tokenizer(config: RunConfig) -> str:
    from msgrpo_cli.doctor_model import tokenizer

    return tokenizer(config)


def _training(config: RunConfig) -> str:
    from msgrpo_cli.doctor_training import training

    return training()


QUICK: Mapping[str, Examination] = {
    "python": doctor_install.python,
    "packages": doctor_install.packages,
    "extras": doctor_install.extras,
    "devices": doctor_machine.devices,
    "memory": doctor_machine.memory,
    "disk": doctor_machine.disk,
    "write access": doctor_machine.write_access,
    "hub": doctor_machine.hub,
    "tokenizer": _tokenizer,
}
"""In seconds."""
WHOLE: Mapping[str, Examination] = {**QUICK, "training": _training}
"""With the training of about a minute."""
