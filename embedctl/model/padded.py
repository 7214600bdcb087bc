"""The encoder written out plainly, over padded batches: what other programs run, and what tests hold the fast path to.

It shares its weights with the encoder that it is made from. Only what ``torch.export`` and TorchScript understand is
used, and no size of a batch is fixed.

Shape suffixes: B texts, T tokens of the longest of them, D model width, H heads, d width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedctl.model.encoder import BertBlock, Encoder, ModernBlock


class Padded(nn.Module):
    """Token ids in, one vector per text out; every text begins at the left, padding is on the right."""

    rates_d: Tensor
    local_rates_d: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        shape = encoder.shape
        self.pooling, self.normalize = shape.pooling, shape.normalize
        self.local_tokens = shape.local_tokens
        self.words, self.positions = encoder.words, encoder.positions
        self.norm = encoder.norm
        self.blocks = nn.ModuleList(_padded(block) for block in encoder.blocks)
        self.final_norm = nn.Identity() if encoder.final_norm is None else encoder.final_norm
        # Exponents of the angles, one for each plane of a head: (d / 2,).
        width = shape.dim // shape.heads
        planes_d = torch.arange(0, width, 2, dtype=torch.float32) / width
        self.register_buffer("rates_d", shape.theta**-planes_d)
        self.register_buffer("local_rates_d", shape.local_theta**-planes_d)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Vectors, float32 (B, D).

        input_ids:      (B, T) int64; any id at padding
        attention_mask: (B, T) int64, 1 at a token, 0 at padding; each text has a token at least
        """
        hidden_BTD = self.hidden(input_ids, attention_mask)
        real_BT1 = attention_mask.unsqueeze(-1)
        if self.pooling == "mean":
            pooled_BD = (hidden_BTD * real_BT1).sum(1) / real_BT1.sum(1)
        elif self.pooling == "cls":
            pooled_BD = hidden_BTD[:, 0]
        else:
            last_B1D = (real_BT1.sum(1, keepdim=True) - 1).expand(-1, -1, hidden_BTD.shape[2])
            pooled_BD = hidden_BTD.gather(1, last_B1D).squeeze(1)
        return F.normalize(pooled_BD, dim=-1) if self.normalize else pooled_BD

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last hidden states, (B, T, D); those of padding mean nothing."""
        places_T = torch.arange(input_ids.shape[1], device=input_ids.device)
        apart_TT = (places_T.unsqueeze(1) - places_T.unsqueeze(0)).abs()
        # Each token sees itself, padding too: a softmax over nothing is not a number, and spreads.
        seen_B1TT = (attention_mask != 0)[:, None, None, :] | (apart_TT == 0)
        near_B1TT = seen_B1TT & (apart_TT <= self.local_tokens)
        turns_Td = places_T.unsqueeze(1) * self.rates_d
        local_turns_Td = places_T.unsqueeze(1) * self.local_rates_d
        hidden_BTD = self.words(input_ids)
        if self.positions is not None:
            hidden_BTD = hidden_BTD + self.positions(places_T)
        hidden_BTD = self.norm(hidden_BTD)
        for block in self.blocks:
            if block.local:
                hidden_BTD = block(hidden_BTD, near_B1TT, local_turns_Td)
            else:
                hidden_BTD = block(hidden_BTD, seen_B1TT, turns_Td)
        last_BTD: Tensor = self.final_norm(hidden_BTD)
        return last_BTD


class _Bert(nn.Module):
    """Attention and feed-forward with the norm after each."""

    def __init__(self, block: BertBlock) -> None:
        super().__init__()
        self.heads, self.local = block.heads, False
        self.qkv, self.out, self.attention_norm = block.qkv, block.out, block.attention_norm
        self.up, self.down, self.norm = block.up, block.down, block.norm

    def forward(self, hidden_BTD: Tensor, seen_B1TT: Tensor, turns_Td: Tensor) -> Tensor:
        q, k, v = _heads(self.qkv(hidden_BTD), self.heads)
        mixed_BTD = _mix(q, k, v, seen_B1TT)
        hidden_BTD = self.attention_norm(hidden_BTD + self.out(mixed_BTD))
        raised_BTD = self.down(F.gelu(self.up(hidden_BTD)))
        after_BTD: Tensor = self.norm(hidden_BTD + raised_BTD)
        return after_BTD


class _Modern(nn.Module):
    """Attention of turned queries and keys, and gated feed-forward, with the norm before each."""

    def __init__(self, block: ModernBlock) -> None:
        super().__init__()
        self.heads, self.local = block.heads, block.local
        self.attention_norm = nn.Identity() if block.attention_norm is None else block.attention_norm
        self.qkv, self.out, self.norm = block.qkv, block.out, block.norm
        self.up, self.down = block.up, block.down

    def forward(self, hidden_BTD: Tensor, seen_B1TT: Tensor, turns_Td: Tensor) -> Tensor:
        q, k, v = _heads(self.qkv(self.attention_norm(hidden_BTD)), self.heads)
        mixed_BTD = _mix(_turn(q, turns_Td), _turn(k, turns_Td), v, seen_B1TT)
        hidden_BTD = hidden_BTD + self.out(mixed_BTD)
        raised, gate = self.up(self.norm(hidden_BTD)).chunk(2, dim=-1)
        after_BTD: Tensor = hidden_BTD + self.down(F.gelu(raised) * gate)
        return after_BTD


def _padded(block: nn.Module) -> nn.Module:
    return _Bert(block) if isinstance(block, BertBlock) else _Modern(block)  # type: ignore[arg-type]


def _heads(qkv_BT3D: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each (B, H, T, d)."""
    texts, tokens = qkv_BT3D.shape[0], qkv_BT3D.shape[1]
    parts = qkv_BT3D.view(texts, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return parts[0], parts[1], parts[2]


def _turn(x_BHTd: Tensor, turns_Td: Tensor) -> Tensor:
    """Each pair (i, i + d / 2) of the values of a head, turned by its angle."""
    one, other = x_BHTd.chunk(2, dim=-1)
    cosine, sine = turns_Td.cos(), turns_Td.sin()
    return torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1)


def _mix(q: Tensor, k: Tensor, v: Tensor, seen_B1TT: Tensor) -> Tensor:
    """softmax(q k / sqrt(d)) v over what is seen, (B, T, D)."""
    scores_BHTT = (q @ k.transpose(2, 3)) * float(q.shape[3]) ** -0.5
    shares_BHTT = scores_BHTT.masked_fill(~seen_B1TT, float("-inf")).softmax(-1)
    mixed_BTD: Tensor = (shares_BHTT @ v).transpose(1, 2).flatten(2)
    return mixed_BTD
