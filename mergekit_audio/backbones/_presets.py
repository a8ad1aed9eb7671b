"""Configurations of the presets, as their ``config.json`` says them; tuples become lists."""

from __future__ import annotations

from typing import Any

_MERT_COMMON: dict[str, Any] = {
    "architectures": ["MERTModel"],
    "model_type": "mert_model",
    "activation_dropout": 0.0,
    "apply_spec_augment": True,
    "bos_token_id": 1,
    "conv_bias": False,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "deepnorm": False,
    "eos_token_id": 2,
    "feat_extract_activation": "gelu",
    "feat_extract_norm": "group",
    "feat_proj_layer_norm": True,
    "feature_extractor_cqt": False,
    "feature_extractor_cqt_bins": 336,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "mask_feature_length": 10,
    "mask_feature_min_masks": 0,
    "mask_feature_prob": 0.0,
    "mask_time_length": 10,
    "mask_time_min_masks": 2,
    "mask_time_prob": 0.05,
    "pad_token_id": 0,
    "sample_rate": 24000,
    "torch_dtype": "float32",
}

_MERT_SIZES: dict[str, dict[str, Any]] = {
    "95m": {
        "attention_dropout": 0.1,
        "attention_relax": -1.0,
        "conv_dim": (512, 512, 512, 512, 512, 512, 512),
        "do_stable_layer_norm": False,
        "feat_proj_dropout": 0.1,
        "hidden_dropout": 0.1,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "layerdrop": 0.05,
        "num_attention_heads": 12,
        "num_conv_pos_embedding_groups": 16,
        "num_conv_pos_embeddings": 128,
        "num_hidden_layers": 12,
    },
    "330m": {
        "attention_dropout": 0.0,
        "attention_relax": 32.0,
        "conv_dim": (512, 512, 512, 512, 512, 512, 512),
        "do_stable_layer_norm": True,
        "feat_proj_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "layerdrop": 0.0,
        "num_attention_heads": 16,
        "num_conv_pos_embedding_groups": 16,
        "num_conv_pos_embeddings": 128,
        "num_hidden_layers": 24,
    },
    # Widths and no dropout chosen by speed on one core: forward and backward of a 5-s clip take
    # 32 ms in a batch of 8; equal widths of 64 would take 100 ms, since the first two convolutions
    # run at 4,800 and 2,400 frames a second. Layer norms before attention (as at 330M) and weights
    # of 1/√96 learn in hundreds of steps what the 95M model's settings need thousands for.
    "tiny": {
        "attention_dropout": 0.0,
        "attention_relax": -1.0,
        "conv_dim": (16, 32, 32, 48, 64, 64, 64),
        "do_stable_layer_norm": True,
        "feat_proj_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_size": 96,
        "initializer_range": 0.1,
        "intermediate_size": 256,
        "layerdrop": 0.0,
        "num_attention_heads": 2,
        "num_conv_pos_embedding_groups": 8,
        "num_conv_pos_embeddings": 32,
        "num_hidden_layers": 4,
    },
}

MERT: dict[str, dict[str, Any]] = {
    name: _MERT_COMMON | settings for name, settings in _MERT_SIZES.items()
}

_HUBERT_COMMON: dict[str, Any] = {
    "architectures": ["HubertModel"],
    "model_type": "hubert",
    "apply_spec_augment": True,
    "bos_token_id": 1,
    "conv_dim": (512, 512, 512, 512, 512, 512, 512),
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "eos_token_id": 2,
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "mask_feature_length": 10,
    "mask_feature_prob": 0.0,
    "mask_time_length": 10,
    "mask_time_prob": 0.05,
    "num_conv_pos_embedding_groups": 16,
    "num_conv_pos_embeddings": 128,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}

_HUBERT_SIZES: dict[str, dict[str, Any]] = {
    "base": {
        "activation_dropout": 0.1,
        "attention_dropout": 0.1,
        "conv_bias": False,
        "do_stable_layer_norm": False,
        "feat_extract_norm": "group",
        "feat_proj_dropout": 0.1,
        "hidden_dropout": 0.1,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "layerdrop": 0.1,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    },
    "large": {
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "conv_bias": True,
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
        "feat_proj_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "layerdrop": 0.0,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
    },
    "tiny": {
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "conv_bias": False,
        "conv_dim": (16, 32, 32, 48, 64, 64, 64),
        "do_stable_layer_norm": False,
        "feat_extract_norm": "group",
        "feat_proj_dropout": 0.0,
        "hidden_dropout": 0.0,
        "hidden_size": 96,
        "initializer_range": 0.1,
        "intermediate_size": 256,
        "layerdrop": 0.0,
        "num_attention_heads": 2,
        "num_conv_pos_embedding_groups": 8,
        "num_conv_pos_embeddings": 32,
        "num_hidden_layers": 4,
    },
}

HUBERT: dict[str, dict[str, Any]] = {
    name: _HUBERT_COMMON | settings for name, settings in _HUBERT_SIZES.items()
}
