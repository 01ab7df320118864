"""Decisions per second of three engines on the very prompts of one update: *ours*, *transformers* and *vllm*.

Knows recorded decisions, TRL's way to generate, and a process of another environment. Usage:
python engines.py [--rounds N] [--vllm PYTHON] [--without transformers] [KEY=VALUE]...; prints one JSON object. One
update is played and its prompts recorded; then every round hands them to all engines, one engine after the other: the
same prompts in the same batches and order, answers of exactly `rollout.max_new_tokens` tokens, temperature 1, nothing
cut from the distribution, the model's own dtype, as many threads. Figures are medians of the rounds, `_least` and
`_most` the range of a ratio.

* ours: `generate_shared` with kept beginnings, new ones in every round, as weights change with every update.
* transformers: `model.generate` as TRL calls it: left padding, a row for every decision, nothing shared.
* vllm: engines_vllm.py, run by the interpreter `--vllm` names; its prefix cache is emptied before every round.

What flatters whom. Prompts are those that our answers led to, and no engine's own answers lead anywhere. Equal prompts
of a batch are read once by us and by vLLM's prefix cache alike. What later batches begin with again, vLLM has in whole
blocks and up to all of a prompt, we up to where the plan of passes cut. We alone read equal beginnings of answers once:
much with a model that is sure of itself, nothing with random weights; here answers go on behind their ends, where a
model was never trained. Equal lengths flatter transformers, whose rows wait for the longest answer in play. We alone
tell log-probabilities and draw from a key per decision: work that the others are spared. vLLM packs its weights while
it loads; in training it would load new ones for every update.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from trl.trainer.utils import pad

from msgrpo_cli.config.compose import compose
from msgrpo_cli.models.beginnings import distinct_beginnings
from msgrpo_cli.models.caches import has_plain_cache
from msgrpo_cli.models.factory import load_policy
from msgrpo_cli.models.generation import Generated, Request, Sampling
from msgrpo_cli.models.kept_beginnings import KeptBeginnings
from msgrpo_cli.models.loading import quiet_libraries
from msgrpo_cli.models.shared_generation import generate_shared
from msgrpo_cli.training.bench.meter import machine, seconds_of, watching
from msgrpo_cli.training.bench.rollout import play

ROUNDS = 5
VLLM = Path(__file__).with_name("engines_vllm.py")
Round = Callable[[], dict[str, float]]
"""Answers everything once; tells `seconds` and `tokens_read`, padding included."""


def main(words: Sequence[str]) -> dict[str, Any]:
    chosen = _options().parse_intermixed_args(words)
    quiet_libraries()
    config = compose("train", chosen.overrides)
    asked: list[Request] = []

    def recording(model: PreTrainedModel, request: Request) -> list[Generated]:
        asked.append(request)
        return generate_shared(model, request)

    policy = load_policy(config, config.model, generator=recording, merge=True)
    play(config, policy)
    model, tokens = policy.model.eval(), config.rollout.max_new_tokens
    if not has_plain_cache(model):
        sys.exit(f"model={config.model.name}: its cache cannot be shared, so that ours is transformers' `generate`")
    sampling = Sampling(max_new_tokens=tokens)
    asked = [replace(request, sampling=sampling, eos_token_ids=(), kept=None) for request in asked]
    prompts = [tuple(prompt) for request in asked for prompt in request.prompts]
    found: dict[str, Any] = {
        "decisions": len(prompts),
        "batches": len(asked),
        "tokens_per_answer": tokens,
        "answer_tokens": len(prompts) * tokens,
        "prompt_tokens": sum(map(len, prompts)),
        "prompt_trie_tokens": distinct_beginnings(prompts),
    }
    memory = config.rollout.prefix_memory * 2**20
    settings = GenerationConfig(  # what TRL 1.16 sets, but for `min_new_tokens`
        max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True, temperature=1.0, top_p=1.0, top_k=0,
        repetition_penalty=1.0, pad_token_id=policy.conversation.pad_id, eos_token_id=list(policy.conversation.ends),
        disable_compile=True,
    )  # fmt: skip
    with ExitStack() as stack:
        engines: dict[str, Round] = {
            "ours": lambda: _watched(model, lambda: _ours(model, asked, memory)),
            "transformers": lambda: _watched(model, lambda: _transformers(model, asked, settings)),
        }
        for name in chosen.without:
            del engines[name]
        if chosen.vllm:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="engines-"))
            model.save_pretrained(folder)
            policy.conversation.tokenizer.save_pretrained(folder)
            engines["vllm"], versions = stack.enter_context(_vllm(chosen.vllm, Path(folder), model, asked))
            found |= versions
        model.generation_config = settings  # `generate` fills from the model's own whatever is left open
        torch.manual_seed(0)
        found |= _measured(engines, chosen.rounds, len(prompts))
    return {**found, "rounds": chosen.rounds, "machine": machine(model.device)}


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description="Decisions per second of three engines; see the head of this file.")
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--vllm", metavar="PYTHON", help="the interpreter of an environment that has vLLM")
    options.add_argument("--without", action="append", default=[], choices=["transformers"], help="it takes long")
    options.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    return options


def _measured(engines: dict[str, Round], rounds: int, decisions: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    figures: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, answer_all in engines.items():
            told = answer_all()
            if number:  # the first warms up
                seconds[name].append(told["seconds"])
            figures[f"{name}_tokens_read"] = told["tokens_read"]
    for name, taken in seconds.items():
        figures[f"{name}_decisions_per_second"] = median(decisions / one for one in taken)
        if name != "ours":
            ratios = [theirs / mine for mine, theirs in zip(seconds["ours"], taken, strict=True)]
            figures[f"ours_over_{name}"] = median(ratios)
            figures |= {f"ours_over_{name}_least": min(ratios), f"ours_over_{name}_most": max(ratios)}
    return figures


def _watched(model: PreTrainedModel, work: Callable[[], None]) -> dict[str, float]:
    with watching(model) as watch:
        seconds = seconds_of(work, model.device)
    return {"seconds": seconds, "tokens_read": watch.tokens_read}


def _ours(model: PreTrainedModel, asked: Sequence[Request], memory: int) -> None:
    """As the policy answers while its weights stay the same."""
    kept = KeptBeginnings(model, memory) if memory else None
    for request in asked:
        answers = generate_shared(model, replace(request, kept=kept))
        if kept is not None:
            kept.fit(memory)
        assert all(len(one.token_ids) == request.sampling.max_new_tokens for one in answers)


def _transformers(model: PreTrainedModel, asked: Sequence[Request], settings: GenerationConfig) -> None:
    for request in asked:
        prompts = [torch.tensor(prompt) for prompt in request.prompts]
        ids = pad(prompts, padding_value=request.pad_token_id, padding_side="left")
        mask = pad([torch.ones_like(one) for one in prompts], padding_value=0, padding_side="left")
        with torch.no_grad():
            sequences = model.generate(  # type: ignore[operator]
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=settings
            )
        answers = sequences[:, ids.shape[1] :].tolist()
        assert all(len(one) == request.sampling.max_new_tokens for one in answers)


@contextmanager
def _vllm(
    python: str, folder: Path, model: PreTrainedModel, asked: Sequence[Request]
) -> Iterator[tuple[Round, dict[str, str]]]:
    """vLLM, loaded once; a line begins a round. Also the versions that it tells."""
    work = {
        "dtype": str(model.dtype).removeprefix("torch."),
        "tokens": asked[0].sampling.max_new_tokens,
        "batches": [list(map(list, request.prompts)) for request in asked],
    }
    (folder / "work.json").write_text(json.dumps(work))
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    command = [python, str(VLLM), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own) as process:
        assert process.stdin and process.stdout
        told, answered = process.stdin, process.stdout

        def read() -> dict[str, Any]:
            line = answered.readline()
            if not line:
                sys.exit("vLLM ended early; what it said is above")
            return dict(json.loads(line))

        def answer_all() -> dict[str, float]:
            told.write("go\n")
            told.flush()
            return read()

        yield answer_all, read()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
