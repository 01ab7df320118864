"""Doctor's trial: does the chosen tokenizer carry prompts and answers, and does a short training learn?

Knows tokenizers, prompts and the game's parser, the experiment `doctor` and how far success must rise. Loads no weights
itself. Knows nothing about how training works.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgrpo_cli.common.files import read_json
from msgrpo_cli.config import hydra_app
from msgrpo_cli.config.compose import config_dir, validated
from msgrpo_cli.config.prompt import prompt_of
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.pretrained import check_reachable

_EXPERIMENT = ["experiment=doctor"]
_LEAST_RISE = 0.15
"""In success on 200 held-out starts, base against end. Measured on CPU: with 24 updates seeds 0, 1, 4 and 5 rise by
0.29 to 0.50; with 16, too few, seeds 0 to 7 rose by 0.14 to 0.40; with a learning rate of 1e-6 seeds 0 to 2 by 0.005
at most, since equal weights play equally (the latter two with an earlier base)."""


def training(overrides: Sequence[str] = ()) -> str:
    """Train; raises what goes wrong, with the phase in a note, and RunError where success does not rise."""
    with _Phase("import"):
        from msgrpo_cli.training.train import train_job
    chosen = [*_EXPERIMENT, *overrides]  # of our own files alone: a user's folder may replace any of them
    config = validated(hydra_app.plain(hydra_app.look(config_dir(), "train", chosen, [])))
    with tempfile.TemporaryDirectory(prefix="msgrpo-doctor-") as folder:
        run = Run(Path(folder) / "run")
        outcome = train_job(config, run.path, command=["msgrpo", "doctor"], overrides=chosen)
        before, after = (read_json(run.evaluations / f"{name}.json")["success_rate"] for name in ("base", "best"))
    found = (
        f"{config.model.name} on {config.env.name}: success went from {before:.2f} to {after:.2f} in "
        f"{config.max_updates} updates"
    )
    if after - before < _LEAST_RISE:
        raise RunError(f"{found}: it did not learn; a rise of {_LEAST_RISE} is the least")
    return f"{found}, {outcome['wall_seconds']:.0f} s"


@dataclass
class _Phase:
    """Whatever leaves it carries its name, as that of the phases of a run."""

    name: str

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note(f"phase {self.name}")


def tokenizer(config: RunConfig) -> str:
    """Loads it, renders the first prompt of the chosen game, and sends every action there and back, as play does."""
    from msgrpo_cli.models.factory import load_conversation
    from msgrpo_cli.models.loading import quiet_libraries

    quiet_libraries()
    check_reachable(config.model)
    conversation = load_conversation(config)
    game = make_game(config.env)
    game.reset(seed=0)
    messages = prompt_of(config).messages(game, game.describe(config.prompt.observation))
    length = len(conversation.prompt_ids(messages))
    most = config.rollout.max_prompt_tokens
    if length > most:
        raise RunError(f"a prompt of {config.env.name} has {length} tokens, rollout.max_prompt_tokens allows {most}")
    for action in game.actions:
        answer = conversation.spoken(conversation.answer_ids(f"<action>{action}</action>"))
        if game.parse(answer) != action:
            raise RunError(f"the answer <action>{action}</action> comes back from the tokenizer as {answer!r}")
    words = conversation.tokenizer
    return (
        f"{config.model.path}: {type(words).__name__}, {len(words):,} tokens; a prompt of {config.env.name} has "
        f"{length} of at most {most}; {'; '.join(conversation.notes)}; all actions come back unchanged"
    )
