"""Many clients at once: processes that each ask one question after the other."""

import multiprocessing
import time

import numpy as np

from benchmarks.search_scale import asking
from benchmarks.search_scale.vectors import World

CLIENTS = (1, 8, 32)
KINDS = ("slide", "words", "slide and words")


def run(world: World, seconds: float) -> None:
    """Print questions per second and latency at each number of clients."""
    from django.db import connections

    connections.close_all()  # a forked client opens its own
    print(f"\nload, {seconds:g} s each                 clients      QPS  p50 ms  p95 ms  p99 ms")
    with _Clients(world, max(CLIENTS)) as clients:
        for kind in KINDS:
            for sees in asking.USERS:
                for count in CLIENTS:
                    taken, wall = clients.ask(count, kind, sees, seconds)
                    print(
                        f"{kind:17} sees {sees:6}     {count:7} {len(taken) / wall:8.1f}"
                        f"{asking.percentiles(taken)}"
                    )


class _Clients:
    """Processes that wait to be told what to ask."""

    def __init__(self, world: World, count: int) -> None:
        context = multiprocessing.get_context("fork")
        self._answers = context.Queue()
        self._orders = [context.Queue() for _ in range(count)]
        self._ready = context.Barrier(count + 1)
        self._go = context.Event()
        self._processes = [
            context.Process(target=self._work, args=(world, number), daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> "_Clients":
        for process in self._processes:
            process.start()
        self._ready.wait()
        return self

    def __exit__(self, *_error: object) -> None:
        for orders in self._orders:
            orders.put(None)
        for process in self._processes:
            process.join(10)

    def ask(self, count: int, kind: str, sees: str, seconds: float) -> tuple[list[float], float]:
        """Return the seconds of each answer of so many clients, and until the last one came."""
        self._go.clear()
        for orders in self._orders[:count]:
            orders.put((kind, sees, seconds))
        for _ in range(count):
            self._answers.get()  # has its questions ready
        began = time.time()
        self._go.set()
        answers = [self._answers.get() for _ in range(count)]
        wall = max(ended for _taken, ended in answers) - began
        return [second for taken, _ended in answers for second in taken], wall

    def _work(self, world: World, number: int) -> None:
        self._ready.wait()
        while (order := self._orders[number].get()) is not None:
            kind, sees, seconds = order
            client = asking.Client(sees, world, seed=100 + number)
            questions = [client.question(kind) for _ in range(5)]
            self._answers.put(None)
            self._go.wait()
            taken, end = [], time.time() + seconds
            while time.time() < end:
                taken.append(client.ask(questions[len(taken) % len(questions)])[0])
            self._answers.put((taken, time.time()))


def while_inserting(world: World, seconds: float) -> None:
    """Print how many slides are written a second, and what a search takes meanwhile."""
    from django.db import connections

    client = asking.Client("100 %", world, seed=5)
    questions = [client.question("slide") for _ in range(10)]
    alone = _ask_for(client, questions, seconds)
    connections.close_all()
    context = multiprocessing.get_context("fork")
    written = context.Value("i", 0)
    process = context.Process(target=_insert, args=(written, seconds), daemon=True)
    process.start()
    taken = _ask_for(client, questions, seconds)
    process.join()
    print(
        f"\nwhile slides come in, {seconds:g} s:"
        f" {written.value / seconds:.0f} slides written a second"
    )
    print(f"slide search alone            {asking.percentiles(alone)} ms (p50, p95, p99)")
    print(f"slide search meanwhile        {asking.percentiles(taken)} ms")


def _ask_for(client: asking.Client, questions: list, seconds: float) -> list[float]:
    for question in questions:
        client.ask(question)
    taken, end = [], time.time() + seconds
    while time.time() < end:
        taken.append(client.ask(questions[len(taken) % len(questions)])[0])
    return taken


def _insert(written, seconds: float) -> None:
    """Write an embedding again and again as indexing does, in all indexes, and take them back."""
    from uuid import uuid4

    from django.db import connection

    from cases.models import SlideImage
    from retrieval.models import EmbeddingModel, SearchHit, SlideEmbedding

    model = EmbeddingModel.objects.get(modality="image", is_active=True)
    like = list(SlideEmbedding.objects.filter(model=model)[:200])
    images = SlideImage.objects.in_bulk([row.slide_image_id for row in like])
    new, end, generator = [], time.time() + seconds, np.random.default_rng(1)
    while time.time() < end:
        row = like[len(new) % len(like)]
        image = images[row.slide_image_id]
        image.pk = uuid4()
        image.content_sha256, image.series_instance_uid = image.pk.hex * 2, f"9.{image.pk.int}"
        image.save(force_insert=True)
        vector = np.asarray(row.vector, np.float32) + generator.normal(scale=0.01, size=768)
        SlideEmbedding.objects.create(
            slide_image=image,
            department_id=row.department_id,
            model=model,
            vector=vector / np.linalg.norm(vector),
            mosaic=bytes(row.mosaic),
            codec_id=row.codec_id,
            cells=row.cells,
            places=row.places,
        )
        new.append(image.pk)
        images[row.slide_image_id] = SlideImage.objects.get(pk=row.slide_image_id)
    written.value = len(new)
    SearchHit.objects.filter(slide_image__in=new).delete()
    SlideEmbedding.objects.filter(slide_image__in=new).delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM cases_slideimage WHERE id = ANY(%s)", [new])
