"""A report, or a typed query, as weighted words; and a ridge from words to the slides' space.

Words are hashed, never stored: a vocabulary learned from reports could name a patient. No
network runs, so that a text query costs microseconds on the web side.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

Floats = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class WordConfig:
    """How a text becomes numbers.

    Attributes
    ----------
    bits : int
        Words are hashed into 2 ** bits columns.
    first_words : int
        The opening of a report, where the diagnosis often stands, counts once more: its first
        words make a second block of columns. 0: no such block.
    min_reports : int
        A word in fewer reports tells of one patient, not of a disease.
    max_share : float
        A word in a larger part of the reports tells of none.
    """

    bits: int = 15
    first_words: int = 150
    min_reports: int = 3
    max_share: float = 0.7

    @property
    def columns(self) -> int:
        """Return the columns of one block."""
        return 1 << self.bits


def hashed_words(text: str, bits: int, first: int = 0) -> dict[int, int]:
    """Return how often each hashed word is there; only the first words when `first` is set."""
    words = _WORD.findall(text.lower())
    counts: dict[int, int] = {}
    for word in words[:first] if first else words:
        column = zlib.crc32(word.encode()) & ((1 << bits) - 1)
        counts[column] = counts.get(column, 0) + 1
    return counts


def _block(texts: Sequence[str], config: WordConfig, first: int) -> sparse.csr_matrix:
    starts = [0]
    columns: list[int] = []
    values: list[float] = []
    for text in texts:
        counts = hashed_words(text, config.bits, first)
        columns.extend(counts)
        values.extend(1 + np.log(count) for count in counts.values())
        starts.append(len(columns))
    shape = (len(texts), config.columns)
    return sparse.csr_matrix((values, columns, starts), shape=shape, dtype=np.float64)


@dataclass(frozen=True)
class WordWeights:
    """Inverse report frequencies of the hashed words.

    Attributes
    ----------
    config : WordConfig
    idf : float32 (blocks, 2 ** bits)
        0 for a word that does not count.
    """

    config: WordConfig
    idf: Float32Array

    def encode(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Return (n, blocks * 2 ** bits): unit rows; a text without any known word is 0."""
        blocks = []
        for idf, first in zip(self.idf, _firsts(self.config), strict=True):
            weighted = _block(texts, self.config, first) @ sparse.diags_array(idf.astype(float))
            length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
            scale = sparse.diags_array(1 / np.maximum(length, 1e-12))
            blocks.append(scale @ weighted / np.sqrt(len(self.idf)))
        return sparse.csr_matrix(sparse.hstack(blocks))


def fit_words(texts: Sequence[str], config: WordConfig) -> WordWeights:
    """Count in how many reports each word is; Sparck Jones, J. Documentation 1972."""
    idfs = []
    for first in _firsts(config):
        present = np.asarray((_block(texts, config, first) > 0).sum(axis=0)).ravel()
        idf = np.log((1 + len(texts)) / (1 + present)) + 1
        counted = (present >= config.min_reports) & (present <= config.max_share * len(texts))
        idfs.append(np.where(counted, idf, 0))
    return WordWeights(config, np.stack(idfs).astype(np.float32))


def _firsts(config: WordConfig) -> tuple[int, ...]:
    return (0, config.first_words) if config.first_words else (0,)


@dataclass(frozen=True)
class Ridge:
    """A linear map from words: `weight` float32 (columns, T) and `bias` float32 (T,)."""

    weight: Float32Array
    bias: Float32Array

    def predict(self, inputs: sparse.csr_matrix) -> Float32Array:
        """Return (n, T) of inputs (n, columns)."""
        return np.asarray(inputs @ self.weight + self.bias, np.float32)


def fit_ridge(
    inputs: sparse.csr_matrix, targets: Floats, *, penalty: float, weights: Doubles
) -> Ridge:
    """Fit a weighted ridge regression in its dual form: n is far below the columns.

    Parameters
    ----------
    inputs : sparse (n, columns)
    targets : float (n, T)
        Centred inside; the mean comes back as the bias.
    penalty : float
        Larger is smoother.
    weights : float (n,)
        Of each report, mean 1: labels with few reports must not drown.
    """
    if penalty <= 0:
        raise ValueError("penalty must be positive")
    bias = weights @ targets / weights.sum()
    root = np.sqrt(weights)
    kernel = np.asarray((inputs @ inputs.T).todense()) * np.outer(root, root)
    kernel[np.diag_indices_from(kernel)] += penalty
    dual = linalg.solve(kernel, (targets - bias) * root[:, None], assume_a="pos")
    weight = inputs.T @ (dual * root[:, None])
    return Ridge(np.asarray(weight, np.float32), np.asarray(bias, np.float32))


def balanced_weights(labels: Ints) -> Doubles:
    """Return weights of mean 1 that give every label the same total."""
    counts = np.bincount(labels)[labels]
    weights = 1 / counts
    return np.asarray(weights / weights.mean(), np.float64)
