"""Mosaic tokens in few bytes, and the cells by which slides with such tissue are found.

Transform coding (Goyal, "Theoretical foundations of transform coding", IEEE Signal Processing
Magazine 18(5), 2001): tokens are turned to the principal axes of the model's own tokens, the
first coordinates are kept with 8 bits, the next with 4, the rest are dropped. The axes are
orthonormal, so that a cosine with a coded token is a product of short vectors.

A token unlike the sample loses more than others: rare tissue, just what is looked for. So
`fidelity` says what is left of it, and whoever stores tokens keeps such ones as they are.

Cells: an inverted multi-index (Babenko and Lempitsky, CVPR 2012). The leading coordinates are
split into two halves, each half is assigned to the nearest of up to 256 centroids, and the pair
is the cell. Tokens of one cell are alike; a slide is found by the cells of its tokens. NumPy only.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

# 16 tokens of this size are one chunk of Postgres' TOAST (1,996 bytes), which is read at once.
TOKEN_BYTES = 120
# Tokens that keep less than this cosine with themselves are not coded. Of the sample, this share
# has to be coded, or tokens get more bytes.
FIDELITY = 0.95
_CODED_SHARE = 0.999
# Half of the range of an 8-bit coordinate, in standard deviations.
_RANGE_8 = 6.0
# The best step of a uniform 4-bit quantiser for a Gaussian of deviation 1, and the error that it
# leaves, as a share of the variance (Max, "Quantizing for minimum distortion", IRE 1960).
_STEP_4, _ERROR_4 = 0.3352, 0.01154
_ERROR_8 = (2 * _RANGE_8 / 255) ** 2 / 12
_CELL_COORDINATES = 32
_CENTROIDS = 256
_ITERATIONS = 20


@dataclass(frozen=True)
class Probe:
    """The cells nearest to one query token, and what finding one of them counts."""

    cells: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class TokenCodec:
    """How the tokens of one embedding model are written, and how they fall into cells.

    Attributes
    ----------
    basis : float32 (K, D)
        Orthonormal rows: the leading principal axes of tokens.
    steps : float32 (K,)
        Width of one quantisation step of each coordinate.
    wide : int
        The first `wide` coordinates have 8 bits, the other ones 4.
    centroids : float32 (2, C, H)
        Of the two halves of the leading coordinates, which alternate: even ones, odd ones.
    frequency : float32 (C * C,)
        Share of the tokens that fall into each cell, as estimated from the sample.
    """

    basis: Floats
    steps: Floats
    wide: int
    centroids: Floats
    frequency: Floats

    @property
    def token_bytes(self) -> int:
        """Return the bytes of one coded token."""
        return self.wide + (len(self.steps) - self.wide) // 2

    @cached_property
    def sha256(self) -> str:
        """Return the digest of the codec as it is stored."""
        return sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the codec as safetensors."""
        return save(
            {
                "basis": self.basis,
                "steps": self.steps,
                "wide": np.array([self.wide], np.int64),
                "centroids": self.centroids,
                "frequency": self.frequency,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "TokenCodec":
        """Return the codec of `to_bytes`. Raises ValueError for anything else."""
        try:
            parts = load(bytes(data))
            return cls(
                parts["basis"],
                parts["steps"],
                int(parts["wide"][0]),
                parts["centroids"],
                parts["frequency"],
            )
        except Exception as error:  # safetensors raises types of its own
            raise ValueError("not a token codec") from error

    def project(self, tokens: Floats) -> Floats:
        """Return the coordinates float32 (M, K) of tokens (M, D)."""
        return np.asarray(tokens, np.float32) @ self.basis.T

    def restore(self, coordinates: Floats) -> Floats:
        """Return float32 (M, D) of coordinates (M, K); what was dropped is zero."""
        return coordinates @ self.basis

    def encode(self, tokens: Floats) -> bytes:
        """Return tokens float32 (M, D) in M * `token_bytes` bytes."""
        scaled = self.project(tokens) / self.steps
        wide = np.clip(np.rint(scaled[:, : self.wide]), -127, 127).astype(np.int8).view(np.uint8)
        narrow = np.clip(np.floor(scaled[:, self.wide :]), -8, 7).astype(np.int8)
        pairs = (narrow + 8).astype(np.uint8).reshape(len(scaled), -1, 2)
        packed = pairs[:, :, 0] | (pairs[:, :, 1] << 4)
        return np.concatenate([wide, packed], axis=1).tobytes()

    def decode(self, data: bytes) -> Floats:
        """Return the coordinates float32 (M, K) of coded tokens, of length 1 as tokens are.

        Raises ValueError when `data` is no whole number of tokens.
        """
        rows = np.frombuffer(data, np.uint8)
        if not len(rows) or len(rows) % self.token_bytes:
            raise ValueError(f"{len(rows)} bytes are no tokens of {self.token_bytes} bytes")
        rows = rows.reshape(-1, self.token_bytes)
        coordinates = np.empty((len(rows), len(self.steps)), np.float32)
        coordinates[:, : self.wide] = rows[:, : self.wide].view(np.int8)
        packed = rows[:, self.wide :]
        # A step stands for its middle.
        coordinates[:, self.wide :: 2] = (packed & 15).astype(np.float32) - 7.5
        coordinates[:, self.wide + 1 :: 2] = (packed >> 4).astype(np.float32) - 7.5
        coordinates *= self.steps
        lengths = np.sqrt(np.einsum("ij,ij->i", coordinates, coordinates))
        coordinates /= np.maximum(lengths, 1e-6)[:, None]  # in place: this runs in each search
        return coordinates

    def fidelity(self, tokens: Floats) -> Floats:
        """Return the cosine float32 (M,) of each L2-normalised token (M, D) with its coded form."""
        coded = self.decode(self.encode(tokens))
        return np.asarray((self.project(tokens) * coded).sum(1), np.float32)

    def cells(self, tokens: Floats) -> Ints:
        """Return the cell int32 (M,) of each token (M, D)."""
        first, second = self._distances(tokens)
        return (first.argmin(1) * self.centroids.shape[1] + second.argmin(1)).astype(np.int32)

    def probes(self, tokens: Floats, shares: Floats, *, expected: float) -> list[Probe]:
        """Return for each query token the nearest cells, at most so many that they stay few.

        Parameters
        ----------
        tokens : float32 (M, D)
        shares : float32 (M,)
            Share of the tissue of each token.
        expected : float
            Largest share of all tokens that the probed cells may hold together. It is dealt out
            evenly over the query's tokens; one whose own nearest cell holds more is left out:
            such tissue is on every slide and finds none.

        Returns
        -------
        list of Probe
            The weight is the information of the find, -log of the share of tokens in the probed
            cells, times the square root of the token's share: a small focus of rare tissue
            counts beside much common tissue.
        """
        first, second = self._distances(tokens)
        count = self.centroids.shape[1]
        near = min(16, count)
        found = []
        for token in range(len(tokens)):
            a = np.argsort(first[token], kind="stable")[:near]
            b = np.argsort(second[token], kind="stable")[:near]
            far = (first[token][a][:, None] + second[token][b][None, :]).ravel()
            cells = (a[:, None] * count + b[None, :]).ravel()[np.argsort(far, kind="stable")]
            held = np.cumsum(self.frequency[cells])
            fitting = int((held <= expected / len(tokens)).sum())
            if fitting:
                weight = float(-np.log(held[fitting - 1]) * np.sqrt(max(float(shares[token]), 0)))
                found.append(Probe(tuple(int(cell) for cell in cells[:fitting]), weight))
        return found

    def _distances(self, tokens: Floats) -> tuple[Floats, Floats]:
        halves = _halves(self.project(tokens), self.centroids.shape[2])
        first, second = (
            (centroids**2).sum(1)[None, :] - 2 * half @ centroids.T
            for half, centroids in zip(halves, self.centroids, strict=True)
        )
        return first, second


def _halves(coordinates: Floats, width: int) -> tuple[Floats, Floats]:
    return coordinates[:, 0 : 2 * width : 2], coordinates[:, 1 : 2 * width : 2]


def _layout(variance: Floats, budget: int) -> tuple[int, int]:
    """Return how many coordinates have 8 bits and how many 4, for the least error of cosines.

    What an error in a coordinate does to a cosine with another token grows with that token's
    coordinate: its share of the variance counts twice.
    """
    width = len(variance) - len(variance) % 2
    total = np.concatenate([[0.0], np.cumsum(variance.astype(np.float64) ** 2)])
    best = (np.inf, 0, 0)
    for wide in range(0, min(budget, width) + 1, 2):
        narrow = min(2 * (budget - wide), width - wide)
        kept, all_kept = total[wide], total[wide + narrow]
        error = _ERROR_8 * kept + _ERROR_4 * (all_kept - kept) + total[-1] - all_kept
        best = min(best, (error, wide, narrow))
    return best[1], best[2]


def _k_means(points: Floats, count: int, generator: np.random.Generator) -> Floats:
    centres = points[generator.choice(len(points), count, replace=False)].copy()
    for _ in range(_ITERATIONS):
        nearest = ((centres**2).sum(1)[None, :] - 2 * points @ centres.T).argmin(1)
        sizes = np.bincount(nearest, minlength=count)
        sums = np.zeros_like(centres, dtype=np.float64)
        np.add.at(sums, nearest, points)
        filled = sizes > 0
        centres[filled] = (sums[filled] / sizes[filled, None]).astype(np.float32)
        empty = int((~filled).sum())
        if empty:
            centres[~filled] = points[generator.choice(len(points), empty, replace=False)]
    return centres


def fit_token_codec(tokens: Floats, *, token_bytes: int = TOKEN_BYTES, seed: int = 0) -> TokenCodec:
    """Fit axes, steps and cells to a sample of tokens.

    Parameters
    ----------
    tokens : float32 (N, D)
        L2-normalised mosaic tokens of many slides, N >= 64 and D >= 4.
    token_bytes : int
        Bytes of a coded token; a narrow model needs fewer. Doubled, up to a byte for each
        dimension, until nearly all tokens of the sample keep `FIDELITY`.

    Raises
    ------
    ValueError
        When the sample is too small or not finite.
    """
    tokens = np.asarray(tokens, np.float32)
    if tokens.ndim != 2 or len(tokens) < 64 or tokens.shape[1] < 4:
        raise ValueError("a codec is fitted to at least 64 tokens of at least 4 dimensions")
    if not np.isfinite(tokens).all():
        raise ValueError("tokens are not finite")
    # Not centred: what is kept of a token is then a projection, and cosines stay products.
    moments, axes = np.linalg.eigh((tokens.T @ tokens).astype(np.float64) / len(tokens))
    variance = np.maximum(moments[::-1], 1e-12).astype(np.float32)
    axes = np.ascontiguousarray(axes[:, ::-1].T, dtype=np.float32)
    codec = _coder(axes, variance, token_bytes)
    while np.mean(codec.fidelity(tokens) >= FIDELITY) < _CODED_SHARE:
        if token_bytes >= tokens.shape[1]:
            break
        token_bytes = min(2 * token_bytes, tokens.shape[1])
        codec = _coder(axes, variance, token_bytes)
    return _with_cells(codec, tokens, np.random.default_rng(seed))


def _coder(axes: Floats, variance: Floats, budget: int) -> TokenCodec:
    wide, narrow = _layout(variance, budget)
    step = np.where(np.arange(wide + narrow) < wide, _RANGE_8 / 127, _STEP_4)
    steps = (np.sqrt(variance[: wide + narrow]) * step).astype(np.float32)
    none = np.zeros(0, np.float32)
    return TokenCodec(axes[: wide + narrow].copy(), steps, wide, none.reshape(2, 0, 0), none)


def _with_cells(codec: TokenCodec, tokens: Floats, generator: np.random.Generator) -> TokenCodec:
    coordinates = codec.project(tokens)
    width = min(_CELL_COORDINATES, coordinates.shape[1]) // 2
    count = int(min(_CENTROIDS, max(2, len(tokens) // 16)))
    halves = _halves(coordinates, width)
    centroids = np.stack([_k_means(half, count, generator) for half in halves])
    codec = replace(codec, centroids=centroids.astype(np.float32))
    sizes = np.bincount(codec.cells(tokens), minlength=count * count).astype(np.float64)
    # Half a token more for each: an empty cell of the sample is not empty in the archive.
    frequency = (sizes + 0.5) / (len(tokens) + 0.5 * count * count)
    return replace(codec, frequency=frequency.astype(np.float32))
