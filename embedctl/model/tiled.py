"""The BERT layout for inference, in C: in bfloat16 where the processor multiplies that, in tiles (AMX) or AVX-512's
registers, and in float32 where it has AVX2 and no more.

Between two attentions some hundred tokens at a time go through everything else, in the core's cache; with a library's
products each layer's result goes through memory.

Shape suffixes: B texts, T tokens, D width, H heads, N = 3 * H, d width of a head.
"""

import ctypes
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from embedctl.model import native
from embedctl.model.batch import FlatBatch

if TYPE_CHECKING:
    from embedctl.model.encoder import BertBlock, Encoder


class _Layer(ctypes.Structure):
    """As in block.h."""

    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
    )


class _Block(ctypes.Structure):
    """As in block.h."""

    _fields_ = (
        ("project", _Layer),
        ("up", _Layer),
        ("down", _Layer),
        ("qkv", _Layer),
        ("words", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("norm", ctypes.c_void_p * 2),
        ("last", ctypes.c_void_p * 2),
        ("epsilon", ctypes.c_float),
        ("width", ctypes.c_int64),
        ("side", ctypes.c_int64),
    )


class _Tokens(ctypes.Structure):
    """As in block.h."""

    _fields_ = (
        ("ids", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("mixed", ctypes.c_void_p),
        ("hidden", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("qkv", ctypes.c_void_p),
        ("room", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("threads", ctypes.c_int),
    )


def can_take(encoder: "Encoder", dtype: torch.dtype) -> bool:
    """Whether this can be done in C: the BERT layout, all sizes whole times 32, in an arithmetic that is there."""
    shape = encoder.shape
    sizes = (shape.dim, shape.dim // shape.heads, shape.intermediate_dim)
    fits = shape.layout == "bert" and shape.layers > 0 and all(size > 0 and size % 32 == 0 for size in sizes)
    return fits and (native.available() if dtype == torch.bfloat16 else dtype == torch.float32 and native.has_floats())


class TiledEncoder(nn.Module):
    """What an encoder makes of each token, in one arithmetic and without gradients."""

    def __init__(self, encoder: "Encoder", dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        shape, blocks = encoder.shape, cast("list[BertBlock]", [*encoder.blocks])
        self._width, self._heads, self._side = shape.dim, shape.heads, shape.dim // shape.heads
        self._vocabulary, self._most = shape.vocabulary, shape.max_tokens
        self._kept: list[Tensor] = []
        self._memory = threading.local()
        assert encoder.positions is not None
        common = {"epsilon": shape.norm_epsilon, "width": self._width, "side": self._side}
        tables = {"words": self._place(encoder.words.weight), "places": self._place(encoder.positions.weight)}
        # The embeddings, then blocks, each with the queries, keys and values of the block after it.
        self._steps = [_Block(qkv=self._layer(blocks[0].qkv), last=self._norm(encoder.norm), **tables, **common)]
        for number, block in enumerate(blocks, 1):
            project, up, down = (self._layer(layer) for layer in (block.out, block.up, block.down))
            norms = {"norm": self._norm(block.attention_norm), "last": self._norm(block.norm)}
            qkv = self._layer(blocks[number].qkv) if number < len(blocks) else _Layer()
            self._steps.append(_Block(project=project, up=up, down=down, qkv=qkv, **norms, **common))

    def forward(self, batch: FlatBatch) -> Tensor:
        """(T, D), texts in ``batch.order``; raises :class:`IndexError` for what there is no embedding of."""
        if batch.longest > self._most or not 0 <= int(batch.ids_T.min()) <= int(batch.ids_T.max()) < self._vocabulary:
            raise IndexError("a token id or a text's length is beyond the model's embeddings")
        threads, count = torch.get_num_threads(), len(batch.ids_T)
        half = self._dtype == torch.bfloat16
        room = getattr(_library(), "embedctl_bert_room" if half else "embedctl_float_room")(ctypes.c_int64(self._width))
        whole = -(-count // 32) * 32 + 32  # some rows behind the last token are computed too, and not used
        parts = [whole * self._width, whole * self._width, 3 * count * self._width, (2 if half else 1) * threads * room]
        hidden, mixed, qkv, memory = self._rooms(parts)
        qkv_NTd = qkv.view(3 * self._heads, count, self._side)
        out_TD = torch.empty(whole, self._width, dtype=self._dtype)
        ids_T = batch.ids_T.long()
        tensors = (ids_T, batch.positions_T, mixed, hidden, out_TD, qkv, memory)
        tokens = _Tokens(*(each.data_ptr() for each in tensors), count, threads)
        take = getattr(_library(), f"embedctl_bert_by_{'floats' if not half else _products()}")
        for number, step in enumerate(self._steps):
            if number and half:
                native.attend_heads(qkv_NTd, batch, out=mixed[: count * self._width].view(-1, count, self._side))
            elif number:
                native.attend_floats(qkv_NTd, batch, out=mixed)
            take(ctypes.byref(tokens), ctypes.byref(step))
        return out_TD[:count]

    def _rooms(self, sizes: list[int]) -> Sequence[Tensor]:
        """Memory that a thread keeps: to fetch from the kernel again what was given back takes a tenth of the time."""
        memory: Tensor | None = getattr(self._memory, "of_thread", None)
        if memory is None or len(memory) < sum(sizes):
            memory = self._memory.of_thread = None
            memory = self._memory.of_thread = torch.empty(sum(sizes), dtype=self._dtype)
        return torch.split(memory[: sum(sizes)], sizes)

    def _layer(self, layer: nn.Linear) -> _Layer:
        outputs, inputs = layer.weight.shape
        weights = layer.weight.detach().to(self._dtype)
        if self._dtype == torch.bfloat16:
            weights = weights.view(outputs // 32, 2, 16, inputs // 32, 16, 2).permute(0, 3, 1, 4, 2, 5).contiguous()
        else:
            weights = weights.view(outputs // 16, 16, inputs).transpose(1, 2).contiguous()
        self._kept.append(weights)
        return _Layer(weights.data_ptr(), self._place(layer.bias), inputs, outputs)

    def _norm(self, layer: nn.LayerNorm) -> Any:
        return (ctypes.c_void_p * 2)(self._place(layer.weight), self._place(layer.bias))

    def _place(self, tensor: Tensor) -> int:
        """Where its numbers are in float32, as long as this lives."""
        self._kept.append(tensor.detach().float().contiguous())
        return self._kept[-1].data_ptr()


def _products() -> str:
    return "tiles" if native.has_tiles() else "lanes"


def _library() -> Any:
    library = native.loaded()
    assert library is not None
    for name in ("embedctl_bert_room", "embedctl_float_room"):
        getattr(library, name).restype = ctypes.c_int64
    return library
