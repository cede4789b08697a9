"""Readers are shared, bounded, and never closed under somebody who reads."""

import threading

import pytest

from cases.services.slide_readers import ReaderCache
from cases.wsi.errors import CorruptError


class Reader:
    """Stands for an open slide; says whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        assert not self.is_closed, "closed twice"
        self.is_closed = True


def test_it_opens_a_slide_once_for_many_threads():
    cache, opened, errors = ReaderCache(4), [], []
    begin = threading.Barrier(8)

    def open_():
        opened.append(Reader())
        return opened[-1]

    def read():
        begin.wait()
        try:
            for _ in range(200):
                with cache.reader("a", open_) as reader:
                    assert not reader.is_closed
        except AssertionError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(opened) == 1


def test_it_closes_the_least_recently_used():
    cache, readers = ReaderCache(2), {}
    for key in "abac":
        with cache.reader(key, lambda key=key: readers.setdefault(key, Reader())):
            pass
    assert {key: reader.is_closed for key, reader in readers.items()} == {
        "a": False,
        "b": True,
        "c": False,
    }
    assert len(cache) == 2


def test_it_closes_an_evicted_reader_only_when_nobody_reads_from_it():
    cache, reader = ReaderCache(1), Reader()
    with cache.reader("a", lambda: reader):
        with cache.reader("b", Reader):
            pass
        assert not reader.is_closed
    assert reader.is_closed


def test_it_tries_again_what_could_not_be_opened():
    cache = ReaderCache(2)

    def refuse():
        raise CorruptError

    for _ in range(2):
        with pytest.raises(CorruptError), cache.reader("a", refuse):
            pass
    with cache.reader("a", Reader) as reader:
        assert not reader.is_closed


def test_it_lets_go_of_a_reader_that_met_damage():
    cache, damaged = ReaderCache(2), Reader()
    with pytest.raises(CorruptError), cache.reader("a", lambda: damaged):
        raise CorruptError
    assert damaged.is_closed
    with cache.reader("a", Reader) as reader:
        assert reader is not damaged


def test_it_stays_bounded_and_honest_under_many_threads():
    cache, opened, errors = ReaderCache(3), [], []

    def open_():
        opened.append(Reader())
        return opened[-1]

    def read(seed):
        try:
            for step in range(300):
                with cache.reader((seed * 7 + step) % 9, open_) as reader:
                    assert not reader.is_closed
        except AssertionError as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=[seed]) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sum(not reader.is_closed for reader in opened) == len(cache) <= 3
    cache.clear()
    assert all(reader.is_closed for reader in opened)
