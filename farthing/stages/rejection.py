"""The rejection sampling stage: a model's own right and readable solutions, as conversations to learn from.

With the RL-zero model it makes the data of R1's cold start, with a later one those of its second SFT (arXiv
2501.12948v2, B.3.2 and section 2.3.3). How it differs from the paper:
1. Nothing is rewritten by another model and nobody looks at the rows: readable is what the filters say.
2. Only problems whose answer can be checked are asked; other data is named beside this stage in the sft stage.

A step asks some problems; what came of it is one line of candidates.jsonl, written when the step is done. What is kept
is a function of those lines, so a stage that was killed writes the file that it would have written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from farthing.engine.engine import Engine
from farthing.errors import DataError
from farthing.rollout.collect import judge, request_seed
from farthing.rollout.types import Group
from farthing.runs.files import JsonLines, encode_line, read_lines, write_atomic, write_json
from farthing.stages.config.rejection import RejectionConfig
from farthing.stages.context import Context
from farthing.stages.filters import Candidate, Selection, failed, select, without_thinking
from farthing.stages.flags import repeated_share
from farthing.stages.readings import Clock, rollout_metrics
from farthing.stages.sampling import draw, seed_of
from farthing.tasks.draws import Draws


def run(context: Context) -> dict[str, str]:
    """Ask every problem, from the last finished step on, and write what is kept; writes conversations.jsonl."""
    config = context.of(RejectionConfig)
    journal = context.directory / "candidates.jsonl"
    steps = -(-config.problems // config.prompts_per_step)
    done = len(read_lines(journal))
    context.metrics.truncate(context.name, done)
    context.metrics.begin(context.name, kind="rejection", steps=steps, step=done)
    if done < steps:
        ask(context, config, journal, range(done, steps))
    found = [Candidate(**one) for line in read_lines(journal) for one in line["candidates"]]
    selection = select(found, config)
    if not selection.kept:
        raise DataError(
            f"[{context.name}]: none of {len(found)} samples was kept: {selection.rejected}; ask more problems, "
            "or begin with a model that solves some"
        )
    write(context, config, selection, len(found))
    return {
        "conversations": f"stages/{context.name}/conversations.jsonl",
        "selection": f"stages/{context.name}/selection.json",
    }


def ask(context: Context, config: RejectionConfig, journal: Path, steps: range) -> None:
    """Sample and judge step by step, each a line of the journal."""
    model, tokenizer = context.load_model(config.model)
    model.publish(context.compute_dtype("auto"))
    engine = Engine(model, tokenizer, max_running=config.prompts_per_step * config.samples_per_prompt)
    lines = JsonLines(journal)
    for step in steps:
        clock = Clock()
        prompts, completions = draw(context, config, engine, tokenizer, step, config.problems)
        clock.lap("generate")
        with context.ledger.phase(context.name, "score", step):
            groups = judge(tokenizer, prompts, completions, context.taskset.score_many, {"accuracy": 1.0})
        clock.lap("score")
        found = [one for index, group in enumerate(groups) for one in candidates(context, step, index, group)]
        passed = sum(failed(one, config) is None for one in found)
        shown = {n: value for n, value in rollout_metrics(groups).items() if not n.startswith("reward")}
        context.metrics.log(
            context.name, step + 1, {**shown, "kept_ratio": passed / len(found), **clock.metrics()}
        )
        # Last, so that a step stands in both files or is done again.
        lines.append({"step": step + 1, "candidates": [asdict(one) for one in found]})
        context.progress(step + 1, steps.stop)
    lines.close()


def candidates(context: Context, step: int, index: int, group: Group) -> Iterator[Candidate]:
    """The samples of the group at place `index` of a step, with what the filters look at."""
    problem = group.prompt.problem
    for k, one in enumerate(group.rollouts):
        yield Candidate(
            key=context.taskset.key(**problem),
            problem=problem,
            sample=k,
            seed=request_seed(*seed_of(context, step), index, k),
            text=one.text,
            tokens=one.num_tokens,
            is_truncated=one.is_truncated,
            repetition=repeated_share(one.completion.token_ids),
            correct=one.score.correct,
            parts=one.score.parts,
        )


def write(context: Context, config: RejectionConfig, selection: Selection, asked: int) -> None:
    """conversations.jsonl with the lineage of every row, and selection.json: how many went where."""
    model = weights_digest(context.models[config.model])
    rows = [row for one in selection.kept for row in conversations(context, config, one, model)]
    write_atomic(context.directory / "conversations.jsonl", b"".join(map(encode_line, rows)))
    counts = {"asked": asked, "rejected": selection.rejected, "kept": len(selection.kept), "rows": len(rows)}
    write_json(context.directory / "selection.json", {"model": model, **counts})


def conversations(
    context: Context, config: RejectionConfig, one: Candidate, model: str
) -> Iterator[dict[str, Any]]:
    """The rows of a candidate that was kept: as it is, and for some a second time without thinking."""
    task = one.problem.get("taskset", context.taskset.name)
    about = {"key", "text"}
    lineage = {name: value for name, value in asdict(one).items() if name not in about}
    lineage = {"stage": context.name, "model": model, "task": task, **lineage}
    texts = [one.text]
    draws = Draws("without thinking", context.seed, context.name, one.key, one.sample)
    if draws.uniform() < config.without_thinking:
        texts += [text for text in [without_thinking(one.text)] if text is not None]
    asked = context.taskset.messages(**one.problem)
    for text in texts:
        yield {"messages": [*asked, {"role": "assistant", "content": text}], "lineage": lineage}


def weights_digest(directory: Path) -> str:
    """sha256 over the weights of a model directory: the same name for the same model wherever it lies."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
