"""vLLM in its own interpreter, asked line by line: for `bench/engine.py --vllm PYTHON`.

    PYTHON bench/vllm_alone.py MODEL JSON      JSON: threads, rows, context

A line of standard input is {"prompts", "limit", "stops"}, the answer {"seconds", "tokens"}: one completion of each
prompt from the whole distribution at temperature 1, with the log-probability of every token. Imports nothing of
farthing, which that interpreter need not have.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    told = json.loads(sys.argv[2])
    # vLLM writes to standard output as it pleases.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ |= {
        "OMP_NUM_THREADS": str(told["threads"]),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    import torch
    from vllm import LLM

    torch.set_num_threads(told["threads"])
    model = LLM(
        sys.argv[1],
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=told["context"],
        max_num_seqs=told["rows"],
    )
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(model, json.loads(line))), file=answers, flush=True)


def answer(model: Any, asked: dict[str, Any]) -> dict[str, float]:
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=1.0,
        max_tokens=asked["limit"],
        stop_token_ids=asked["stops"],
        ignore_eos=True,
        logprobs=0,
        detokenize=False,
    )
    prompts = [{"prompt_token_ids": ids} for ids in asked["prompts"]]
    # What an earlier question has read must not be found again.
    model.reset_prefix_cache()
    began = time.perf_counter()
    outputs = model.generate(prompts, params, use_tqdm=False)
    spent = time.perf_counter() - began
    return {"seconds": spent, "tokens": sum(len(output.outputs[0].token_ids) for output in outputs)}


if __name__ == "__main__":
    main()
