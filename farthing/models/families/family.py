"""What a family is: a mapping of configuration fields, operators for weights, and what farthing refuses.

A family is data. Reading turns a Hugging Face `config.json` into our `ModelConfig`, writing turns it back; both walk
the same table, so that a field that is read is also written. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from farthing.errors import CheckpointError
from farthing.models.config import MLAConfig, ModelConfig, MoEConfig, RopeConfig
from farthing.models.families.operators import Operator, copies
from farthing.models.families.positions import read_rope, write_rope

Fields = Mapping[str, Any]
PARTS: dict[str, type] = {"": ModelConfig, "mla": MLAConfig, "moe": MoEConfig, "rope": RopeConfig}

# Our field -> Hugging Face's, for what every family spells alike.
COMMON = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "max_position_embeddings": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps",
    "tie_word_embeddings": "tie_word_embeddings",
    "initializer_range": "initializer_range",
    "bos_token_id": "bos_token_id",
    "eos_token_id": "eos_token_id",
    "pad_token_id": "pad_token_id",
}


@dataclass(frozen=True)
class Gguf:
    """What llama.cpp calls a family, and whether it pairs neighbouring channels in rotary embedding."""

    architecture: str
    interleaved: bool


@dataclass(frozen=True)
class Family:
    """One row of the table of families.

    `fields`: our dotted field -> Hugging Face's key. `constants`: our dotted field -> the value it has in this family.
    `aliases`: Hugging Face's key -> another spelling of it that is read as well.
    `defaults`: Hugging Face's key -> what a missing key means, a value or a function of the config read so far.
    `fixed`: Hugging Face's key -> the only value farthing computes; another one is refused.
    `read_extra`, `write_extra`: what is not one to one. `ignored`: regular expressions of tensor names without meaning.
    `own_code`: the classes that the authors' checkpoints name in `auto_map` and that our decoder stands in for; a
    checkpoint that names any other is refused, and none is ever run. `gguf`: None where farthing writes no GGUF file.
    """

    model_type: str
    architecture: str
    fields: Mapping[str, str]
    constants: Fields = field(default_factory=dict)
    defaults: Fields = field(default_factory=dict)
    fixed: Fields = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    operators: Callable[[ModelConfig], tuple[Operator, ...]] = lambda config: ()
    own_code: frozenset[str] = frozenset()
    read_extra: Callable[[Fields], dict[str, Any]] = lambda data: {}
    write_extra: Callable[[ModelConfig], dict[str, Any]] = lambda config: {}
    ignored: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)
    gguf: Gguf | None = None

    def read(self, data: Fields) -> ModelConfig:
        """The configuration in a `config.json`; raises CheckpointError naming the field that cannot be used."""
        self._refuse_code(data)
        for key, value in self.fixed.items():
            if key in data and data[key] != value and data[key] is not None:
                raise CheckpointError(
                    f"config.json: {key} = {data[key]!r} is not supported for {self.model_type}, only {value!r}"
                )
        values = {ours: self._value(data, ours, theirs) for ours, theirs in self.fields.items()}
        values |= self.constants
        theta = self.defaults.get("rope_theta", 10000.0)
        values |= {f"rope.{name}": value for name, value in read_rope(data, theta).items()}
        values["model_type"] = self.model_type
        try:
            return assemble(values | self.read_extra(data))
        except KeyError as missing:
            raise CheckpointError(f"config.json: {missing.args[0]} is missing") from None
        except (TypeError, ValueError) as problem:
            raise CheckpointError(f"config.json: {problem}") from problem

    def _refuse_code(self, data: Fields) -> None:
        named = data.get("auto_map") or {}
        strange = [name for name in getattr(named, "values", lambda: [named])() if name not in self.own_code]
        if strange:
            raise CheckpointError(
                f"config.json: auto_map asks to run {strange[0]!r}; farthing never runs code that comes with a model"
            )

    def _value(self, data: Fields, ours: str, theirs: str) -> Any:
        for key in (theirs, self.aliases.get(theirs, theirs)):
            if data.get(key) is not None:
                return checked(data[key], ours, key)
        default = self.defaults.get(theirs, own_default(ours))
        if default is dataclasses.MISSING:
            raise CheckpointError(f"config.json: {theirs} is missing")
        return default(data) if callable(default) else default

    def all_operators(self, config: ModelConfig) -> tuple[Operator, ...]:
        """This family's operators, and the head that some checkpoints store although it is tied to the embedding."""
        if not config.tie_word_embeddings:
            return self.operators(config)
        return (*self.operators(config), copies("model.embed_tokens.weight", "lm_head.weight", written=False))

    def write(self, config: ModelConfig) -> dict[str, Any]:
        """The `config.json` of a model, for `transformers` and vLLM; the inverse of `read`."""
        data: dict[str, Any] = {"architectures": [self.architecture], "model_type": self.model_type}
        data |= {theirs: plain(lookup(config, ours)) for ours, theirs in self.fields.items()}
        data |= self.fixed
        data |= write_rope(config.rope)
        return data | self.write_extra(config)


def heads_divide_hidden(data: Fields) -> int:
    """The size of a head that a configuration does not state."""
    return int(data["hidden_size"]) // int(data["num_attention_heads"])


def lookup(config: ModelConfig, dotted: str) -> Any:
    """`config.moe.n_group` for "moe.n_group"."""
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def assemble(values: Fields) -> ModelConfig:
    """A ModelConfig from dotted names; a part exists iff one of its fields is given."""
    parts: dict[str, dict[str, Any]] = {name: {} for name in PARTS}
    for dotted, value in values.items():
        part, _, name = dotted.rpartition(".")
        parts[part][name] = value
    whole = parts.pop("")
    whole |= {name: PARTS[name](**given) for name, given in parts.items() if given}
    return ModelConfig(**whole)


def own_field(dotted: str) -> dataclasses.Field[Any]:
    part, _, name = dotted.rpartition(".")
    return next(entry for entry in dataclasses.fields(PARTS[part]) if entry.name == name)


def own_default(dotted: str) -> Any:
    return own_field(dotted).default


def checked(value: Any, ours: str, theirs: str) -> Any:
    """`value` if it has the type our field is annotated with; raises CheckpointError."""
    kinds = str(own_field(ours).type)
    if "tuple" in kinds and isinstance(value, list):
        return tuple(value)
    if "float" in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    right = {"int": int, "bool": bool, "str": str}
    allowed = tuple(kind for name, kind in right.items() if name in kinds.replace("tuple[int, ...]", ""))
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise CheckpointError(f"config.json: {theirs} = {value!r}, expected {kinds}")
    return value


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
