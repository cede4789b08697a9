"""HSHR's hypergraph-guided ranking, adapted to patch features that are given. NumPy only.

Li et al., "High-Order Correlation-Guided Slide-Level Histology Retrieval With Self-Supervised
Hashing", IEEE TPAMI 2023. A rival to be measured; none is offered to users.

As published: every slide is a bag of clusters, every cluster a hash code with a weight; a slide's
codes vote for the slides of their nearest codes, a better rank counting more; the votes are the
incidences of a hypergraph whose edges and vertices are the slides; two slides are alike by the
hyperedges that they share, by the vertices that their hyperedges share, and directly.

Adapted: the codes are the signs of the centred cluster centres, and the weights their shares of
the tissue. The authors train an encoder with attention by momentum contrast for both; its patches
are augmented images, of which bags of features hold none. Clusters: 16 as for the other rivals,
not 20. A code never votes for its own slide. The weights of the three parts and the number of
neighbours are ours, and were not tuned.
"""

import numpy as np
import numpy.typing as npt

from retrieval.engine.rivals import RawMosaics, Rival

Floats = npt.NDArray[np.floating]
Float32Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NEIGHBOURS = 32
_BLOCK = 512


def incidences(
    tokens: Floats, shares: Floats, present: Bools, *, neighbours: int = NEIGHBOURS
) -> Float32Array:
    """Return the votes float32 (S, S) of every slide for every other.

    Parameters
    ----------
    tokens : float (S, M, D)
        Centred; only their signs count.
    shares : float (S, M)
        Weight of each token.
    present : bool (S, M)
        Which tokens are real.
    neighbours : int
        Nearest codes of other slides that a code votes for: the first counts 1, the one after
        the last would count 0, and between it falls with the logarithm of the rank.
    """
    owner = np.repeat(np.arange(len(tokens)), present.sum(1))
    codes = np.where(tokens[present] > 0, 1, -1).astype(np.float32)
    weight = shares[present].astype(np.float32)
    longest = int(np.bincount(owner).max())
    # Enough to have the wanted number left when the slide's own codes are taken out.
    kept = min(len(codes), neighbours + longest)
    votes = np.zeros((len(tokens), len(tokens)), np.float32)
    fall = 1 - np.log(np.arange(1, neighbours + 1)) / np.log(neighbours + 1)
    for start in range(0, len(codes), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(codes)))
        agree = codes[rows] @ codes.T
        if kept < len(codes):
            nearest = np.argpartition(-agree, kept - 1, axis=1)[:, :kept]
        else:
            nearest = np.tile(np.arange(len(codes)), (len(rows), 1))
        for row, found in zip(rows, nearest, strict=True):
            found = found[owner[found] != owner[row]]
            # Equal distances in the order of the archive: the outcome can be repeated.
            order = np.lexsort((found, -agree[row - start, found]))[:neighbours]
            np.add.at(votes[owner[row]], owner[found[order]], weight[row] * fall[: len(order)])
    return votes


def hypergraph_similarity(
    votes: Floats, *, vertex_weight: float = 1.0, direct_weight: float = 1.0
) -> Float32Array:
    """Return (S, S): how alike slides are by shared hyperedges, shared vertices and directly.

    Each of the three is scaled to sum to 1 over a row.
    """
    votes = np.asarray(votes, np.float32)
    parts = (votes @ votes.T, votes.T @ votes, votes + votes.T)
    total = np.zeros_like(votes)
    for part, weight in zip(parts, (1.0, vertex_weight, direct_weight), strict=True):
        sums = part.sum(1, keepdims=True)
        total += weight * part / np.where(sums > 0, sums, 1)
    return total


def hypergraph_search(mosaics: RawMosaics) -> Rival:
    """Return the rival; its graph is over all slides, the queries among them."""
    votes = incidences(mosaics.tokens, mosaics.shares, mosaics.present)
    values = hypergraph_similarity(votes)

    def similarity(queries: Ints, gallery: Ints) -> Float32Array:
        return values[np.ix_(queries, gallery)]

    return Rival("HSHR-style", "hypergraph over sign codes of 16 prototypes", similarity)
