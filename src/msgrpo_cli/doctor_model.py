"""Doctor's look at the chosen model's tokenizer: does it render the game's prompt, and carry an answer back?

Knows tokenizers, prompts and the game's parser. Loads no weights.
"""

from __future__ import annotations

from msgrpo_cli.config.schema import RunConfig
from msgrpo_cli.errors import RunError
from msgrpo_cli.games.registry import make_game
from msgrpo_cli.models.loading import load_tokenizer, quiet_libraries
from msgrpo_cli.models.policy import prompt_ids
from msgrpo_cli.rollout.prompt import PromptTemplate
from msgrpo_cli.runs.pretrained import check_reachable


def tokenizer(config: RunConfig) -> str:
    """Loads it, renders the first prompt of the chosen game, and sends every action through it and back."""
    quiet_libraries()
    check_reachable(config.model)
    words = load_tokenizer(config.model)
    game = make_game(config.env)
    game.reset(seed=0)
    messages = PromptTemplate(config.prompt.system, config.prompt.user).messages(
        game, game.describe(config.prompt.observation)
    )
    length = len(prompt_ids(words, messages, config.model.chat_template_kwargs))
    most = config.rollout.max_prompt_tokens
    if length > most:
        raise RunError(f"a prompt of {config.env.name} has {length} tokens, rollout.max_prompt_tokens allows {most}")
    for action in game.actions:
        answer = str(words.decode(words.encode(f"<action>{action}</action>", add_special_tokens=False)))
        if game.parse(answer) != action:
            raise RunError(f"the answer <action>{action}</action> comes back from the tokenizer as {answer!r}")
    return (
        f"{config.model.path}: {type(words).__name__}, {len(words):,} tokens; a prompt of {config.env.name} has "
        f"{length} of at most {most}; turns end with {words.eos_token}; all actions come back unchanged"
    )
