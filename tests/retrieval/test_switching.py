"""From one model to another: in the background, in one step, and back."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.urls import reverse
from django_q.models import OrmQ

from cases.errors import Conflict
from cases.models import AccessEvent
from cases.permissions import Role
from retrieval.engine.mosaic import Mosaic
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideIndex
from retrieval.querysets import vector_index_is_ready
from retrieval.services import aggregation, indexing, switching
from retrieval.services.aggregation import AggregatorUnavailable, model_aggregator, model_file
from retrieval.services.explaining import slide_attention
from retrieval.services.index_queue import WOKEN, rows_make
from retrieval.services.indexing import index_ensure, index_run, index_sweep
from retrieval.services.models import Modality, active_model
from retrieval.services.search import search_run
from retrieval.services.switching import (
    CoverageIncomplete,
    IndexNotReady,
    model_activate,
    model_coverage,
    model_reembed,
    model_reembed_here,
    model_retire,
)
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.fakes import FAKE_SPEC, PINK, VIOLET, ArraySlide, painted
from tests.retrieval.made_archive import made_archive
from tests.retrieval.trained import WIDTH, aligner_model, indexed_archive, prototype_model

pytestmark = pytest.mark.django_db
State = SlideIndex.State


class WideEncoder:
    """Features 12 wide of the colours of patches."""

    spec = replace(FAKE_SPEC, dimension=WIDTH)

    def encode(self, patches):
        flat = patches.reshape(len(patches), -1, 3).astype(np.float32) / 255
        return np.concatenate([flat.mean(1), flat.std(1), flat.max(1), flat.min(1)], axis=1)


@pytest.fixture
def department():
    return DepartmentFactory(code="lung")


@pytest.fixture
def anna(department):
    return make_member(department, Role.PATHOLOGIST)


@pytest.fixture
def old():
    return prototype_model()


@pytest.fixture
def slides(department, old):
    return indexed_archive(department, old)


@pytest.fixture
def new(slides):
    return aligner_model()


@pytest.fixture
def pixels(monkeypatch):
    rgb = painted(640, 640, (64, 64, 320, 512, PINK), (384, 64, 192, 512, VIOLET))
    world = SimpleNamespace(slide=ArraySlide(rgb), opened=0)

    def open_slide(path, mpp):
        world.opened += 1
        return world.slide

    monkeypatch.setattr(indexing, "open_slide", open_slide)
    monkeypatch.setattr(indexing, "_encoder", lambda name: WideEncoder())
    return world


def answers(user, slide_image):
    query = search_run(user, slide_image=slide_image)
    return [(hit.slide_image_id, hit.image_similarity) for hit in query.hits.all()]


def test_searches_give_the_old_answers_until_the_switch_then_new_ones_and_the_old_again(
    anna, slides, old, new, monkeypatch
):
    monkeypatch.setattr(indexing, "open_slide", None)  # no pixel is read
    before = answers(anna, slides[0])
    assert len(before) == 11
    assert model_reembed(model=new) == 12
    todo = list(SlideIndex.objects.filter(model=new).order_by("created_at", "pk"))
    for index in todo[:5]:
        assert index_run(index.pk) == State.INDEXED
    assert model_coverage(new).covered == 5
    assert answers(anna, slides[0]) == before
    with pytest.raises(CoverageIncomplete, match="7 of 12 slides"):
        model_activate(model=new)
    assert active_model(Modality.IMAGE) == old
    assert model_reembed_here(model=new).percent == 100
    assert answers(anna, slides[0]) == before
    model_activate(model=new, user=anna)
    after = answers(anna, slides[0])
    assert {pk for pk, _ in after} == {pk for pk, _ in before}
    assert after != before
    rows = SlideEmbedding.objects.count()
    model_activate(model=old)
    assert answers(anna, slides[0]) == before
    model_activate(model=new)
    assert answers(anna, slides[0]) == after
    assert SlideEmbedding.objects.count() == rows, "the way back embeds nothing again"
    event = AccessEvent.objects.filter(user=anna, object_type="embeddingmodel").latest("at")
    assert event.detail == {"activated": "new", "before": "old", "missing": 0}


def test_the_similarity_is_the_trained_models_own(anna, slides, new):
    model_reembed(model=new)
    model_reembed_here(model=new)
    model_activate(model=new)
    aligner = model_aggregator(new).model
    stored = {e.slide_image_id: e for e in SlideEmbedding.objects.filter(model=new)}

    def mosaic(slide_image):
        row = stored[slide_image.pk]
        tokens = np.frombuffer(bytes(row.mosaic), "<f2").reshape(-1, new.token_width)
        return Mosaic(tokens.astype(np.float32), row.places, np.asarray(row.vector, np.float32))

    found = dict(answers(anna, slides[0]))
    for other in slides[1:]:
        expected = aligner.compare(mosaic(slides[0]), mosaic(other)).similarity
        assert found[other.pk] == pytest.approx(expected, abs=2e-3)


def test_words_find_slides_without_a_report(client, anna, slides, new, monkeypatch):
    monkeypatch.setattr(
        "retrieval.services.text_search.encode_texts",
        lambda model, texts: np.ones((len(texts), 8), np.float32),
    )
    EmbeddingModel.objects.filter(modality="text").delete()
    text = "diffuse sheets of large atypical lymphocytes"
    assert not search_run(anna, text=text).hits.exists(), "no slide has a report"
    model_reembed(model=new)
    model_reembed_here(model=new)
    model_activate(model=new)
    query = search_run(anna, text=text)
    hits = list(query.hits.all())
    assert len(hits) == 12
    assert hits[0].tissue_text_similarity == max(hit.tissue_text_similarity for hit in hits)
    archive = made_archive(slides=90)
    labels = {slide.pk: archive.labels[i] for i, slide in enumerate(slides)}
    wanted = sum(label == "lymphoma" for label in labels.values())
    found = [labels[hit.slide_image_id] for hit in hits[:wanted]]
    assert found.count("lymphoma") >= wanted - 1
    client.force_login(anna)
    page = client.get(reverse("search_results", args=[query.pk])).content.decode()
    assert page.count("words to tissue") == 12
    assert "found by its tissue" in page
    # A phrase in quotes is looked for in reports, and no slide without one may answer.
    assert not search_run(anna, text='"large atypical lymphocytes"').hits.exists()
    ReportFactory(case=slides[3].slide.case, diagnosis_text="large atypical lymphocytes")
    strict = search_run(anna, text='"large atypical lymphocytes"').hits.all()
    assert [hit.slide_image_id for hit in strict] == [slides[3].pk]
    unknown = search_run(anna, text="42 17")
    assert any("knows none of these words" in notice for notice in unknown.notices)


def test_a_trained_models_tokens_are_explained_by_their_patches(anna, slides, new):
    model_reembed(model=new)
    model_reembed_here(model=new)
    model_activate(model=new)
    shown = slide_attention(user=anna, slide_image=slides[0])
    weights = shown.attention.weights
    assert weights.sum(1) == pytest.approx(np.ones(len(shown.places)), abs=1e-5)
    assert shown.attention.likeness.min() > -1
    shares = np.array([place["share"] for place in shown.places])
    counts = np.bincount(shown.attention.nearest, minlength=len(shares)) / weights.shape[1]
    assert counts == pytest.approx(shares, abs=0.35)
    assert (weights[shown.attention.nearest, np.arange(weights.shape[1])] > 0).all()


def test_words_find_only_what_the_asker_may_see(slides, new):
    stranger = make_member(DepartmentFactory(code="colon"), Role.PATHOLOGIST)
    model_reembed(model=new)
    model_reembed_here(model=new)
    model_activate(model=new)
    assert not search_run(stranger, text="diffuse sheets of lymphocytes").hits.exists()


def test_a_new_slide_is_indexed_for_both_and_encoded_once(department, slides, old, new, pixels):
    model_reembed(model=new)
    model_reembed_here(model=new)
    slide_image = make_slide_image(department, mpp=1.0)
    index = index_ensure(slide_image=slide_image)
    assert index.model == old
    other = SlideIndex.objects.get(slide_image=slide_image, model=new)
    assert (other.state, other.enqueued_at) == (State.QUEUED, None), "it waits for the features"
    assert index_run(index.pk) == State.INDEXED
    other.refresh_from_db()
    assert other.enqueued_at, "and is woken by the first"
    assert OrmQ.objects.filter(key="indexing").last().task["args"] == (str(other.pk),)
    assert index_run(other.pk) == State.INDEXED
    assert pixels.opened == 1
    other.refresh_from_db()
    index.refresh_from_db()
    assert other.features_path == index.features_path
    assert model_coverage(new).missing == 0
    model_activate(model=new)
    # Its pixels change: both embed them again, from the new ones.
    again = index_ensure(slide_image=slide_image)
    assert again.model == new
    assert set(
        SlideIndex.objects.filter(slide_image=slide_image).values_list("state", flat=True)
    ) == {State.QUEUED}


def test_a_retired_model_keeps_nothing_of_changed_pixels(department, slides, old, new):
    model_reembed(model=new)
    model_reembed_here(model=new)
    model_activate(model=new)
    model_retire(model=old)
    index_ensure(slide_image=slides[0])
    assert not SlideEmbedding.objects.filter(slide_image=slides[0], model=old).exists()
    assert SlideEmbedding.objects.filter(slide_image=slides[1], model=old).exists()
    with pytest.raises(Conflict, match="is active"):
        model_retire(model=new)


def test_re_embedding_stands_back_for_new_slides(department, slides, old, new):
    model_reembed(model=new)
    assert OrmQ.objects.count() == WOKEN, "not a message for every slide of the archive"
    arrived = index_ensure(slide_image=make_slide_image(department))
    assert OrmQ.objects.count() == WOKEN + 1
    woken = SlideIndex.objects.filter(model=new, enqueued_at__isnull=False)
    first = woken.first()
    SlideIndex.objects.filter(pk=arrived.pk).update(state=State.INDEXED)
    index_run(first.pk)
    assert SlideIndex.objects.filter(state=State.QUEUED, enqueued_at__isnull=False).count() == WOKEN


def test_the_sweep_wakes_what_a_killed_cluster_left(slides, new):
    model_reembed(model=new)
    OrmQ.objects.all().delete()
    SlideIndex.objects.filter(model=new).update(enqueued_at=None)
    index_sweep()
    assert OrmQ.objects.count() == WOKEN


def test_a_slide_without_a_row_gets_one_from_the_sweep(department, slides, old, new):
    model_reembed(model=new)
    make_slide_image(department)
    assert index_sweep()["missing"] == 2
    assert rows_make(new) == 0


def test_unreadable_features_are_read_from_the_pixels_again(
    department, slides, new, pixels, settings
):
    index = SlideIndex.objects.get(slide_image=slides[0])
    (settings.DATA_DIR / index.features_path).write_bytes(b"broken")
    model_reembed(model=new)
    index_run(SlideIndex.objects.get(slide_image=slides[0], model=new).pk)
    assert pixels.opened == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "are missing"),
        (lambda file: file.write_bytes(file.read_bytes() + b" "), "another SHA-256"),
    ],
)
def test_other_weights_than_the_registered_ones_are_a_named_error(slides, new, damage, said):
    aggregation._trained.cache_clear()
    damage(model_file(new))
    for act in (model_reembed, lambda model: model_activate(model=model, force=True)):
        with pytest.raises(AggregatorUnavailable, match=said):
            act(model=new)
    assert active_model(Modality.IMAGE).name == "old"
    EmbeddingModel.objects.filter(pk=new.pk).update(is_kept_current=True)
    rows_make(new)
    index = SlideIndex.objects.filter(model=new).first()
    assert index_run(index.pk) == State.FAILED
    index.refresh_from_db()
    assert index.reason_code in {"model_missing", "model_corrupt"}
    assert "manage.py train_aligner" in index.reason


def test_a_forced_switch_leaves_the_rest_to_the_background(anna, slides, old, new):
    model_reembed(model=new)
    SlideIndex.objects.filter(model=new).exclude(slide_image__in=slides[:4]).update(
        enqueued_at=None
    )
    for slide_image in slides[:4]:
        index_run(SlideIndex.objects.get(slide_image=slide_image, model=new).pk)
    model_activate(model=new, force=True)
    assert len(answers(anna, slides[0])) == 3
    OrmQ.objects.all().delete()
    SlideIndex.objects.filter(model=new, state=State.QUEUED).update(enqueued_at=None)
    index_sweep()
    assert OrmQ.objects.count() == WOKEN


def test_without_its_index_a_filled_model_is_not_activated(slides, new, monkeypatch):
    monkeypatch.setattr(switching, "vector_index_ensure", lambda table, model: None)
    model_reembed(model=new)
    model_reembed_here(model=new)
    assert not vector_index_is_ready(SlideEmbedding, new)
    with pytest.raises(IndexNotReady, match="models reembed new"):
        model_activate(model=new)


def test_the_command_does_all_of_it(slides, old, new, capsys):
    with pytest.raises(CommandError, match="12 of 12 slides"):
        call_command("models", "activate", "new")
    call_command("models", "reembed", "new", "--now")
    call_command("models", "activate", "new")
    out = capsys.readouterr().out
    assert "12 slides wait" in out
    assert "new  [image]  active  fake + aligner, 12 of 12 slides (100 %)" in out
    call_command("models", "activate", "old")
    call_command("models", "retire", "new")
    call_command("models")
    out = capsys.readouterr().out
    assert "old  [image]  active" in out
    assert "new  [image]  -" in out
    with pytest.raises(CommandError, match="models list"):
        call_command("models", "activate", "nothing")


def test_the_pages_show_how_far_it_is(client, anna, slides, new):
    model_reembed(model=new)
    index_run(SlideIndex.objects.filter(model=new).first().pk)
    client.force_login(anna)
    page = client.get(reverse("indexing")).content.decode()
    assert "new is being prepared beside the model in use: 1 of 12 slides." in page
    stranger = make_member(DepartmentFactory(code="colon"), Role.PATHOLOGIST)
    client.force_login(stranger)
    assert "being prepared" not in client.get(reverse("indexing")).content.decode()


def test_the_administration_does_it_too(client, slides, old, new):
    admin = make_member(None, Role.SYSTEM_ADMINISTRATOR)
    get_user_model().objects.filter(pk=admin.pk).update(is_staff=True)
    client.force_login(admin)
    page = reverse("admin:retrieval_embeddingmodel_changelist")

    def act(name, model):
        data = {"action": name, "_selected_action": [model.pk]}
        return client.post(page, data, follow=True).content.decode()

    assert "12 of 12 slides that can be found now are not" in act("activate", new)
    assert "12 slides wait to be embedded by new" in act("reembed", new)
    model_reembed_here(model=new)
    assert "12 of 12 (100 %)" in client.get(page).content.decode()
    assert "Searches use new from now on" in act("activate", new)
    assert active_model(Modality.IMAGE) == new
    assert "are not indexed by old any more" in act("retire", old)
    assert "Searches use old from now on" in act("activate_despite_gaps", old)
