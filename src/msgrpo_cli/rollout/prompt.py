"""From a state to the messages that a language model reads: Jinja templates over the game's own words.

Knows games and words. Knows nothing about tokens or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jinja2 import Template, TemplateError

from msgrpo_cli.common.templates import BoundedRange, names_in, template_of
from msgrpo_cli.games.core import Observation, TextMediatedStochasticGame

Messages = tuple[tuple[str, str], ...]
"""(role, content) pairs; hashable, so that equal states share one encoding."""
Past = tuple[str, str | None]
"""An earlier state of the episode, as it was described, and the action played there; None where none was."""
_TRIED_SEEDS = range(8)


@dataclass(frozen=True)
class PromptTemplate:
    """System and user text as Jinja templates, and worked turns between the two.

    Both may use rules, actions (names, none with free text), legal (moves of the present state) and max_steps; `user`
    observation as well. Raises ValueError from `check` where a template is broken or names something else.
    """

    system: str | None
    user: str
    examples: Mapping[str, Sequence[Past]] = field(default_factory=dict)
    """Worked turns of each game of a mixture by its label, or of the one game there is by ""."""

    @cached_property
    def _templates(self) -> list[tuple[str, Template]]:
        texts = [("system", self.system), ("user", self.user)]
        return [(role, template_of(text)) for role, text in texts if text]

    @cached_property
    def _shows_legal(self) -> bool:
        return any("legal" in names_in(text) for text in (self.system, self.user) if text)

    def messages(self, game: TextMediatedStochasticGame, observation: str, history: Sequence[Past] = ()) -> Messages:
        """The conversation for one decision: the current state, by the paper's rule with nothing before it.

        Each state of the examples, then each earlier one of the history, is a turn of the user and the action played
        there the answer to it, as if it had been given and nothing else: thoughts are not repeated.
        """
        values = {
            "rules": game.rules(),
            "actions": list(game.actions or ()),
            "legal": list(game.legal()) if self._shows_legal else [],
            "max_steps": game.max_steps,
            "range": BoundedRange().range,
        }

        def said(role: str, observation: str) -> Messages:
            texts = [template for whose, template in self._templates if whose == role]
            return tuple((role, text.render({**values, "observation": observation}).strip()) for text in texts)

        turns = said("system", observation)
        for earlier, action in (*self.examples.get(game.label or "", ()), *history):
            turns += (*said("user", earlier), ("assistant", f"<action>{action or 'none'}</action>"))
        return turns + said("user", observation)

    def first(self, game: TextMediatedStochasticGame, observation: Observation, history: int = 0) -> Iterator[Messages]:
        """Conversations of some first decisions, each behind as much history of its like as there will be."""
        for seed in _TRIED_SEEDS:
            game.reset(seed=seed)
            text = game.describe(observation)
            longest = max(game.actions or game.legal(), key=len, default="")
            yield self.messages(game, text, [(text, longest)] * min(history, game.max_steps - 1))

    def check(self, game: TextMediatedStochasticGame, history: int = 0) -> None:
        """Render the present state once, so that a broken template is found before anything is played."""
        if "legal" in names_in(self.user) and (history or any(self.examples.values())):
            raise ValueError(
                "the user text uses legal, which is known of the present state alone, not of those in prompt.history "
                "and prompt.examples; use it in the system text, or leave both at 0"
            )
        used = [text for text in (self.system, self.user) if text and "actions" in names_in(text)]
        if game.actions is None and used:
            raise ValueError("the game takes free text, so there are no actions to name; take prompt=legal")
        try:
            messages = self.messages(game, game.describe())
        except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            reason = getattr(error, "message", None) or error
            raise ValueError(f"the prompt template is broken: {reason}") from error
        if not any(role == "user" and text for role, text in messages):
            raise ValueError("the user text is empty")
