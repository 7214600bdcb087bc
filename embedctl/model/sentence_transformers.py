"""The model as a folder that sentence-transformers opens (the older layout, which every version from 3.0 reads)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as tensor_bytes
from tokenizers import Tokenizer

from embedctl.artifacts.folder import write_file
from embedctl.model import layouts
from embedctl.model.encoder import Encoder
from embedctl.model.shape import Shape
from embedctl.tokens import tokenizer as tokenizers

_MODULES = ("Transformer", "Pooling", "Normalize")


def write_folder(
    encoder: Encoder, tokenizer: Tokenizer, folder: Path, *, query_prompt: str = "", passage_prompt: str = ""
) -> None:
    """Write weights under the published names, their config, the tokenizer, prompts, and the list of modules."""
    shape = encoder.shape
    weights = layouts.to_published(shape, encoder.state_dict())
    write_file(folder / "model.safetensors", tensor_bytes(weights, metadata={"format": "pt"}))
    _write(folder / "config.json", {**layouts.config_of(shape), **_special_ids(shape, tokenizer)})
    write_file(folder / "tokenizer.json", (tokenizer.to_str(pretty=True) + "\n").encode())
    _write(folder / "tokenizer_config.json", _tokenizer_config(shape, tokenizer))
    _write(folder / "sentence_bert_config.json", {"max_seq_length": shape.max_tokens, "do_lower_case": False})
    prompts = {"query": query_prompt, "document": passage_prompt, "passage": passage_prompt}
    _write(folder / "config_sentence_transformers.json", {"prompts": prompts, "similarity_fn_name": "cosine"})
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": f"{number}_{name}" if number else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for number, name in enumerate(_MODULES if shape.normalize else _MODULES[:-1])
    ]
    write_file(folder / "modules.json", (json.dumps(modules, indent=2) + "\n").encode())
    pooling = {
        "word_embedding_dimension": shape.dim,
        "pooling_mode_cls_token": shape.pooling == "cls",
        "pooling_mode_mean_tokens": shape.pooling == "mean",
        "pooling_mode_lasttoken": shape.pooling == "last",
    }
    _write(folder / "1_Pooling" / "config.json", pooling)
    if shape.normalize:
        # Not empty, so that tools that copy files alone carry the folder along.
        (folder / "2_Normalize").mkdir()
        _write(folder / "2_Normalize" / "config.json", {})


def _special_ids(shape: Shape, tokenizer: Tokenizer) -> dict[str, Any]:
    pad, cls, sep = (tokenizer.token_to_id(name) for name in (tokenizers.PAD, tokenizers.CLS, tokenizers.SEP))
    ids: dict[str, Any] = {"pad_token_id": pad or 0}
    if shape.layout == "modernbert":
        ids.update(cls_token_id=cls, bos_token_id=cls, sep_token_id=sep, eos_token_id=sep)
    return ids


def _tokenizer_config(shape: Shape, tokenizer: Tokenizer) -> dict[str, Any]:
    names = {
        "pad_token": tokenizers.PAD,
        "unk_token": tokenizers.UNKNOWN,
        "cls_token": tokenizers.CLS,
        "sep_token": tokenizers.SEP,
        "mask_token": tokenizers.MASK,
    }
    known = {role: token for role, token in names.items() if tokenizer.token_to_id(token) is not None}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.max_tokens,
        "clean_up_tokenization_spaces": False,
        # ModernBertModel takes no more, and older versions hand it all that the tokenizer gives.
        **({"model_input_names": ["input_ids", "attention_mask"]} if shape.layout == "modernbert" else {}),
        **known,
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_file(path, (json.dumps(content, indent=2) + "\n").encode())
