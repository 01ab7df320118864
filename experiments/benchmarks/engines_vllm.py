"""The vLLM half of engines.py, for an environment that has vLLM and nothing of this package.

Knows vLLM's offline engine and a folder: a saved model, and `work.json` with batches of token ids. Usage: python
engines_vllm.py FOLDER; engines.py runs it. Prints versions as JSON once it is loaded; then, for every line that it
reads, answers all batches in order and prints `seconds` and `tokens_read`. Between lines it sleeps. Environment
variables that are set already are left as they are.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: no second one, which would poll
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # as many threads as OMP_NUM_THREADS says, where the others run theirs
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
BLOCK = 16  # tokens; what begins alike is shared in whole blocks, and 128 is the default on a CPU


def main(folder: Path) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed is no answer
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from vllm import LLM, SamplingParams

    work: dict[str, Any] = json.loads((folder / "work.json").read_text())
    batches = [[{"prompt_token_ids": prompt} for prompt in batch] for batch in work["batches"]]
    longest = max(len(prompt) for batch in work["batches"] for prompt in batch) + work["tokens"]
    rows = max(map(len, batches))
    engine = LLM(
        model=str(folder), dtype=work["dtype"], enforce_eager=True, skip_tokenizer_init=True, max_model_len=longest,
        max_num_seqs=rows, max_num_batched_tokens=max(rows * longest, 2048), enable_prefix_caching=True,
        block_size=BLOCK, generation_config="vllm", seed=0,
    )  # fmt: skip
    sampling = SamplingParams(temperature=1.0, max_tokens=work["tokens"], ignore_eos=True, detokenize=False)
    print(json.dumps({"vllm": version("vllm-cpu"), "vllm_torch": version("torch")}), file=answers)
    for _ in sys.stdin:
        engine.reset_prefix_cache()
        read = 0
        began = time.perf_counter()
        for batch in batches:
            for found in engine.generate(batch, sampling, use_tqdm=False):
                answer = found.outputs[0].token_ids
                assert len(answer) == work["tokens"]
                read += len(found.prompt_token_ids) - (found.num_cached_tokens or 0) + len(answer) - 1
        print(json.dumps({"seconds": time.perf_counter() - began, "tokens_read": read}), file=answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
