"""Contrastive gradients of batches that do not fit into memory at once. Imports torch.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
RepL4NLP 2021 (GradCache): the batch goes through the network in chunks, first without a graph;
the loss over all vectors gives the gradient of each vector; then each chunk goes through again,
with a graph, and hands its gradient on. The sum is the gradient of the whole batch.

What couples the slides of one forward pass stays inside a chunk: the batch norm's statistics,
and the start of the Nystrom pseudo-inverse. Running statistics become the mean over the chunks.
So the outcome depends on the size of the chunks, but not on how many processes share them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from retrieval.engine.errors import EngineError
from retrieval.engine.processes import Group

# A chunk's input -> vectors (b, D), which the common loss compares, and the chunk's own loss:
# a mean over its slides.
Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
CommonLoss = Callable[[torch.Tensor], torch.Tensor]


class TooFewChunks(EngineError):
    """A process has nothing to do."""

    code = "too_few_chunks"


@dataclass(frozen=True)
class Chunk:
    """Some slides of a batch: rows `start` to `stop`, and the seed of their dropout."""

    start: int
    stop: int
    seed: int


def chunks_of(batch: int, size: int, seed: int) -> list[Chunk]:
    """Return the chunks of a batch, of `size` slides at most (0: one chunk)."""
    step = size or batch
    return [
        Chunk(start, min(start + step, batch), seed + number)
        for number, start in enumerate(range(0, batch, step))
    ]


def batch_gradient(
    network: nn.Module,
    inputs: Callable[[Chunk], torch.Tensor],
    forward: Forward,
    common_loss: CommonLoss,
    chunks: Sequence[Chunk],
    group: Group,
) -> float:
    """Add the gradient of a batch's loss to the parameters; return the loss.

    Parameters
    ----------
    network : Module
        In training mode; its float buffers are averaged over the chunks.
    inputs : callable
        Returns the input of a chunk; called once or twice for each.
    forward : callable
        Returns the vectors of a chunk and its own loss.
    common_loss : callable
        The loss over the vectors (B, D) of the batch. Parameters inside it get their gradient.
    chunks : sequence of Chunk
        All of them; each process takes every `group.size`-th.
    group : Group
    """
    own = [chunk for number, chunk in enumerate(chunks) if number % group.size == group.rank]
    batch = chunks[-1].stop
    with _mean_buffers(network, group, len(chunks)) as keep:
        if group.size == 1 and len(chunks) == 1:
            torch.manual_seed(chunks[0].seed)
            vectors, own_loss = forward(inputs(chunks[0]))
            keep()
            loss = common_loss(vectors) + own_loss
            loss.backward()
            return float(loss.detach())
        everything = _vectors(network, inputs, forward, own, batch, group).requires_grad_()
        loss = common_loss(everything)
        loss.backward()
        if not group.is_first:
            # Every process computed the same; it counts once.
            network.zero_grad()
        total = everything.new_zeros(())
        for chunk in own:
            keep(reset=True)
            torch.manual_seed(chunk.seed)
            vectors, own_loss = forward(inputs(chunk))
            keep()
            share = (chunk.stop - chunk.start) / batch
            gradient = everything.grad
            assert gradient is not None
            surrogate = (vectors * gradient[chunk.start : chunk.stop]).sum() + share * own_loss
            surrogate.backward()
            total += share * own_loss.detach()
    for parameter in network.parameters():
        if parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            group.sum_(parameter.grad)
    return float(loss.detach()) + float(group.sum_(total))


def _vectors(
    network: nn.Module,
    inputs: Callable[[Chunk], torch.Tensor],
    forward: Forward,
    own: Sequence[Chunk],
    batch: int,
    group: Group,
) -> torch.Tensor:
    """Return the vectors (B, D) of all chunks of all processes, without a graph."""
    everything: torch.Tensor | None = None
    start = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.no_grad():
        for chunk in own:
            torch.manual_seed(chunk.seed)
            vectors, _ = forward(inputs(chunk))
            if everything is None:
                everything = vectors.new_zeros((batch, vectors.shape[1]))
            everything[chunk.start : chunk.stop] = vectors
            for name, buffer in network.named_buffers():
                buffer.copy_(start[name])
    if everything is None:
        raise TooFewChunks(
            "There are more processes than chunks of a batch. Give smaller chunks (--chunk) or "
            "fewer processes."
        )
    return group.sum_(everything)


@contextmanager
def _mean_buffers(network: nn.Module, group: Group, count: int) -> Iterator[Callable[..., None]]:
    """Give each chunk the same buffers to start from, and leave their mean behind."""
    start = {name: buffer.clone() for name, buffer in network.named_buffers()}
    sums = {name: torch.zeros_like(b) for name, b in start.items() if b.is_floating_point()}

    def keep(reset: bool = False) -> None:
        for name, buffer in network.named_buffers():
            if reset:
                buffer.copy_(start[name])
            elif name in sums:
                sums[name] += buffer

    yield keep
    for name, buffer in network.named_buffers():
        if name in sums:
            buffer.copy_(group.sum_(sums[name]) / count)
