"""More like this, less like this: relevance feedback on embeddings. NumPy only.

Rocchio, "Relevance feedback in information retrieval", in Salton (ed.), The SMART Retrieval
System, 1971; the weights are those of Manning, Raghavan and Schütze, Introduction to Information
Retrieval, 2008, chapter 9: what is relevant tells more than what is not.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ALPHA, BETA, GAMMA = 1.0, 0.75, 0.15


def rocchio_vector(
    query: Floats,
    relevant: Floats,
    irrelevant: Floats,
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = GAMMA,
) -> Floats:
    """Move a query towards what was found relevant and away from what was not.

    Parameters
    ----------
    query : float32 (D,)
        L2-normalised.
    relevant : float32 (R, D), irrelevant : float32 (N, D)
        L2-normalised; either may have no rows.
    alpha, beta, gamma : float
        Weights of the query and of the means of both.

    Returns
    -------
    float32 (D,)
        L2-normalised; the query itself where everything cancels out.

    Raises
    ------
    ValueError
        When widths disagree or a weight is negative.
    """
    if min(alpha, beta, gamma) < 0:
        raise ValueError("weights are never negative")
    moved = alpha * query.astype(np.float64)
    for rows, weight in ((relevant, beta), (irrelevant, -gamma)):
        if rows.ndim != 2 or rows.shape[1] != len(query):
            raise ValueError("all vectors need the width of the query")
        if len(rows):
            moved = moved + weight * rows.astype(np.float64).mean(axis=0)
    norm = float(np.linalg.norm(moved))
    if norm < 1e-9:
        return query.astype(np.float32)
    return (moved / norm).astype(np.float32)


def rocchio_scores(
    query: NDArray[np.float64],
    relevant: NDArray[np.float64],
    irrelevant: NDArray[np.float64],
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = GAMMA,
) -> NDArray[np.float64]:
    """Do the same with similarities, where a query is more than one vector (a mosaic).

    A cosine is linear in the query, so that moving the query is the same as adding similarities;
    for mosaics this sum is the definition.

    Parameters
    ----------
    query : (C,)
        Similarity of each candidate to the query.
    relevant : (R, C), irrelevant : (N, C)
        Similarity of each candidate to each marked answer; either may have no rows.

    Returns
    -------
    (C,)
        Larger is better; at most 1 where the similarities are.
    """
    if min(alpha, beta, gamma) < 0:
        raise ValueError("weights are never negative")
    scores = alpha * query
    total = alpha
    if len(relevant):
        scores = scores + beta * relevant.mean(axis=0)
        total += beta
    if len(irrelevant):
        scores = scores - gamma * irrelevant.mean(axis=0)
    return np.asarray(scores / total, dtype=np.float64)
