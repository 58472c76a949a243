"""The supervised fine-tuning stage: a model learns what assistants wrote in conversations.

How it differs from the paper (DeepSeek-R1, arXiv 2501.12948v2, B.4.2), whose learning rate and epochs are the defaults:
1. A step is a number of conversations, and every trained token of a step counts the same.
2. Conversations are not packed into rows of fixed length: they lie end to end and none sees another.
3. Each assistant turn is a row of its own, behind the prompt that the model will be given for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from farthing.algorithms.schedules import cosine
from farthing.data.conversations import Conversation, Turn, read_conversations, turns
from farthing.data.order import Order
from farthing.data.sample import Sample
from farthing.errors import DataError
from farthing.learner.local import LocalLearner
from farthing.stages.config.sft import ConversationsConfig, SftConfig
from farthing.stages.context import Context
from farthing.stages.learning import model_to_learn, optim_settings
from farthing.stages.supervised import Supervised
from farthing.tasks.rows import is_held_out
from farthing.text.tokenizer import Tokenizer


def run(context: Context) -> dict[str, str]:
    """Learn from the conversations, from the last checkpoint if there is one; writes model/."""
    config = context.of(SftConfig)
    model, tokenizer = model_to_learn(context, config)
    with context.ledger.phase(context.name, "setup"):
        data = Data.read(
            context, config, tokenizer, config.max_length or model.config.max_position_embeddings
        )
    learner = LocalLearner(
        model,
        optim_settings(config),
        compute_dtype=context.compute_dtype(config.dtype),
        microbatch_tokens=config.microbatch_tokens,
        entropy=False,
    )
    steps = data.steps(config)
    training = Supervised(
        context,
        config,
        learner,
        steps,
        batch=lambda step: data.batch(step, config),
        lr_scale=lambda step: cosine(step, steps, config.warmup_steps, config.final_lr_fraction),
        heldout=data.heldout,
        eval_every=config.eval_every,
    )
    training.carry_out("sft")
    return context.save_model(
        learner.model, tokenizer, max_new_tokens=data.longest, conversations_left_out=data.left_out
    )


@dataclass
class Data:
    """The conversations of a stage in tokens: pools to learn from in a counted order, and what is held out."""

    pools: dict[str, list[list[Turn]]]
    order: Order
    heldout: list[Sample]
    left_out: int

    @classmethod
    def read(cls, context: Context, config: SftConfig, tokenizer: Tokenizer, max_length: int) -> Data:
        """Every file, rendered. Raises DataError naming file and line."""
        found = {str(number): _read(context, entry) for number, entry in enumerate(config.data)}
        weights = {str(number): entry.weight or 1 for number, entry in enumerate(config.data)}
        if config.data[0].weight is None:  # as they are: one pool, in which each conversation counts the same
            found, weights = {"0": list(chain.from_iterable(found.values()))}, {"0": 1}
        render = partial(
            _rendered, tokenizer=tokenizer, max_length=max_length, drop=config.too_long == "drop"
        )
        held = [one for own in found.values() for one in own if _is_held_out(one, config)]
        pools = {
            name: render([one for one in own if not _is_held_out(one, config)]) for name, own in found.items()
        }
        if not all(pools.values()):
            raise DataError(f"[{context.name}]: nothing is left to learn from; lower heldout_share")
        heldout = render(held)
        left_out = sum(map(len, found.values())) - sum(map(len, pools.values())) - len(heldout)
        order = Order({name: len(pool) for name, pool in pools.items()}, weights, context.seed)
        return cls(pools, order, as_samples(heldout), left_out)

    def steps(self, config: SftConfig) -> int:
        """Optimizer steps of the stage."""
        return config.steps or -(-self.rows(config) // config.conversations_per_step)

    def rows(self, config: SftConfig) -> int:
        """Conversations that are learnt from in all; the last step of the last epoch may have fewer."""
        if config.steps is not None:
            return config.steps * config.conversations_per_step
        return (config.epochs or 1) * self.order.epoch

    def batch(self, step: int, config: SftConfig) -> list[Sample]:
        """The conversations of a step."""
        size = config.conversations_per_step
        places = map(self.order.at, range(step * size, min((step + 1) * size, self.rows(config))))
        return as_samples([self.pools[name][row] for name, row in places])

    @property
    def longest(self) -> int:
        """Tokens of the longest turn that is learnt from."""
        every = chain.from_iterable(chain.from_iterable(self.pools.values()))
        return max(len(turn.token_ids) - turn.prompt_len for turn in every)


def as_samples(conversations: Sequence[Sequence[Turn]]) -> list[Sample]:
    """Rows of a step: the loss is the mean over its trained tokens."""
    rows = list(chain.from_iterable(conversations))
    trained = sum(len(turn.token_ids) - turn.prompt_len for turn in rows)
    return [Sample(turn.token_ids, turn.prompt_len, 1.0 / trained) for turn in rows]


def _read(context: Context, entry: ConversationsConfig) -> list[Conversation]:
    path = context.conversations[entry.stage] if entry.stage is not None else str(entry.path)
    return read_conversations(path, entry.columns)


def _is_held_out(conversation: Conversation, config: SftConfig) -> bool:
    return is_held_out(conversation.question, config.heldout_share)


def _rendered(
    conversations: Sequence[Conversation], tokenizer: Tokenizer, max_length: int, drop: bool
) -> list[list[Turn]]:
    """Each conversation in tokens; those beyond `max_length` are refused or dropped, never cut."""
    kept = []
    for conversation in conversations:
        own = list(turns(tokenizer, conversation))
        length = max(len(turn.token_ids) for turn in own)
        if length <= max_length:
            kept.append(own)
        elif not drop:
            raise DataError(
                f"{conversation.place}: {length} tokens, and max_length is {max_length}; raise it, "
                'or set too_long = "drop"'
            )
    return kept
