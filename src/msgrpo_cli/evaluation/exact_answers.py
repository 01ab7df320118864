"""What a model's policy says wherever it is asked: the probability of every action, read off its canonical answers.

Knows policies, prompts and answers. Knows nothing about where a policy is asked, or what is made of it.

An action's *canonical answer* is its tag and nothing else, `<action>left</action>`. Other answers name it as well (in
upper case, with words before the tag): what they weigh together is the *uncovered* mass, of which nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgrpo_cli.common.console import tally
from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import UsageError
from msgrpo_cli.games.core import TextMediatedStochasticGame
from msgrpo_cli.models.answer_mass import Masses
from msgrpo_cli.models.beginnings import Tokens
from msgrpo_cli.models.factory import at_temperature, load_policy
from msgrpo_cli.models.policy import LanguageAgentPolicy
from msgrpo_cli.rollout.play import Decision
from msgrpo_cli.rollout.value_bounds import Known

from .parts import loading
from .targets import Subject


def measured(
    asked: Sequence[tuple[Subject, RunConfig]],
    check: Callable[[RunConfig], None],
    measure: Callable[[Subject, RunConfig], dict[str, Any]],
) -> list[dict[str, Any]]:
    """What `measure` returns, of each; `check` looks at all of them before anything is loaded."""
    for _, config in asked:
        check(config)
    with loading([config for _, config in asked]):
        return [measure(*one) for one in asked]


def check_asked(config: RunConfig) -> None:
    """Raises UsageError where a state's text does not decide what is said, or its probabilities are not computed."""
    if config.policy != "model":
        raise UsageError(f"policy={config.policy}: only a model's answers have probabilities; leave policy out")
    if config.prompt.history:
        raise UsageError(
            f"prompt.history={config.prompt.history}: then the state alone does not decide what is said; "
            "take prompt.history=0"
        )
    if config.rollout.repetition_penalty != 1.0:
        raise UsageError(
            f"rollout.repetition_penalty={config.rollout.repetition_penalty}: the prompt's own words change what is "
            "said next then, which is not computed here; take rollout.repetition_penalty=1.0"
        )


def asked_policy(config: RunConfig) -> LanguageAgentPolicy:
    """The config's model, at the temperature of evaluation."""
    return at_temperature(load_policy(config, config.model), config.eval.temperature)


def canonical_answers(policy: LanguageAgentPolicy, game: TextMediatedStochasticGame) -> list[Tokens]:
    """Of every action, without the end of turn. Raises UsageError where the game does not read it as that action."""
    answers = []
    for action in game.actions or ():
        tag, talk = f"<action>{action}</action>", policy.conversation
        answer = tuple(talk.answer_ids(tag if tag.startswith(talk.answer_prefix) else talk.answer_prefix + tag)[:-1])
        if talk.tokenizer.unk_token_id is not None and talk.tokenizer.unk_token_id in answer:
            raise UsageError(
                f"model: it has no word for the action {action!r} of this game; take a model that reads it, such as "
                "model=tiny_seats for tic-tac-toe and Kuhn poker, or one with letters"
            )
        found = policy.meaning(Decision(game, "", ("lab",)), answer)
        if found != action:
            raise UsageError(
                f"{type(game).__name__}: the answer {talk.text(answer)!r} is read as {found}, not as {action}, so its "
                "probability tells nothing; take a parse() that reads <action> tags, or another prompt.answer_prefix"
            )
        answers.append(answer)
    return answers


def weighed(
    policy: LanguageAgentPolicy, prompts: Sequence[Tokens], answers: Sequence[Tokens], rows: int, who: str
) -> list[Masses]:
    """The masses of the answers after each prompt, `rows` prompts at a time; `who` says how far it is."""
    said, masses = tally(who, "prompts, of"), list[Masses]()
    for first in range(0, len(prompts), rows):
        masses += policy.weigh(prompts[first : first + rows], answers, rows)
        said(len(masses), len(prompts))
    return masses


def known_of(policy: LanguageAgentPolicy, asked: Decision, moves: Sequence[str], masses: Masses) -> Known:
    """What the masses of answers tell of the moves of one state."""
    shares, invalid = dict.fromkeys(moves, 0.0), 0.0
    for answer, mass in masses.items():
        action = policy.meaning(asked, answer)
        if action in shares:
            shares[action] += mass
        else:
            invalid += mass
    return Known(shares, invalid)
