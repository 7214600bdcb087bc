"""Our weights under the names of Hugging Face's ``BertModel`` and ``ModernBertModel``, and back."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from embedctl.errors import ArtifactError
from embedctl.model.shape import Pooling, Shape

Weights = dict[str, torch.Tensor]

_BERT = {
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm",
}
_MODERN = {
    "attn_norm": "attention_norm",
    "attn.Wqkv": "qkv",
    "attn.Wo": "out",
    "mlp_norm": "norm",
    "mlp.Wi": "up",
    "mlp.Wo": "down",
}
_QKV = ("query", "key", "value")


def to_published(shape: Shape, ours: Mapping[str, torch.Tensor]) -> Weights:
    """Weights of an encoder under the published names."""
    ours = {name: value.detach().cpu() for name, value in ours.items()}
    found = {theirs: ours[name] for theirs, name in _singles(shape)}
    if shape.layout == "bert":
        # BERT adds the vector of the first of two segments to each token; ours is part of the positions.
        found["embeddings.token_type_embeddings.weight"] = torch.zeros(2, shape.dim)
        for number in range(shape.layers):
            for part in ("weight", "bias"):
                pieces = torch.split(ours[f"blocks.{number}.qkv.{part}"], shape.dim)
                for name, piece in zip(_QKV, pieces, strict=True):
                    found[f"encoder.layer.{number}.attention.self.{name}.{part}"] = piece
    return {name: value.contiguous() for name, value in found.items()}


def from_published(shape: Shape, theirs: Mapping[str, torch.Tensor], where: object) -> Weights:
    """Published weights under our names, float32; raises :class:`ArtifactError` if one is missing."""
    bare = {_bare(name): value.float() for name, value in theirs.items()}
    try:
        found = {name: bare[published] for published, name in _singles(shape)}
        if shape.layout == "bert":
            kinds = bare.get("embeddings.token_type_embeddings.weight")
            if kinds is not None:
                found["positions.weight"] = found["positions.weight"] + kinds[0]
            for number in range(shape.layers):
                for part in ("weight", "bias"):
                    names = [f"encoder.layer.{number}.attention.self.{name}.{part}" for name in _QKV]
                    found[f"blocks.{number}.qkv.{part}"] = torch.cat([bare[name] for name in names])
    except KeyError as missing:
        raise ArtifactError(f"{where} lacks the weight {missing}") from None
    return found


def shape_of(config: Mapping[str, Any], *, pooling: Pooling, normalize: bool, where: object) -> Shape:
    """The shape that a published ``config.json`` describes; what we do not compute is an :class:`ArtifactError`."""
    kind = config.get("model_type")
    if kind not in ("bert", "modernbert"):
        raise ArtifactError(f"{where}: model_type is {kind!r}; want bert or modernbert")
    _refuse_unknown(config, kind, where)
    sizes: dict[str, Any] = {
        "vocabulary": int(config["vocab_size"]),
        "max_tokens": int(config["max_position_embeddings"]),
        "layers": int(config["num_hidden_layers"]),
        "dim": int(config["hidden_size"]),
        "heads": int(config["num_attention_heads"]),
        "intermediate_dim": int(config["intermediate_size"]),
    }
    if sizes["heads"] < 1 or sizes["dim"] % sizes["heads"]:
        raise ArtifactError(
            f"{where}: hidden_size is {sizes['dim']}; want a multiple of num_attention_heads, {sizes['heads']}"
        )
    if kind == "bert":
        epsilon = float(config.get("layer_norm_eps", 1e-12))
        return Shape(**sizes, pooling=pooling, normalize=normalize, norm_epsilon=epsilon)
    ropes = config.get("rope_parameters") or {}
    return Shape(
        **sizes,
        pooling=pooling,
        normalize=normalize,
        layout="modernbert",
        norm_epsilon=float(config.get("norm_eps", 1e-5)),
        local_tokens=int(config.get("local_attention", 128)) // 2,
        global_every=_global_every(config, where),
        theta=_theta(ropes.get("full_attention"), config.get("global_rope_theta"), 160_000.0, where),
        local_theta=_theta(ropes.get("sliding_attention"), config.get("local_rope_theta"), 10_000.0, where),
    )


def config_of(shape: Shape) -> dict[str, Any]:
    """``config.json`` as Hugging Face's classes read it."""
    sizes = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.dim,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate_dim,
        "max_position_embeddings": shape.max_tokens,
        "torch_dtype": "float32",
    }
    if shape.layout == "bert":
        return {
            "architectures": ["BertModel"],
            "model_type": "bert",
            **sizes,
            "type_vocab_size": 2,
            "hidden_act": "gelu",
            "layer_norm_eps": shape.norm_epsilon,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    return {
        "architectures": ["ModernBertModel"],
        "model_type": "modernbert",
        **sizes,
        "hidden_activation": "gelu",
        "norm_eps": shape.norm_epsilon,
        "local_attention": 2 * shape.local_tokens,
        "global_attn_every_n_layers": shape.global_every,
        "global_rope_theta": shape.theta,
        "local_rope_theta": shape.local_theta,
    }


def _singles(shape: Shape) -> Iterator[tuple[str, str]]:
    """Weights that have one name there and one here: (theirs, ours)."""
    if shape.layout == "modernbert":
        yield from (("embeddings.tok_embeddings.weight", "words.weight"), ("embeddings.norm.weight", "norm.weight"))
        yield "final_norm.weight", "final_norm.weight"
        for number in range(shape.layers):
            for theirs, ours in _MODERN.items():
                if number or ours != "attention_norm":
                    yield f"layers.{number}.{theirs}.weight", f"blocks.{number}.{ours}.weight"
        return
    yield "embeddings.word_embeddings.weight", "words.weight"
    yield "embeddings.position_embeddings.weight", "positions.weight"
    for part in ("weight", "bias"):
        yield f"embeddings.LayerNorm.{part}", f"norm.{part}"
        for number in range(shape.layers):
            for theirs, ours in _BERT.items():
                yield f"encoder.layer.{number}.{theirs}.{part}", f"blocks.{number}.{ours}.{part}"


def _bare(name: str) -> str:
    """Without the prefix that classes with a head put before the encoder's names, and with norms as now spelt."""
    for prefix in ("bert.", "model."):
        name = name.removeprefix(prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _refuse_unknown(config: Mapping[str, Any], kind: str, where: object) -> None:
    wanted: dict[str, tuple[object, ...]] = {
        "bert": {"hidden_act": ("gelu",), "position_embedding_type": ("absolute",)},
        "modernbert": {
            "hidden_activation": ("gelu",),
            "norm_bias": (False,),
            "attention_bias": (False,),
            "mlp_bias": (False,),
        },
    }[kind]  # type: ignore[assignment]
    for key, values in wanted.items():
        if config.get(key, values[0]) not in values:
            raise ArtifactError(f"{where}: {key} is {config[key]!r}; embedctl computes {values[0]!r} alone")


def _global_every(config: Mapping[str, Any], where: object) -> int:
    kinds = config.get("layer_types")
    if not kinds:
        return int(config.get("global_attn_every_n_layers", 3))
    full = [number for number, kind in enumerate(kinds) if kind == "full_attention"]
    every = full[1] - full[0] if len(full) > 1 else len(kinds)
    if full != list(range(0, len(kinds), max(every, 1))):
        raise ArtifactError(f"{where}: layer_types is no regular pattern that begins with full_attention")
    return every


def _theta(rope: Mapping[str, Any] | None, older: float | None, default: float, where: object) -> float:
    rope = rope or {}
    if rope.get("rope_type", "default") != "default":
        raise ArtifactError(f"{where}: rope_type is {rope['rope_type']!r}; embedctl computes 'default' alone")
    return float(rope.get("rope_theta") or older or default)
