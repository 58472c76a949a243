"""The tables beside the stages: a model by path or by shape, a task with its own settings."""

from typing import Any

import pytest

from farthing.config import parse
from farthing.errors import CheckpointError, RecipeError
from farthing.stages.sections import ModelSection, TaskSection

SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def model(**keys: Any) -> ModelSection:
    return parse(ModelSection, keys, "[model]", RecipeError)


def test_a_shape_becomes_the_configuration_of_its_family() -> None:
    shape = model(**SHAPE, rope_theta=5e5).shape(vocab_size=512)
    assert (shape.vocab_size, shape.head_dim, shape.num_key_value_heads) == (512, 16, 4)
    assert (shape.rope.rope_theta, shape.qk_norm, shape.tie_word_embeddings) == (5e5, True, True)


def test_heads_may_be_given() -> None:
    shape = model(**SHAPE, num_key_value_heads=2, head_dim=32).shape(vocab_size=512)
    assert (shape.num_key_value_heads, shape.head_dim) == (2, 32)


def test_keys_of_the_family_pass_and_others_are_refused() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    assert model(**SHAPE, rope_scaling=yarn).shape(512).rope.rope_type == "yarn"
    with pytest.raises(RecipeError, match='unknown key "hiden_act"; did you mean "hidden_act"'):
        model(**SHAPE, hiden_act="silu").shape(512)
    with pytest.raises(CheckpointError, match="attention_bias = True is not supported"):
        model(**SHAPE, attention_bias=True).shape(512)


def test_a_family_that_reads_no_head_dim_is_given_none() -> None:
    latent = {"qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "kv_lora_rank": 24}
    experts = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    keys = SHAPE | latent | experts | {"model_type": "deepseek_v3", "num_nextn_predict_layers": 1}
    shape = model(**keys).shape(512)
    assert shape.mla is not None and shape.head_dim == 24 and shape.num_nextn_predict_layers == 1
    with pytest.raises(RecipeError, match='unknown key "head_dim"'):
        model(**keys, head_dim=16).shape(512)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, '[model]: missing key "hidden_size" (or a path to start from)'),
        ({"hidden_size": 8}, '[model]: missing key "intermediate_size" (or a path to start from)'),
        (
            {"path": "x", "hidden_size": 8},
            "[model]: path brings its own hidden_size; give either a path or a shape",
        ),
        (
            {"path": "x", "anything": 8},
            "[model]: path brings its own anything; give either a path or a shape",
        ),
        ({**SHAPE, "hidden_size": 68}, "[model]: hidden_size 68 does not give 4 heads of even width"),
        ({**SHAPE, "vocab_size": 9}, "[model]: vocab_size comes from the tokenizer; delete it here"),
        (
            {**SHAPE, "num_hidden_layers": 0},
            "[model]: num_hidden_layers = 0: should be greater than or equal to 1",
        ),
    ],
)
def test_a_shape_that_makes_no_model_is_refused(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        model(**keys)
    assert str(caught.value) == expected


def test_a_resolved_table_means_the_same() -> None:
    for keys in ({"path": "runs/x/model"}, SHAPE, {**SHAPE, "rope_scaling": None, "hidden_act": "silu"}):
        assert model(**model(**keys).resolved()).resolved() == model(**keys).resolved()


def test_a_task_keeps_its_own_settings() -> None:
    task = parse(TaskSection, {"name": "countdown", "numbers": 4}, "[task]")
    assert (task.name, task.settings) == ("countdown", {"numbers": 4})
