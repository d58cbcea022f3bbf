"""Networks that read (n, k, m, P) itself and answer log2 h.

`run1` and `gated` read the entries of P in their places, padded to one size, as run 1 did. `symmetric` reads the
orthogonal projector onto the code, which no change of basis moves, and is built so that neither a permutation of the
coordinates nor a sign moves its answer: the whole orbit of a code is one input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.code_files import Group
from ..groups import RULES, tier_of
from .recipe import RawRecipe

HEADS = 8
"""Of run 1's attention. The high-capacity pathway has twice as many, twice as wide."""

FIXED_GATE = {rule.name: rule.gate for rule in RULES}
"""Share of the high-capacity pathway before the gate is learned."""


EARLIER = {
    "enter": "input_layer", "leave": "output_layer", "ask": "query_key_value", "tell": "output_projection",
    "value": "entry_embedding", "place": "position_embedding", "about": "group_embedding", "exchanges": "rounds",
}  # fmt: skip
"""Layers by the names that they have in weights saved by earlier versions."""


def renamed(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights by today's names."""
    return {".".join(EARLIER.get(part, part) for part in name.split(".")): value for name, value in weights.items()}


class Codes(NamedTuple):
    """A batch as networks read it: x float32, (B, K, R) or (B, N, N), and the group's place in the network's list."""

    x: Tensor
    group: Tensor  # (B,) int64


def padded(P: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float32]:
    """(B, k, r) -> (B, rows, columns), zeros below and to the right."""
    out = np.zeros((len(P), rows, columns), np.float32)
    out[:, : P.shape[1], : P.shape[2]] = P
    return out


def projectors(P: NDArray[np.float64]) -> NDArray[np.float32]:
    """Orthogonal projectors onto the codes [I | P]: (B, k, r) -> (B, n, n), n = k + r."""
    count, k, _ = P.shape
    G = np.concatenate([np.broadcast_to(np.eye(k), (count, k, k)), P], axis=2)
    Q = np.linalg.qr(G.transpose(0, 2, 1))[0]
    return (Q @ Q.transpose(0, 2, 1)).astype(np.float32)


class Network(nn.Module):
    """What all of them share: the groups they know, and how a matrix becomes an input.

    Args:
        recipe: its network, width, blocks, dropout.
        groups: (n, k, m) that it is trained on and answers for.
    """

    sizes: Tensor
    scale: Tensor

    def __init__(self, recipe: RawRecipe, groups: tuple[Group, ...]) -> None:
        super().__init__()
        self.recipe, self.groups = recipe, groups
        self.rows, self.columns = max(k for _, k, _ in groups), max(n - k for n, k, _ in groups)
        self.register_buffer("sizes", torch.tensor(groups, dtype=torch.float32))
        self.register_buffer("scale", torch.ones(()))

    def read(self, P: NDArray[np.float64]) -> NDArray[np.float32]:
        """Inputs of the codes of one group: (B, k, r) -> (B, rows, columns)."""
        return padded(P, self.rows, self.columns)

    def start(self, P: list[NDArray[np.float64]], log2_h: list[NDArray[np.float64]]) -> None:
        """Fix what is taken from the training set, given by group: the scale of entries, the level of the answers."""
        entries = np.concatenate([matrices.reshape(-1) for matrices in P])
        self.scale.fill_(float(entries.std()) or 1.0)

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
        return super().load_state_dict(renamed(state_dict), *arguments, **options)

    def seed_dropout(self, seed: int, device: str = "cpu") -> None:
        """Fix all that dropout will draw from here on."""
        stream = torch.Generator(device).manual_seed(seed)
        for module in self.modules():
            if isinstance(module, Dropout):
                module.stream = stream

    def gates(self) -> Tensor | None:
        """Share of the high-capacity pathway for each group, where there is one."""
        return None


class Dropout(nn.Dropout):
    """Dropout by a random stream of its own, see `Network.seed_dropout`: networks may train in threads side by side."""

    stream: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        return x * torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.stream).div_(1.0 - self.p)


class Trunk(nn.Module):
    """Run 1 behind its attention: a dense layer, residual blocks of two, softplus. (B, features) -> (B,)."""

    def __init__(self, features: int, recipe: RawRecipe) -> None:
        super().__init__()
        width = recipe.width
        self.input_layer = nn.Linear(features, width)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(recipe.blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(recipe.blocks))
        self.drop = Dropout(recipe.dropout)
        self.output_layer = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(torch.relu(self.input_layer(x)))
        for first, second in zip(self.first, self.second, strict=True):
            x = x + self.drop(torch.relu(second(self.drop(torch.relu(first(x))))))
        return nn.functional.softplus(self.output_layer(x)[:, 0])


class Attention(nn.Module):
    """Self-attention over the entries of P, of any head size: (B, T, features) -> (B, T, features)."""

    def __init__(self, features: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.query_key_value = nn.Linear(features, 3 * heads * size)
        self.output_projection = nn.Linear(heads * size, features)

    def forward(self, x: Tensor) -> Tensor:
        batch, entries, _ = x.shape
        split = self.query_key_value(x).view(batch, entries, 3, self.heads, self.size)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # (B, H, T, size)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.output_projection(y.transpose(1, 2).reshape(batch, entries, -1))


class Run1(Network):
    """Run 1: 8-head attention over the entries of P, (k, m) embeddings, residual blocks, softplus.

    At width 1024, blocks 4: embeddings of 32, heads of 64, 10.6 million parameters for the nine groups (run 1: 10.9
    million); other widths scale everything.
    """

    which: Tensor

    def __init__(self, recipe: RawRecipe, groups: tuple[Group, ...]) -> None:
        super().__init__(recipe, groups)
        self.features, small = max(2, recipe.width // 16), max(2, recipe.width // 32)
        self.entry_embedding = nn.Linear(1, self.features)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(self.rows * self.columns, self.features))
        self.pathway = Attention(self.features, HEADS, self.features)
        ks, ms = sorted({k for _, k, _ in groups}), sorted({m for *_, m in groups})
        self.register_buffer("which", torch.tensor([[ks.index(k), ms.index(m)] for _, k, m in groups]))
        self.k_embedding, self.m_embedding = nn.Embedding(len(ks), small), nn.Embedding(len(ms), small)
        self.trunk = Trunk(self.rows * self.columns * self.features + 2 * small + 1, recipe)

    def start(self, P: list[NDArray[np.float64]], log2_h: list[NDArray[np.float64]]) -> None:
        super().start(P, log2_h)
        level = float(np.concatenate(log2_h).mean())
        self.trunk.output_layer.bias.data.fill_(level)  # softplus hardly changes what is well above 0

    def embedded(self, group: Tensor) -> Tensor:
        k, m = self.which[group].T
        return torch.cat([self.k_embedding(k), self.m_embedding(m)], dim=1)

    def attended(self, x: Tensor, group: Tensor) -> Tensor:
        return self.pathway(x)

    def forward(self, codes: Codes) -> Tensor:
        x = (codes.x / self.scale).flatten(1)[:, :, None]  # (B, T, 1)
        x = self.attended(self.entry_embedding(x) + self.position_embedding, codes.group).flatten(1)
        n = self.sizes[codes.group, :1] / 10.0
        return self.trunk(torch.cat([n, self.embedded(codes.group), x], dim=1))


class Gated(Run1):
    """The analysis of run 1 proposes it, as second priority: a standard and a high-capacity pathway, mixed by a gate.

    The gate starts at FIXED_GATE of the group's tier; what it learns from the (k, m) embeddings is added to its logit.
    """

    fixed: Tensor

    def __init__(self, recipe: RawRecipe, groups: tuple[Group, ...]) -> None:
        super().__init__(recipe, groups)
        self.capable = Attention(self.features, 2 * HEADS, 2 * self.features)
        self.gate = nn.Linear(2 * self.k_embedding.embedding_dim, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        fixed = torch.tensor([FIXED_GATE[tier_of(*group)] for group in groups])
        self.register_buffer("fixed", torch.log(fixed / (1.0 - fixed)))

    def share(self, group: Tensor) -> Tensor:
        # what the gate learns, it learns from the embeddings as they are
        return torch.sigmoid(self.fixed[group] + self.gate(self.embedded(group).detach())[:, 0])

    def gates(self) -> Tensor:
        return self.share(torch.arange(len(self.groups), device=self.fixed.device))

    def attended(self, x: Tensor, group: Tensor) -> Tensor:
        g = self.share(group)[:, None, None]
        return (1.0 - g) * self.pathway(x) + g * self.capable(x)


class Messages(nn.Module):
    """A round between the n^2 pairs of coordinates: even features, which no sign moves, and odd ones, which turn with
    the signs of both coordinates. Sums of products over a third coordinate let pairs know of triangles.

    Shapes: even (B, N, N, width), odd (B, N, N, width / 2), both in and out.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        half = max(1, width // 2)
        self.norm = nn.LayerNorm(width)
        self.of_even = nn.Linear(width, 2 * half)
        self.of_odd = nn.Linear(half, 4 * half, bias=False)
        self.widen = nn.Linear(3 * width + 3 * half, 2 * width)
        self.drop = Dropout(dropout)
        self.narrow = nn.Linear(2 * width, width)
        self.gate = nn.Linear(width, 2 * half)
        self.mix = nn.Linear(2 * half, half, bias=False)

    def forward(self, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
        n = even.shape[1]
        y = self.norm(even)
        a, b = self.of_even(y).permute(0, 3, 1, 2).chunk(2, dim=1)
        c, d, e, f = self.of_odd(odd).chunk(4, dim=3)
        even_even = (a @ b / n).permute(0, 2, 3, 1)
        odd_odd = (c.permute(0, 3, 1, 2) @ d.permute(0, 3, 1, 2) / n**0.5).permute(0, 2, 3, 1)
        means, largest = y.mean(2, keepdim=True).expand_as(y), y.amax(2, keepdim=True).expand_as(y)
        context = torch.cat([y, means, largest, even_even, e * f, odd_odd.abs()], dim=3)
        even = even + self.narrow(self.drop(nn.functional.silu(self.widen(context))))
        odd = odd + self.mix(torch.cat([odd, odd_odd], dim=3) * self.gate(self.norm(even)))
        return even, odd


class Symmetric(Network):
    """Coordinates as a set: pairs of them, described by the projector onto the code, talk and are pooled.

    The projector's off-diagonal entries over the lengths that the code and its dual leave the two unit vectors are the
    odd inputs; their sizes, and the diagonal, the even ones. Only even features are pooled. One length n at a time.
    """

    def __init__(self, recipe: RawRecipe, groups: tuple[Group, ...]) -> None:
        super().__init__(recipe, groups)
        width = recipe.width
        self.level = nn.Parameter(torch.zeros(len(groups)))
        self.group_embedding = nn.Embedding(len(groups), width)
        self.even, self.odd = nn.Linear(6, width), nn.Linear(2, max(1, width // 2), bias=False)
        self.rounds = nn.ModuleList(Messages(width, recipe.dropout) for _ in range(recipe.blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(7 * width, 128), nn.SiLU(), Dropout(recipe.dropout), nn.Linear(128, 1))

    def read(self, P: NDArray[np.float64]) -> NDArray[np.float32]:
        return projectors(P)

    def start(self, P: list[NDArray[np.float64]], log2_h: list[NDArray[np.float64]]) -> None:
        self.level.data.copy_(torch.tensor([values.mean() if len(values) else 0.0 for values in log2_h]))

    def forward(self, codes: Codes) -> Tensor:
        x, n = codes.x, codes.x.shape[1]
        diagonal = torch.diagonal(x, dim1=1, dim2=2).clamp(1e-6, 1.0 - 1e-6)  # of each coordinate, (B, N)
        here = torch.eye(n, device=x.device)
        within = x * (1.0 - here) / (diagonal[:, :, None] * diagonal[:, None, :]).sqrt()
        dual = x * (1.0 - here) / ((1.0 - diagonal)[:, :, None] * (1.0 - diagonal)[:, None, :]).sqrt()
        odd = self.odd(torch.stack([within, dual], dim=3))
        sizes = [within.abs(), dual.abs(), torch.log(within.abs() + 1e-4) / 4.0, torch.log(dual.abs() + 1e-4) / 4.0]
        logit = (torch.log(diagonal / (1.0 - diagonal)) / 4.0)[:, :, None].expand_as(x)
        about = self.group_embedding(codes.group)
        even = self.even(torch.stack([*sizes, logit, here.expand_as(x)], dim=3)) + about[:, None, None]
        for messages in self.rounds:
            even, odd = messages(even, odd)
        pairs = self.norm(even)
        single, pairs = torch.diagonal(pairs, dim1=1, dim2=2), pairs.flatten(1, 2)
        pooled = [pairs.mean(1), pairs.amax(1), torch.logsumexp(2.0 * pairs, 1)]
        pooled += [single.mean(2), single.amax(2), single.amin(2), about]
        return nn.functional.softplus(self.head(torch.cat(pooled, dim=1))[:, 0] + self.level[codes.group])


NETWORKS: dict[str, Any] = {"run1": Run1, "gated": Gated, "symmetric": Symmetric}


def build(recipe: RawRecipe, groups: tuple[Group, ...]) -> Network:
    """The recipe's network, with fresh weights from torch's random stream."""
    network: Network = NETWORKS[recipe.network](recipe, groups)
    return network
