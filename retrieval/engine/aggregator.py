"""The reference network: a bag of patch features becomes mosaic tokens and one slide embedding.

Architecture after "Accurate and Scalable Multimodal Pathology Retrieval via Attentive
Vision-Language Alignment", arXiv 2510.23224, written from its description. It is kept as it is
described, with its weaknesses, so that its released weights give its own outputs; the default
model is in `retrieval.engine.aligner`. Large slides go through it in pieces: see
`retrieval.engine.pieces`. Imports torch.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from retrieval.engine import pieces
from retrieval.engine.errors import ModelMissing

_NYSTROM_REMEDY = "Install it: pip install nystrom-attention einops"


@dataclass(frozen=True)
class ReferenceConfig:
    """Dimensions of the reference network.

    Attributes
    ----------
    input_dim, dim : int
        Width of a patch feature, and of everything after the first layer; `dim` is a
        multiple of `heads`.
    token_count : int
        Mosaic tokens, one for each gated-attention head.
    heads : int
        Of each Nystrom layer; landmarks are `dim` / 2.
    hidden : int
        Width inside a gated attention.
    dropout : float
        After each Nystrom layer; acts in training only.
    pinv_iterations, residual_kernel : int
        Steps of the pseudo-inverse, and width of the convolution over the values.
    """

    input_dim: int = 768
    dim: int = 768
    token_count: int = 16
    heads: int = 8
    hidden: int = 128
    dropout: float = 0.1
    pinv_iterations: int = 6
    residual_kernel: int = 33

    def __post_init__(self) -> None:
        if min(self.input_dim, self.dim, self.token_count, self.heads, self.hidden) < 1:
            raise ValueError("every dimension must be at least 1")
        if self.dim % self.heads or self.dim < 2:
            raise ValueError(f"dim {self.dim} is no multiple of the {self.heads} heads")


@dataclass(frozen=True)
class Aggregated:
    """What the network makes of B slides.

    Attributes
    ----------
    tokens : float (B, M, D)
        L2-normalised mosaic tokens.
    embedding : float (B, D)
        L2-normalised slide embedding.
    attention : float (B, M, N)
        Share of each patch in each token; a row sums to 1.
    token_attention : float (B, M)
        Share of each token in the embedding.
    """

    tokens: torch.Tensor
    embedding: torch.Tensor
    attention: torch.Tensor
    token_attention: torch.Tensor


def _nystrom_attention(config: ReferenceConfig) -> nn.Module:
    try:
        from nystrom_attention import NystromAttention
    except ImportError as error:
        raise ModelMissing(
            "The reference network needs the package nystrom-attention "
            f"({error.name} is missing). {_NYSTROM_REMEDY}"
        ) from error
    return NystromAttention(
        dim=config.dim,
        dim_head=config.dim // config.heads,
        heads=config.heads,
        num_landmarks=config.dim // 2,
        pinv_iterations=config.pinv_iterations,
        residual=True,
        residual_conv_kernel=config.residual_kernel,
        dropout=config.dropout,
    )


class NystromLayer(nn.Module):
    """x + attention(norm(x)) over tokens (B, T, D).

    The pseudo-inverse starts from a maximum over the whole batch: slides of one batch
    influence each other slightly. Inference therefore takes one slide at a time.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.attention = _nystrom_attention(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape."""
        if pieces.in_pieces(self, x):
            return pieces.nystrom_layer(self.norm, self.attention, x)
        return x + self.attention(self.norm(x))


class PyramidPositions(nn.Module):
    """Depth-wise convolutions of 7, 5 and 3 over the square of tokens, added to it.

    From TransMIL, Shao et al., NeurIPS 2021 (PPEG). The class token in front passes by.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv7 = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.conv5 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv3 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: torch.Tensor, side: int) -> torch.Tensor:
        """Return (B, 1 + side * side, D) of the same shape."""
        if pieces.in_pieces(self, x):
            return pieces.pyramid_positions([self.conv7, self.conv5, self.conv3], x, side)
        first, rest = x[:, :1], x[:, 1:]
        square = rest.transpose(1, 2).reshape(len(x), x.shape[2], side, side)
        square = square + self.conv7(square) + self.conv5(square) + self.conv3(square)
        return torch.cat([first, square.flatten(2).transpose(1, 2)], dim=1)


class GatedAttention(nn.Module):
    """Softmax over the items of w(tanh(V x) * sigmoid(U x)).

    Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.tanh = nn.Linear(dim, hidden)
        self.gate = nn.Linear(dim, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return shares (B, N) of the items (B, N, D)."""
        if pieces.in_pieces(self, x):
            return pieces.gated_scores(self.tanh, self.gate, self.score, x).softmax(dim=1)
        hidden = torch.tanh(self.tanh(x)) * torch.sigmoid(self.gate(x))
        return self.score(hidden).squeeze(-1).softmax(dim=1)


class MosaicPool(nn.Module):
    """One token for each gated attention, and one more that pools the tokens."""

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        self.reduce = nn.Linear(config.dim, config.dim, bias=False)
        self.norm = nn.BatchNorm1d(config.dim)
        self.heads = nn.ModuleList(
            GatedAttention(config.dim, config.hidden) for _ in range(config.token_count)
        )
        self.final = GatedAttention(config.dim, config.hidden)

    def forward(self, x: torch.Tensor) -> Aggregated:
        """Return the tokens and the embedding of items (B, N, D)."""
        if pieces.in_pieces(self, x):
            reduced = pieces.reduced(self.reduce, self.norm, x)
        else:
            reduced = self.reduce(x)
            # Every patch is one sample of the batch norm, whichever slide it is from.
            reduced = torch.relu(self.norm(reduced.flatten(0, 1)).view_as(reduced))
        attention = torch.stack([head(reduced) for head in self.heads], dim=1)
        tokens = attention @ reduced
        token_attention = self.final(tokens)
        embedding = (token_attention.unsqueeze(1) @ tokens).squeeze(1)
        return Aggregated(
            tokens=nn.functional.normalize(tokens, dim=-1),
            embedding=nn.functional.normalize(embedding, dim=-1),
            attention=attention,
            token_attention=token_attention,
        )


class ReferenceAggregator(nn.Module):
    """The visual side of the reference configuration.

    Raises
    ------
    ModelMissing
        The package nystrom-attention is not installed.
    """

    def __init__(self, config: ReferenceConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.input_dim, config.dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        nn.init.normal_(self.cls_token, std=1e-6)
        self.layer1 = NystromLayer(config)
        self.positions = PyramidPositions(config.dim)
        self.layer2 = NystromLayer(config)
        self.pool = MosaicPool(config)

    def forward(self, features: torch.Tensor) -> Aggregated:
        """Return tokens and embedding of bags of the same size.

        Parameters
        ----------
        features : float (B, N, D_in)
            N >= 1. Their order matters: it decides who is a neighbour in the square.

        Raises
        ------
        ValueError
            No patch, or another width.
        """
        if features.ndim != 3 or not features.shape[1]:
            raise ValueError(f"bags must be (B, N, D) with N >= 1, not {tuple(features.shape)}")
        if features.shape[2] != self.config.input_dim:
            raise ValueError(
                f"features have {features.shape[2]} values, the network takes "
                f"{self.config.input_dim}"
            )
        x = torch.relu(self.project(features))
        count = x.shape[1]
        side = math.isqrt(count - 1) + 1
        # Never more than `count` are missing, so that repeating the first ones is enough.
        x = torch.cat([x, x[:, : side * side - count]], dim=1)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.layer1(x)
        x = self.positions(x, side)
        x = self.layer2(x)
        return self.pool(x[:, 1 : count + 1])


class ReferenceAligner(nn.Module):
    """Both sides of the reference configuration, except the text tower itself.

    Attributes
    ----------
    visual : ReferenceAggregator
    text_projection : Linear
        From the text tower's width to `dim`.
    logit_scale : float ()
        Logarithm of the inverse temperature of the contrastive loss.
    """

    def __init__(self, config: ReferenceConfig, text_dim: int = 512) -> None:
        super().__init__()
        self.visual = ReferenceAggregator(config)
        self.text_projection = nn.Linear(text_dim, config.dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_text(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return L2-normalised (B, D) of the text tower's vectors (B, text_dim)."""
        return nn.functional.normalize(self.text_projection(vectors), dim=-1)


def token_diversity_loss(tokens: torch.Tensor) -> torch.Tensor:
    """Return the mean cosine between different tokens of a slide; tokens (B, M, D)."""
    count = tokens.shape[1]
    if count < 2:
        return tokens.new_zeros(())
    cosines = tokens @ tokens.transpose(1, 2)
    off = cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)
    return (off / (count * (count - 1))).mean()
