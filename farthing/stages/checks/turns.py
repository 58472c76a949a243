"""Checks of the chat template and the tokenizer: what the model reads, what it can write, and where it ends."""

from __future__ import annotations

from statistics import fmean

from farthing.engine.api import Completion
from farthing.rollout.collect import assistant_turn, make_prompt
from farthing.stages.checks.evidence import Evidence, Finding, tail
from farthing.tasks.task import Problem, Taskset
from farthing.text.chat import as_prompt, complete, stop_ids
from farthing.text.tokenizer import Tokenizer


def attainable(e: Evidence) -> Finding:
    """The gold answer written token by token, as the model would have to write it, and judged as a sample is."""
    assert e.tokenizer is not None
    if e.tokenizer.eos_id is None:
        return Finding("no token ends a turn", "later")
    pairs = [(written(e.tokenizer, e.taskset, problem), problem) for problem in e.problems]
    scores = e.taskset.score_many(pairs)
    wanted = [part for part in ("accuracy", "format") if e.config.rewards.get(part)]
    means = {part: fmean(score.parts.get(part, 0.0) for score in scores) for part in wanted}
    measured = ", ".join(f"{part} {mean:.0%}" for part, mean in means.items())
    for part, mean in means.items():
        if mean == 0.0:
            prefill = make_prompt(e.tokenizer, e.taskset, e.problems[0]).prefill
            begun = (
                f"the template begins the turn with {prefill!r}" if prefill else "the template begins no tag"
            )
            return Finding(measured, "refuse", f"no completion can earn the {part} reward: {begun}, and a perfect "
                           f"answer is read as {tail(pairs[0][0])}",
                           f'change the chat template or the task\'s form, or set rewards.{part} = 0')  # fmt: skip
    return Finding(measured)


def written(tokenizer: Tokenizer, taskset: Taskset, problem: Problem) -> str:
    """The turn that is judged when the model writes the gold answer after what the template has begun for it."""
    prompt = make_prompt(tokenizer, taskset, problem)
    rendered = as_prompt(tokenizer, taskset.messages(**problem))
    text = prompt.prefill + _rest(prompt.prefill, taskset.gold(**problem))
    ids = complete(tokenizer, rendered, text).ids[len(rendered.ids) :]
    return assistant_turn(tokenizer, prompt, Completion("", ids, [], [], "stop", 0))


def _rest(prefill: str, gold: str) -> str:
    """What of the gold answer is still to be written behind the prefill: the thinking, if the prefill opens it, only
    the answer, if it has closed it as well."""
    for tag in ("</think>", "<think>"):
        if tag in prefill and tag in gold:
            return gold.split(tag, 1)[1].lstrip("\n") if tag == "<think>" else gold.split(tag, 1)[1]
    return gold


def end_of_turn(e: Evidence) -> Finding:
    """Everybody has to mean the same token: whoever writes the prompt, whoever samples, and whoever serves it later."""
    assert e.tokenizer is not None
    eos, stops = e.tokenizer.eos_id, stop_ids(e.tokenizer)
    named = e.generation.get("eos_token_id")
    configured = [
        token for token in (named if isinstance(named, list) else [named]) if isinstance(token, int)
    ]
    names = {token: e.tokenizer.decode([token]) for token in (*stops, *configured)}
    measured = "sampling stops at " + (", ".join(names[token] for token in stops) or "nothing")
    if not stops:
        return Finding(measured, "refuse", "no token ends a turn, so every completion runs into its limit",
                       "name eos_token in tokenizer_config.json")  # fmt: skip
    if len(stops) > 1:
        return Finding(measured, "warn", f"the template closes a turn with {names[stops[1]]}, the tokenizer with "
                       f"{names[stops[0]]}", "make eos_token in tokenizer_config.json the template's")  # fmt: skip
    if eos is None:
        return Finding(measured, "warn", "the tokenizer names no eos_token, so no turn can be trained to its end",
                       f"name eos_token {names[stops[0]]} in tokenizer_config.json")  # fmt: skip
    others = [token for token in configured if token not in stops]
    if others:
        return Finding(measured, "warn", f"generation_config.json ends a turn at {names[others[0]]}, where sampling "
                       "for learning does not", "make its eos_token_id the template's token")  # fmt: skip
    return Finding(measured)


def round_trip(e: Evidence) -> Finding:
    """Text to ids and back. Ids to text and back is no more than a fact: what was sampled is never tokenised again."""
    assert e.tokenizer is not None
    golds = e.golds
    lost = [gold for gold in golds if e.tokenizer.decode(e.tokenizer.encode(gold, special=True)) != gold]
    same = [
        e.tokenizer.encode(e.tokenizer.decode(r.completion.token_ids), special=True) == r.completion.token_ids
        for r in e.rollouts
    ]
    canonical = f"; {fmean(same):.0%} of the samples come back as the same ids" if same else ""
    measured = f"{len(golds) - len(lost)} of {len(golds)} gold answers survive encoding{canonical}"
    if lost:
        back = e.tokenizer.decode(e.tokenizer.encode(lost[0], special=True))
        return Finding(measured, "warn", f"the tokenizer changes text: {tail(lost[0])} comes back as {tail(back)}",
                       "use the tokenizer that belongs to the model")  # fmt: skip
    return Finding(measured)


def room(e: Evidence) -> Finding:
    """Prompt and completion fit into the model's positions, a gold answer into the completion."""
    assert e.tokenizer is not None and e.shape is not None
    limit, places = e.config.max_new_tokens, e.shape.max_position_embeddings
    prompt = max(len(make_prompt(e.tokenizer, e.taskset, problem).token_ids) for problem in e.problems)
    golds = [len(e.tokenizer.encode(gold, special=True)) for gold in e.golds]
    measured = f"prompts up to {prompt}, gold answers {min(golds)} to {max(golds)}, limit {limit}, positions {places}"
    if min(golds) > limit:
        return Finding(measured, "refuse", f"even the shortest gold answer, {min(golds)} tokens, is cut off",
                       f"set max_new_tokens to {2 * max(golds)} or more")  # fmt: skip
    if prompt + limit > places:
        return Finding(measured, "warn", f"a completion may reach position {prompt + limit}, and the model has "
                       f"learnt {places}", f"set max_new_tokens to {max(1, places - prompt)} or less")  # fmt: skip
    if max(golds) > limit:
        return Finding(measured, "warn", f"some gold answers, up to {max(golds)} tokens, are cut off",
                       f"set max_new_tokens to {2 * max(golds)} or more")  # fmt: skip
    return Finding(measured)
