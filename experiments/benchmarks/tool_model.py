"""A small model that plays by tool calls, and its tokenizer: as large as another one, taught what that one has played.

Knows dialects of tool calls, episodes and plain supervised training. Knows nothing about TRL's trainer.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl.chat_template_utils import get_training_chat_template, qwen2_5_chat_template, qwen3_template

from msgrpo_cli.episode import Episode

OVER = "over"
"""What the tool says once the game has ended."""
LESSONS, BATCH = 300, 2
Message = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """How a conversation is written, and how a call is read back from it."""

    template: str
    reading: dict[str, Any]
    end: str
    begin: tuple[str, ...]
    pieces: tuple[str, ...] = ()
    """Longer texts that are one token."""


OPEN, CLOSE = '<tool_call>{"name": "move", "arguments": {"direction": "', '"}}</tool_call>'
SHORT_TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{% if message.role == 'assistant' %}{% generation %}"
    '{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{"name": "{{ call.function.name }}", '
    '"arguments": {{ call.function.arguments | tojson }}}</tool_call>{% endfor %}<end>{% endgeneration %}'
    "{% else %}{{ message.content }}<end>{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_CALLS = {"open": "<tool_call>", "close": "</tool_call>", "repeats": True, "content": "json"}
SHORT_READING = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<assistant>",
    "fields": {
        "tool_calls": {**_CALLS, "transform": {"type": "function", "function": "{content}"}},
        "content": {"close": "<end>", "content": "text"},
    },
}
DIALECTS = {
    "tools": Dialect(qwen2_5_chat_template, qwen3_template, "<|im_end|>", ("<|im_start|>",)),
    "short": Dialect(SHORT_TEMPLATE, SHORT_READING, "<end>", ("<user>", "<assistant>", "<tool>"), (OPEN, CLOSE)),
}


def conversation(episode: Episode) -> list[Message]:
    """An episode of ours, as tool calls."""
    seen = [step.observation for step in episode.steps[1:]] + [OVER]
    said: list[Message] = [{"role": "user", "content": episode.steps[0].observation}]
    for step, after in zip(episode.steps, seen, strict=True):
        call = {"type": "function", "function": {"name": "move", "arguments": {"direction": step.action}}}
        said.append({"role": "assistant", "content": "", "tool_calls": [call]})
        said.append({"role": "tool", "name": "move", "content": after})
    return [*said, {"role": "assistant", "content": ""}]


def make_tokenizer(dialect: Dialect, talks: Sequence[list[Message]], tools: list[Any]) -> PreTrainedTokenizerFast:
    """One token for each word of what is said."""
    bare = _tokenizer(dialect, {"<unk>": 0})
    texts = {str(bare.apply_chat_template(talk, tools=tools, tokenize=False)) for talk in talks}
    whole = re.compile("|".join(map(re.escape, bare.get_added_vocab())))
    parts = {part for text in texts for part in whole.split(text)}
    words = sorted({word for part in parts for word, _ in bare.backend_tokenizer.pre_tokenizer.pre_tokenize_str(part)})
    return _tokenizer(dialect, {word: number for number, word in enumerate(["<unk>", *words])})


def _tokenizer(dialect: Dialect, vocabulary: dict[str, int]) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|<[/\w|-]+>| ?[^\s<]+|."), "isolated")
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", eos_token=dialect.end,
        extra_special_tokens=list(dialect.begin), padding_side="left", clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.add_tokens(list(dialect.pieces))
    tokenizer.chat_template, tokenizer.response_template = dialect.template, dialect.reading
    return tokenizer


def taught(
    like: Any, tokenizer: PreTrainedTokenizerFast, talks: Sequence[list[Message]], tools: list[Any], seed: int
) -> Any:
    """A fresh model with the architecture of `like`, taught the answers in these conversations."""
    torch.manual_seed(seed)
    architecture = copy.deepcopy(like.config)
    architecture.vocab_size, architecture.max_position_embeddings = len(tokenizer), 1024
    architecture.eos_token_id, architecture.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    architecture.initializer_range = 0.2  # surer of its words after few lessons
    model = AutoModelForCausalLM.from_config(architecture)
    template = get_training_chat_template(tokenizer) or tokenizer.chat_template
    read: Any = tokenizer.apply_chat_template(
        list(talks), tools=tools, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, LESSONS)
    for _ in range(LESSONS):
        chosen = torch.randint(len(talks), (BATCH,)).tolist()
        ids = pad_sequence([torch.tensor(read["input_ids"][i]) for i in chosen], batch_first=True)
        asked = pad_sequence([torch.tensor(read["assistant_masks"][i]) for i in chosen], batch_first=True)
        loss = model(input_ids=ids, labels=ids.masked_fill(asked == 0, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model
