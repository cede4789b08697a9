"""The encoder process and its client, over a real Unix socket."""

import threading
from contextlib import suppress

import numpy as np
import pytest

from retrieval import encoder_server
from retrieval.encoder_server import EncoderServer, EncoderService
from retrieval.engine import encoders
from retrieval.engine.encoder_client import EncoderClient, EncoderServerError, _UnixConnection, pack
from retrieval.engine.encoders import Registry
from retrieval.engine.errors import ModelMissing
from retrieval.services import query_encoding
from retrieval.services.query_encoding import EncoderUnavailable
from tests.retrieval.fakes import FAKE_SPEC, ColourEncoder


class WordEncoder:
    def encode(self, texts):
        return np.array([[len(text), text.count("a")] for text in texts], np.float32).reshape(-1, 2)


@pytest.fixture
def server(tmp_path, monkeypatch):
    registry = Registry("image")
    registry.register(FAKE_SPEC)
    monkeypatch.setattr(encoder_server, "IMAGE_ENCODERS", registry)
    loads = []

    def load(name, *arguments):
        loads.append(name)
        return ColourEncoder()

    monkeypatch.setattr(encoder_server, "load_image_encoder", load)
    monkeypatch.setattr(encoder_server, "load_text_encoder", lambda *a: WordEncoder())
    server = EncoderServer(tmp_path / "encoder.sock", EncoderService(), max_request_bytes=200_000)
    server.loads = loads
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
    assert not server.path.exists()


@pytest.fixture
def client(server):
    return EncoderClient(str(server.path), timeout=10)


def request(server, method, target, body=None, **headers):
    connection = _UnixConnection(str(server.path), 10)
    with suppress(BrokenPipeError):  # what is refused may be answered before all of it was sent
        connection.request(method, target, body, headers)
    answer = connection.getresponse()
    status, data = answer.status, answer.read()
    connection.close()
    return status, data


def test_patches_come_back_as_features_batch_by_batch(client):
    patches = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    features = client.encode_patches("fake", patches, batch=3)
    assert features == pytest.approx(ColourEncoder().encode(patches))
    assert client.encode_patches("fake", patches[:0]).shape == (0, 6)


def test_texts_come_back_as_vectors(client):
    assert client.encode_texts("any", ["aab", "ä"]).tolist() == [[3, 2], [1, 0]]


def test_models_load_at_first_use_and_once(server, client):
    assert b'"loaded": []' in request(server, "GET", "/healthz")[1]
    patches = np.zeros((1, 32, 32, 3), np.uint8)
    threads = [
        threading.Thread(target=client.encode_patches, args=("fake", patches)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.loads == ["fake"]
    assert b'"loaded": ["fake"]' in request(server, "GET", "/healthz")[1]


def test_only_the_owner_may_open_the_socket(server):
    assert server.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("target", "body", "status"),
    [
        ("/patches", pack({"encoder": "fake", "shape": [1, 32, 32, 3]}, b"short"), 400),
        ("/patches", pack({"encoder": "fake", "shape": [-1, 32, 32, 3]}), 400),
        ("/patches", pack({"encoder": "fake", "shape": [1, 8, 8, 3]}, bytes(192)), 400),
        ("/patches", pack({"encoder": "fake", "shape": [True, 32, 32, 3]}, bytes(3072)), 400),
        ("/patches", pack({"encoder": "other", "shape": [0, 32, 32, 3]}), 404),
        ("/patches", b"no header", 400),
        ("/patches", b"[]\n", 400),
        ("/patches", b"\xff\xfe\n", 400),
        ("/texts", pack({"encoder": "any", "texts": "text"}), 400),
        ("/texts", pack({"encoder": "any", "texts": [1]}), 400),
        ("/texts", pack({"encoder": "any", "texts": ["a"] * 1025}), 400),
        ("/shell", b"", 404),
    ],
)
def test_bad_requests_are_refused_and_the_process_goes_on(server, target, body, status):
    assert request(server, "POST", target, body)[0] == status
    assert request(server, "GET", "/healthz")[0] == 200


def test_a_request_without_a_length_is_refused(server):
    assert (
        request(server, "POST", "/texts", iter([b"x"]), **{"Transfer-Encoding": "chunked"})[0]
        == 411
    )


def test_a_broken_encoder_answers_with_its_name_and_the_process_goes_on(
    server, client, monkeypatch
):
    def missing(*arguments):
        raise ModelMissing("The weights are missing. Install them.")

    monkeypatch.setattr(encoder_server, "load_text_encoder", missing)
    with pytest.raises(EncoderServerError, match="Install them") as error:
        client.encode_texts("any", ["a"])
    assert error.value.code == "model_missing"

    def crash(*arguments):
        raise RuntimeError("secret words of a query")

    monkeypatch.setattr(encoder_server, "load_text_encoder", crash)
    with pytest.raises(EncoderServerError) as error:
        client.encode_texts("any", ["a"])
    assert "secret" not in error.value.message


def test_a_socket_left_behind_does_not_stop_the_next_process(tmp_path):
    first = EncoderServer(tmp_path / "encoder.sock", EncoderService())
    first.socket.close()
    second = EncoderServer(tmp_path / "encoder.sock", EncoderService())
    second.server_close()


class Model:
    encoder, dimension, feature_width = "fake", 6, 6


def test_queries_go_to_the_process_where_one_is_configured(server, settings, monkeypatch):
    settings.ENCODER_SOCKET = str(server.path)
    monkeypatch.setattr(query_encoding, "load_image_encoder", None)
    monkeypatch.setattr(query_encoding, "load_text_encoder", None)
    patches = np.full((2, 32, 32, 3), 255, np.uint8)
    assert query_encoding.encode_patches(Model, patches)[0].tolist() == [1, 1, 1, 0, 0, 0]
    assert query_encoding.encode_texts(Model, ["aa"]).tolist() == [[2, 2]]


def test_without_the_process_the_error_is_named(settings, tmp_path):
    settings.ENCODER_SOCKET = str(tmp_path / "nobody.sock")
    with pytest.raises(EncoderUnavailable) as error:
        query_encoding.encode_texts(Model, ["a"])
    assert error.value.http_status == 503


def test_queries_are_encoded_here_where_no_process_is_configured(settings, monkeypatch):
    settings.ENCODER_SOCKET = ""
    settings.ENCODER_BATCH = 2
    encoder = ColourEncoder()
    monkeypatch.setattr(query_encoding, "load_image_encoder", lambda *a: encoder)
    query_encoding._image_encoder.cache_clear()
    try:
        patches = np.full((5, 32, 32, 3), 255, np.uint8)
        assert query_encoding.encode_patches(Model, patches).shape == (5, 6)
        assert encoder.batches == [2, 2, 1]
        assert query_encoding.encode_patches(Model, patches[:0]).shape == (0, 6)
    finally:
        query_encoding._image_encoder.cache_clear()


def test_a_missing_model_is_the_same_named_error(settings, monkeypatch):
    settings.ENCODER_SOCKET = ""
    monkeypatch.setattr(encoders, "IMAGE_ENCODERS", Registry("image"))
    query_encoding._image_encoder.cache_clear()
    with pytest.raises(EncoderUnavailable, match="no image encoder"):
        query_encoding.encode_patches(Model, np.zeros((1, 32, 32, 3), np.uint8))


def test_a_silent_server_is_no_hang(tmp_path):
    import socket

    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(EncoderServerError):
            EncoderClient(str(path), timeout=0.2).encode_texts("any", ["a"])
