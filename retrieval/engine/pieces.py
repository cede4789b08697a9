"""The reference network's layers over a large slide, piece by piece: bounded memory.

The same sums as in `aggregator`, in another order: results agree to rounding. A slide of N
patches and width D takes about six arrays of N x D; the layers as they are hold 8 heads of N x
D / 2 several times over, about 45 such arrays. At 100,000 patches and width 768 that is 1.9 GB,
with the bag itself in float32, in place of some 13. For inference on one slide only; gradients
would keep every piece.
"""

from typing import Any

import torch
from torch import nn

# Rows that are worked on at one time, and the size from which slides are taken in pieces.
ROWS = 8192
# Channels of the position convolutions at one time.
CHANNELS = 64


def in_pieces(module: nn.Module, x: torch.Tensor) -> bool:
    """Return whether this input (B, N, D) is one large slide, and nobody wants gradients."""
    return len(x) == 1 and x.shape[1] > ROWS and not module.training and not torch.is_grad_enabled()


def _rows(count: int) -> list[slice]:
    return [slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS)]


def nystrom_layer(norm: nn.Module, attention: Any, x: torch.Tensor) -> torch.Tensor:
    """Return x + attention(norm(x)) for x (1, N, D); one head at a time.

    Parameters
    ----------
    attention : NystromAttention
        Of the package nystrom-attention, in eval mode; its weights are used, and its
        pseudo-inverse, which starts from a maximum over all heads.
    """
    from nystrom_attention.nystrom_attention import moore_penrose_iter_pinv

    tokens, width = x[0], x.shape[2]
    count, landmarks, heads = len(tokens), attention.num_landmarks, attention.heads
    missing = -count % landmarks
    weights = attention.to_qkv.weight.view(3, heads, -1, width)
    size = weights.shape[2]
    normed = torch.empty_like(tokens)
    for rows in _rows(count):
        normed[rows] = norm(tokens[rows])

    def of_head(part: int, head: int) -> torch.Tensor:
        # Zeros in front, as the package pads: without a bias they stay zeros.
        padded = normed.new_zeros(missing + count, size)
        torch.mm(normed, weights[part, head].T, out=padded[missing:])
        return padded.mul_(attention.scale) if part == 0 else padded

    def means(values: torch.Tensor) -> torch.Tensor:
        return values.view(landmarks, -1, size).mean(1)

    queries = torch.stack([means(of_head(0, head)) for head in range(heads)])
    keys = torch.stack([means(of_head(1, head)) for head in range(heads)])
    between = (queries @ keys.transpose(1, 2)).softmax(-1)
    inverse = moore_penrose_iter_pinv(between[None], attention.pinv_iterations)[0]

    joined = torch.empty(count, heads * size, dtype=x.dtype, device=x.device)
    for head in range(heads):
        values = of_head(2, head)
        seen = (queries[head] @ of_head(1, head).T).softmax(-1) @ values
        middle = inverse[head] @ seen
        query = of_head(0, head)[missing:]
        own = joined[:, head * size : (head + 1) * size]
        for rows in _rows(count):
            own[rows] = (query[rows] @ keys[head].T).softmax(-1) @ middle
        residual = attention.res_conv
        own += nn.functional.conv2d(
            values[None, None], residual.weight[head : head + 1], padding=residual.padding
        )[0, 0, missing:]
    out = normed  # no longer needed: its memory takes the result
    for rows in _rows(count):
        out[rows] = tokens[rows] + attention.to_out(joined[rows])
    return out[None]


def pyramid_positions(convolutions: list[nn.Conv2d], x: torch.Tensor, side: int) -> torch.Tensor:
    """Return x (1, 1 + side^2, D) with depth-wise convolutions of its square added."""
    out = x.clone()
    for start in range(0, x.shape[2], CHANNELS):
        own = slice(start, min(start + CHANNELS, x.shape[2]))
        square = x[:, 1:, own].transpose(1, 2).reshape(1, -1, side, side)
        for layer in convolutions:
            assert layer.bias is not None
            weight, bias = layer.weight[own], layer.bias[own]
            added = nn.functional.conv2d(
                square, weight, bias, padding=layer.padding, groups=len(weight)
            )
            out[:, 1:, own] += added.flatten(2).transpose(1, 2)
    return out


def reduced(reduce: nn.Module, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return relu(norm(reduce(x))) of x (1, N, D)."""
    out = torch.empty_like(x)
    for rows in _rows(x.shape[1]):
        out[0, rows] = torch.relu(norm(reduce(x[0, rows])))
    return out


def gated_scores(
    tanh: nn.Module, gate: nn.Module, score: nn.Module, x: torch.Tensor
) -> torch.Tensor:
    """Return the gated attention's scores (1, N), before the softmax, of x (1, N, D)."""
    scores = [
        score(torch.tanh(tanh(x[:, rows])) * torch.sigmoid(gate(x[:, rows])))
        for rows in _rows(x.shape[1])
    ]
    return torch.cat(scores, dim=1).squeeze(-1)
