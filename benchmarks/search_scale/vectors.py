"""Slides of an archive as vectors, made again from their number: nothing has to be kept.

The statistics are those of real slides: HIPT features of 4,379 TCGA slides (192 dimensions),
centred and L2-normalised as the site does it. Measured there: 53 % of the energy of tokens in 16
axes, 74 % in 32, 91 % in 64, 99 % in 128; the nearest token of another slide at a cosine of 0.91
(median), two random ones at -0.02 (5th to 95th percentile: -0.23 to 0.30); the nearest slide
vector at 0.80, the tenth at 0.60. `python -m benchmarks.search_scale --statistics` prints the
same figures of what is made here. The 192 axes are turned into 768 dimensions, and 2 % of the
energy is noise in all of them.
"""

from dataclasses import dataclass

import numpy as np

from retrieval.engine.mosaic import normalised

DIMENSION, TOKENS, LATENT = 768, 16, 192
DIAGNOSES = 300
# Kinds of tissue that slides are made of; each diagnosis has some of its own.
TISSUES, TISSUES_OF_DIAGNOSIS = 3000, 12
CHUNK = 2000
# One slide in fifty has a focus: one token of a rare kind, a sixteenth of a small share.
FOCI, FOCUS_EVERY, FOCUS_SHARE = 400, 50, 0.02


def spectrum() -> np.ndarray:
    """Return the share of energy float32 (192,) of each axis, as measured (interpolated)."""
    axes = np.array([1, 2, 4, 8, 16, 32, 64, 128, 192])
    energy = np.array([0.045, 0.0369, 0.0323, 0.0259, 0.0184, 0.0096, 0.0027, 0.00046, 1e-5])
    at = np.arange(1, LATENT + 1)
    values = np.exp(np.interp(np.log(at), np.log(axes), np.log(energy)))
    return (values / values.sum()).astype(np.float32)


@dataclass(frozen=True)
class Slides:
    """Slides `numbers`: their tokens, what these stand for, and the slide vectors.

    tokens: float32 (n, 16, 768), L2-normalised; shares: float32 (n, 16), summing to 1;
    vectors: float32 (n, 768); diagnoses: int (n,).
    """

    tokens: np.ndarray
    shares: np.ndarray
    vectors: np.ndarray
    diagnoses: np.ndarray


class World:
    """The kinds of tissue, the same for every size of archive."""

    def __init__(self, seed: int = 7) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        self.scale = np.sqrt(spectrum())
        turned, _ = np.linalg.qr(rng.standard_normal((DIMENSION, LATENT)))
        self.axes = turned.T.astype(np.float32)
        self.tissues = self._points(rng, TISSUES)
        self.foci = self._points(rng, FOCI)
        # What all tissue of a diagnosis has in common: hospital, organ, preparation.
        self.shared = self._points(rng, DIAGNOSES)
        self.of_diagnosis = rng.integers(0, TISSUES, (DIAGNOSES, TISSUES_OF_DIAGNOSIS))

    def _points(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return (rng.standard_normal((count, LATENT)) * self.scale).astype(np.float32)

    def diagnoses(self, first: int, count: int) -> np.ndarray:
        """Return the diagnosis of these slides: some are common, most are rare."""
        rng = np.random.default_rng([self.seed, 1, first])
        weights = 1 / np.arange(1, DIAGNOSES + 1) ** 0.8
        return rng.choice(DIAGNOSES, count, p=weights / weights.sum())

    def chunk(self, number: int) -> Slides:
        """Return the slides of a chunk, `CHUNK` of them."""
        first = number * CHUNK
        rng = np.random.default_rng([self.seed, 2, number])
        diagnoses = self.diagnoses(first, CHUNK)
        kinds = self.of_diagnosis[
            diagnoses[:, None], rng.integers(0, TISSUES_OF_DIAGNOSIS, (CHUNK, TOKENS))
        ]
        # A third of the tokens are of any kind: stroma, fat, blood.
        common = rng.random((CHUNK, TOKENS)) < 0.33
        kinds[common] = rng.integers(0, 150, int(common.sum()))
        points = self.tissues[kinds]
        shares = rng.dirichlet(np.full(TOKENS, 1.2), CHUNK).astype(np.float32)
        focus = np.flatnonzero((first + np.arange(CHUNK)) % FOCUS_EVERY == 0)
        which = rng.integers(0, FOCI, len(focus))
        points[focus, -1] = self.foci[which]
        shares[focus] *= (1 - FOCUS_SHARE) / shares[focus, :-1].sum(1, keepdims=True)
        shares[focus, -1] = FOCUS_SHARE
        # Staining and scanner of the slide, then each token's own.
        slide = rng.standard_normal((CHUNK, 1, LATENT), dtype=np.float32) * self.scale
        own = rng.standard_normal((CHUNK, TOKENS, LATENT), dtype=np.float32) * self.scale
        latent = points + 0.75 * self.shared[diagnoses][:, None] + 0.3 * slide + 0.35 * own
        flat = latent.reshape(-1, LATENT) @ self.axes
        noise = rng.standard_normal(flat.shape, dtype=np.float32)
        flat += noise * (0.14 * np.linalg.norm(flat, axis=1, keepdims=True) / np.sqrt(DIMENSION))
        tokens = normalised(flat).reshape(CHUNK, TOKENS, DIMENSION)
        vectors = normalised(np.einsum("nt,ntd->nd", shares, tokens))
        return Slides(tokens, shares, vectors, diagnoses)


def statistics(world: World) -> dict[str, float]:
    """Return what was measured on real slides, for two chunks of these."""
    slides = [world.chunk(0), world.chunk(1)]
    tokens = np.concatenate([s.tokens for s in slides]).reshape(-1, DIMENSION)
    energy = np.linalg.eigvalsh(tokens.T @ tokens / len(tokens))[::-1]
    held = np.cumsum(energy) / energy.sum()
    asking = np.arange(0, len(tokens), TOKENS * 8)
    cosines = tokens[asking] @ tokens.T
    own = np.arange(len(tokens)) // TOKENS == asking[:, None] // TOKENS
    between = cosines[~own]
    cosines[own] = -1
    vectors = np.concatenate([s.vectors for s in slides])
    near = vectors @ vectors.T
    np.fill_diagonal(near, -1)
    near.sort(1)
    return {
        **{f"energy of tokens in {k} axes": float(held[k - 1]) for k in (16, 32, 64, 128)},
        "nearest token of another slide": float(np.median(cosines.max(1))),
        "any two tokens, 5th percentile": float(np.percentile(between, 5)),
        "any two tokens, 95th percentile": float(np.percentile(between, 95)),
        "nearest slide vector": float(np.median(near[:, -1])),
        "tenth slide vector": float(np.median(near[:, -10])),
    }
