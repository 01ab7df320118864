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

OPENMP = Path(sys.prefix, "lib", "libiomp5.so")  # Intel's, which comes with vLLM and is what it advises
SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process; apart, engine and worker poll each other
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads as OMP_NUM_THREADS says and bound to no core, like the others'
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB; more for a larger model
    **({"LD_PRELOAD": str(OPENMP)} if OPENMP.exists() else {}),
    "KMP_BLOCKTIME": "5",  # ms that its threads wait awake; this and the next are what vLLM sets for its workers
    "KMP_TPAUSE": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
BLOCK = 32  # tokens, the least that its attention takes; beginnings are shared in whole blocks, by default of 128


def main(folder: Path) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed is no answer
    import vllm

    work: dict[str, Any] = json.loads((folder / "work.json").read_text())
    batches = [[{"prompt_token_ids": prompt} for prompt in batch] for batch in work["batches"]]
    rows = max(map(len, batches))
    longest = max(len(prompt) for batch in work["batches"] for prompt in batch) + work["tokens"]
    engine = vllm.LLM(
        model=str(folder), dtype=work["dtype"], enforce_eager=True, skip_tokenizer_init=True, max_model_len=longest,
        max_num_seqs=rows, max_num_batched_tokens=rows * longest, enable_prefix_caching=True, block_size=BLOCK,
        generation_config="vllm", seed=0,
    )  # fmt: skip
    sampling = vllm.SamplingParams(temperature=1.0, max_tokens=work["tokens"], ignore_eos=True, detokenize=False)
    print(json.dumps({"vllm": vllm.__version__, "vllm_torch": version("torch")}), file=answers)
    for _ in sys.stdin:
        read = 0
        began = time.perf_counter()
        engine.reset_prefix_cache()
        for batch in batches:
            for found in engine.generate(batch, sampling, use_tqdm=False):
                answer = found.outputs[0].token_ids
                assert len(answer) == work["tokens"]
                read += len(found.prompt_token_ids) - (found.num_cached_tokens or 0) + len(answer) - 1
        print(json.dumps({"seconds": time.perf_counter() - began, "tokens_read": read}), file=answers)


if __name__ == "__main__":
    missing = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    if missing:  # some are read when a process begins
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **missing})
    main(Path(sys.argv[1]))
