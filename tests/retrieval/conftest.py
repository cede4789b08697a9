"""The usual cast of searches: Anna of the lung department asks."""

import numpy as np
import pytest

from cases.permissions import Role
from tests.factories import DepartmentFactory, make_member
from tests.retrieval.vectors import axis, make_model


@pytest.fixture
def lung():
    return DepartmentFactory(code="lung")


@pytest.fixture
def anna(lung):
    return make_member(lung, Role.PATHOLOGIST)


@pytest.fixture
def signed_in(anna, client):
    """Let Anna sit at the browser; for `usefixtures`."""
    client.force_login(anna)


@pytest.fixture
def image_model():
    return make_model("image")


@pytest.fixture
def text_model():
    return make_model("text")


@pytest.fixture
def meaning(monkeypatch):
    """Return a dict of what texts mean; unknown texts point along the last axis."""
    known: dict[str, np.ndarray] = {}

    def encode(model, texts):
        return np.stack([known.get(text, axis(7)) for text in texts])

    monkeypatch.setattr("retrieval.services.text_search.encode_texts", encode)
    return known
