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
from msgrpo_cli.config.saved import saved_text
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.runs.directory import Run
from msgrpo_cli.runs.pretrained import check_reachable

from .ranks import processes, work_on

_EXPERIMENT = ["experiment=doctor"]
_TWO = ["parallel=ddp", "parallel.processes=2"]
_LEAST_RISE = 0.15
"""In success on 200 held-out starts, base against end. Measured on CPU: with 24 updates seeds 0, 1, 4 and 5 rise by
0.29 to 0.50; with 16, too few, seeds 0 to 7 rose by 0.14 to 0.40; with a learning rate of 1e-6 seeds 0 to 2 by 0.005
at most, since equal weights play equally (the latter two with an earlier base)."""


class DidNotLearn(RunError):
    """A training that went through, and whose success did not rise."""


def several_processes(overrides: Sequence[str] = ()) -> str:
    """The same training by two processes of this machine, which must talk to each other, and must learn, too.

    On the CPU where there are fewer than two GPUs. Raises what `training` raises, with a note where it did not train.
    """
    import torch

    device = [] if torch.cuda.device_count() > 1 else ["trainer.use_cpu=true"]
    try:
        return training([*_TWO, *device, *overrides])
    except DidNotLearn:
        raise
    except Exception as error:
        error.add_note("two processes do not train together here; with parallel=none a run needs no second")
        raise


def training(overrides: Sequence[str] = ()) -> str:
    """Train; raises what goes wrong, with the phase in a note, and RunError where success does not rise."""
    with _Phase("import"):
        import msgrpo_cli.training.train  # noqa: F401 - whatever is missing is told as such
    chosen = [*_EXPERIMENT, *overrides]  # of our own files alone: a user's folder may replace any of them
    config = validated(hydra_app.plain(hydra_app.look(config_dir(), "train", chosen, [])))
    with tempfile.TemporaryDirectory(prefix="msgrpo-doctor-") as folder:
        run = Run(Path(folder) / "run")
        run.create(command=["msgrpo", "doctor"], overrides=chosen, config=saved_text(config))
        outcome = work_on(config, run.path, command=["msgrpo", "doctor"], overrides=chosen)
        before, after = (read_json(run.evaluations / f"{name}.json")["success_rate"] for name in ("base", "best"))
    count = processes(config)
    found = (
        f"{config.model.name} on {config.env.name}{f', {count} processes' if count > 1 else ''}: success went from "
        f"{before:.2f} to {after:.2f} in {config.max_updates} updates"
    )
    if after - before < _LEAST_RISE:
        raise DidNotLearn(f"{found}: it did not learn; a rise of {_LEAST_RISE} is the least")
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
    for action in game.actions or game.legal():
        answer = conversation.spoken(conversation.answer_ids(f"<action>{action}</action>"))
        if game.parse(answer) != action:
            raise RunError(f"the answer <action>{action}</action> comes back from the tokenizer as {answer!r}")
    words = conversation.tokenizer
    return (
        f"{config.model.path}: {type(words).__name__}, {len(words):,} tokens; a prompt of {config.env.name} has "
        f"{length} of at most {most}; {'; '.join(conversation.notes)}; all actions come back unchanged"
    )
