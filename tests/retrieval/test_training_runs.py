"""Training that is killed, cut into chunks, or shared by processes learns the same."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from retrieval.engine import training_job
from retrieval.engine.aggregator import ReferenceAligner, ReferenceConfig
from retrieval.engine.contrastive import label_loss
from retrieval.engine.curves import Curves
from retrieval.engine.gradient_cache import batch_gradient, chunks_of
from retrieval.engine.processes import Group
from retrieval.engine.training import TrainingSettings, train_reference
from retrieval.engine.training_job import TrainingJob
from tests.live_site import wait_until
from tests.retrieval.made_archive import made_archive, write_archive

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ReferenceConfig(input_dim=12, dim=16, token_count=2, heads=4, hidden=4)
# Tiny tensors on several threads spend their time waiting for each other.
torch.set_num_threads(1)
TINY = "--kind reference --dim 16 --tokens 2 --batch 12 --chunk 3 --patches 4 --threads 1"


def gradients(network):
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_cached_gradients_are_those_of_the_whole_batch():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 5))
    data = torch.randn(12, 6)
    labels, owners = torch.arange(12) % 3, torch.arange(12)
    hospitals = torch.arange(12) % 4

    def forward(x):
        made = network(x)
        return nn.functional.normalize(made, dim=-1), 0.3 * made.square().mean(1).mean()

    def common(vectors):
        return label_loss(vectors, labels, owners, hospitals)

    def run(chunk):
        network.zero_grad()
        loss = batch_gradient(
            network,
            lambda c: data[c.start : c.stop],
            forward,
            common,
            chunks_of(12, chunk, 0),
            Group(),
        )
        return loss, gradients(network)

    whole, expected = run(0)
    assert len(expected) == 6
    for chunk in (1, 5):
        loss, made = run(chunk)
        assert loss == pytest.approx(whole, abs=1e-5)
        for name, gradient in expected.items():
            torch.testing.assert_close(made[name], gradient, atol=1e-6, rtol=1e-4)


def test_cached_gradients_of_the_network_are_those_of_its_chunks_in_one_graph():
    """With dropout, batch norm and the pseudo-inverse, which act inside a chunk."""
    torch.manual_seed(0)
    network = ReferenceAligner(CONFIG, text_dim=3).train()
    data = torch.randn(8, 5, 12)
    labels, owners = torch.tensor([0, 0, 1, 1, 0, 1, 0, 1]), torch.arange(8)
    chunks = chunks_of(8, 3, 40)

    def forward(x):
        made = network.visual(x)
        return made.embedding, made.tokens.square().mean() * 0

    def common(vectors):
        return label_loss(vectors, labels, owners, owners) * network.logit_scale.exp()

    # A network for each chunk: each starts from the same buffers, and its graph stays whole.
    copies = [deepcopy(network) for _ in chunks]
    vectors = []
    for chunk, copy in zip(chunks, copies, strict=True):
        torch.manual_seed(chunk.seed)
        vectors.append(copy.visual(data[chunk.start : chunk.stop]).embedding)
    loss = label_loss(torch.cat(vectors), labels, owners, owners) * copies[0].logit_scale.exp()
    loss.backward()
    expected = {
        name: sum(gradients(copy).get(name, 0.0) for copy in copies)
        for name in gradients(copies[0])
    }
    running = [copy.visual.pool.norm.running_mean for copy in copies]
    made = batch_gradient(
        network, lambda c: data[c.start : c.stop], forward, common, chunks, Group()
    )
    assert made == pytest.approx(loss.item(), abs=1e-5)
    found = gradients(network)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-3)
    assert expected["logit_scale"].abs() > 0
    torch.testing.assert_close(network.visual.pool.norm.running_mean, torch.stack(running).mean(0))


def test_a_single_hospital_is_trained_on_with_held_out_patients():
    archive = made_archive(slides=40, hospitals=1)
    train, held_out = np.arange(30), np.arange(30, 40)
    settings = TrainingSettings(epochs=2, steps=2, batch=20, patches=4)
    trained = train_reference(archive, train, CONFIG, settings, held_out=held_out)
    losses = [line.loss for line in trained.history]
    assert losses[0] > 0.1, "other patients of the label are positives"
    assert all(line.held_out_map > 0 for line in trained.history)


def test_it_stops_when_the_held_out_slides_gain_nothing_more():
    archive = made_archive(slides=40)
    settings = TrainingSettings(epochs=9, steps=1, batch=8, patches=4, rate=0.0, patience=2)
    trained = train_reference(archive, archive.positions("train"), CONFIG, settings)
    values = [line.held_out_map for line in trained.history]
    assert len(values) == int(np.argmax(values)) + 3 < 9


def test_curves_of_a_killed_run_keep_each_step_once(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def draw(resumed_at, steps):
        curves = Curves(tmp_path, resumed_at=resumed_at, progress=lambda _: None)
        for step in steps:
            curves.add(step, loss=float(step))
        curves.close()

    def drawn():
        events = reader.EventAccumulator(str(tmp_path)).Reload()
        return [event.step for event in events.Scalars("loss")]

    draw(0, [1, 2])  # killed before its first checkpoint
    draw(0, [1, 2, 3, 4, 5])  # killed after the checkpoint of step 3
    draw(3, [4, 5, 6])
    assert drawn() == [1, 2, 3, 4, 5, 6]


def test_one_process_embeds_the_reports_for_all(tmp_path, monkeypatch):
    archive = made_archive(slides=10)
    job = TrainingJob("reference", np.arange(10), np.array([], int), {}, text_encoder="words")
    made, sent = [], []

    def embedded(reports, name, **options):
        made.append(name)
        return {patient: np.ones(3, np.float32) for patient in reports}

    class Member(Group):
        def told(self, value):
            if self.is_first:
                sent.append(value)
            return sent[-1]

    monkeypatch.setattr("retrieval.engine.report_vectors.report_vectors", embedded)
    first, second = (
        training_job._report_vectors(archive, job, tmp_path, Member(rank, 2), print)
        for rank in (0, 1)
    )
    assert made == ["words"]
    assert first is second and set(first) == set(archive.patients)


def test_half_precision_learns_nearly_the_same():
    archive = made_archive(slides=40)

    def run(precision):
        settings = TrainingSettings(epochs=1, steps=3, batch=16, patches=4, precision=precision)
        return train_reference(archive, archive.positions("train"), CONFIG, settings)

    whole, half = run("fp32"), run("bf16")
    assert half.history[0].loss == pytest.approx(whole.history[0].loss, rel=0.05)
    assert half.history[0].loss != whole.history[0].loss


def trainer(folder, out, *options, processes=1):
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return subprocess.Popen(
        [
            *start,
            "retrieval.engine.train_files",
            str(folder),
            "--out",
            str(out),
            *TINY.split(),
            *options,
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    return write_archive(made_archive(slides=60), folder)


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken")
    run = trainer(folder, out, "--epochs", "2", "--steps", "15")
    assert run.wait(timeout=300) == 0, run.stderr.read()
    return out


def weights(out):
    from safetensors.numpy import load_file

    return load_file(out / "reference.safetensors")


def test_a_run_killed_in_the_middle_of_an_epoch_ends_as_the_unbroken_one(
    folder, unbroken, tmp_path
):
    options = ("--epochs", "2", "--steps", "15", "--checkpoint-steps", "4")
    run = trainer(folder, tmp_path, *options)
    checkpoint = tmp_path / "checkpoint.pt"
    try:
        wait_until(checkpoint.is_file, seconds=300, what="a checkpoint inside the first epoch")
    finally:
        run.kill()
        run.wait()
    assert not (tmp_path / "reference.safetensors").exists()
    state = torch.load(checkpoint, weights_only=True)
    done = len(json.loads(state["losses"])) + 15 * len(json.loads(state["history"]))
    assert 0 < done < 30
    again = trainer(folder, tmp_path, *options)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert f"continues after step {done}" in said
    expected = weights(unbroken)
    for name, tensor in weights(tmp_path).items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)
    cards = [json.loads((out / "card.json").read_text()) for out in (tmp_path, unbroken)]
    assert cards[0]["history"] == cards[1]["history"]
    assert cards[0]["sha256"] == cards[1]["sha256"]


def test_two_processes_learn_what_one_does(folder, unbroken, tmp_path):
    run = trainer(folder, tmp_path, "--epochs", "2", "--steps", "15", processes=2)
    _, said = run.communicate(timeout=300)
    assert run.returncode == 0, said
    one, two = weights(unbroken), weights(tmp_path)
    for name, tensor in two.items():
        # The softmax over scores takes away what all of them share: the gradient of this bias is
        # rounding alone, which Adam scales up to whole steps.
        if not name.endswith("attention_weights.bias"):
            np.testing.assert_allclose(tensor, one[name], atol=2e-4, err_msg=name)
    moved = max(float(np.abs(t).max()) for t in two.values())
    assert moved > 0.01
    cards = [json.loads((out / "card.json").read_text()) for out in (tmp_path, unbroken)]
    assert cards[0]["processes"] == 2
    for first, second in zip(cards[0]["history"], cards[1]["history"], strict=True):
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)
