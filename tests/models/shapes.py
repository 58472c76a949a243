"""Shapes of small models that several tests build."""

from farthing.models.config import MLAConfig, ModelConfig, MoEConfig, RopeConfig

DENSE = ModelConfig(
    vocab_size=61,
    hidden_size=80,
    intermediate_size=112,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=16,
    qk_norm=True,
    tie_word_embeddings=True,
    initializer_range=0.3,
)
LATENT = ModelConfig(
    vocab_size=90,
    hidden_size=32,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=18,
    max_position_embeddings=512,
    initializer_range=0.2,
    model_type="deepseek_v3",
    mla=MLAConfig(12, 10, 8, 14, q_lora_rank=16),
    rope=RopeConfig(interleaved=True, yarn_beyond_original_only=True),
    moe=MoEConfig(
        8,
        3,
        20,
        n_shared_experts=1,
        first_k_dense_replace=1,
        scoring_func="sigmoid",
        selection_bias=True,
        norm_topk_prob=True,
        norm_eps=1e-20,
        routed_scaling_factor=2.5,
        n_group=4,
        topk_group=2,
        group_score="top2",
    ),
    num_nextn_predict_layers=2,
)
