"""The cast and the objects of the permission table.

Three departments. `home` owns everything in the places "private" and "shared"; the cohort of
"shared" is shared with `partner`; `away` owns "foreign". Each object says its place in every
text it has, so that a leak is seen in any answer, whatever its format.
"""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import UUID

import numpy as np
from django.test import Client
from PIL import Image

from cases import models
from cases.permissions import Role
from cases.services.audit import access_event_record
from cases.services.tokens import token_create
from cases.wsi.delivery import FoundSlide
from retrieval.models import EmbeddingModel, SearchHit, SearchQuery, SlideEmbedding, SlideIndex
from tests.factories import (
    CaseFactory,
    DepartmentFactory,
    PatientFactory,
    ReportFactory,
    SlideFactory,
    SlideImageFactory,
    SpecimenFactory,
    UserFactory,
    make_member,
)
from tests.permissions.boards_world import BOARD_KINDS, put_board
from tests.permissions.exports_world import EXPORT_KINDS, put_exports
from tests.permissions.openings_world import OPENING_KINDS, put_openings
from tests.permissions.pixels import give_pixels
from tests.permissions.terms import add_term, intake_of

PLACES = ("private", "shared", "foreign")
MISSING = UUID("00000000-0000-4000-8000-000000000000")
MISSING_OF = {
    "department": "no-such-code",
    "department_pk": 0,
    "accession": "S26-missing",
    "hit": 0,
}
WORD = "carcinoma"  # in every report: a search for it finds them all

# Kinds of a department that no cohort opens, not even where their place is shared.
NEVER_SHARED = BOARD_KINDS | OPENING_KINDS | frozenset((
    "upload", "upload_failed", "upload_ready", "upload_file", "item", "department",
    "department_pk", "accession", "term",
))  # fmt: skip
# A researcher knows of none of these, which name patients.
UNVEILED = NEVER_SHARED - BOARD_KINDS - {"department", "department_pk", "term"} | {"region"}
# Two more places of `home`: slides of the shared case that are not, or no more, in the cohort.
BESIDE = ("beside", "removed")


@dataclass(frozen=True)
class Actor:
    """Who asks: by session (user) or by token, and what of the world is theirs to see."""

    name: str
    letter: str  # the role in the own department: P, T, R, D, or "" without one
    places: frozenset[str]
    user: Any = None
    token_departments: tuple[Any, ...] | None = None
    token_lacks_scope: bool = False

    @property
    def by_token(self) -> bool:
        """Return whether the actor comes with a token instead of a session."""
        return self.token_departments is not None

    def sees(self, kind: str, place: str) -> bool:
        """Return whether the object of this kind in this place exists for the actor."""
        if self.name == "partner" and kind in NEVER_SHARED | EXPORT_KINDS:
            return False
        if self.letter == "R" and (kind in UNVEILED or (kind, place) == ("search", "private")):
            return False  # the second is a colleague's question, in words
        return place in self.places


@dataclass
class World:
    """Ids by kind and place, texts that betray a place, and the actors."""

    ids: dict[str, dict[str, Any]] = field(default_factory=dict)
    markers: dict[str, set[str]] = field(default_factory=dict)
    actors: list[Actor] = field(default_factory=list)
    askers: dict[str, Any] = field(default_factory=dict)
    clients: dict[Any, Client] = field(default_factory=dict)

    def put(self, kind: str, place: str, row: Any, *texts: str, hidden_as: str = "") -> None:
        """Remember a row and the texts that betray it. hidden_as: the place they betray."""
        self.ids.setdefault(kind, {})[place] = row.pk
        self.markers.setdefault(hidden_as or place, set()).update({str(row.pk), *texts})

    def id(self, kind: str, place: str) -> Any:
        """Return the id of the object there; for the place "missing" one that nothing has."""
        if place == "missing":
            return MISSING_OF.get(kind, MISSING)
        return self.ids[kind][place]

    def own_slide_image(self, place: str) -> Any:
        """Return a slide image of the department that owns the place, not yet in its cohort."""
        return self.id("slide_image", "private" if place == "shared" else place)

    def client(self, actor: Actor, view_scopes: frozenset[str]) -> Client:
        """Return a client that asks as this actor. view_scopes: what the route asks of tokens."""
        scopes = set(models.ApiToken.Scope.values)
        if actor.token_lacks_scope:
            scopes -= view_scopes
        key = (actor.name, frozenset(scopes) if actor.by_token else None)
        if key not in self.clients:
            self.clients[key] = self._client(actor, scopes)
        return self.clients[key]

    def _client(self, actor: Actor, scopes: set[str]) -> Client:
        client = Client()
        if actor.by_token:
            _token, key = token_create(
                user=actor.user, name="table", scopes=scopes, departments=actor.token_departments
            )
            return Client(headers={"Authorization": f"Bearer {key}"})
        if actor.user is not None:
            client.force_login(actor.user)
        return client


def make_world() -> World:
    """Build the cast and one object of each kind in each place."""
    world = World()
    home, away, partner = (
        DepartmentFactory(code=code, name=f"Name-of-{code}") for code in ("home", "away", "partner")
    )
    _cast(world, home, away, partner)
    embedding_model = EmbeddingModel.objects.create(
        name="tiny",
        modality="image",
        encoder="tiny",
        aggregator="prototypes",
        weights_sha256="0" * 64,
        dimension=4,
        token_count=2,
        is_active=True,
    )
    for place in PLACES:
        department = away if place == "foreign" else home
        world.ids.setdefault("department", {})[place] = department.code
        world.ids.setdefault("department_pk", {})[place] = department.pk
        image = _clinical(world, place, department)
        _index(world, place, image, embedding_model)
        _cohort(world, place, department, image)
        put_board(world, place, department, image)
        put_openings(world, place, department, image)
        _account(world, place, department)
        add_term(world, place, department)
        _upload(world, place, department)
        put_exports(world, place, department, image)
        world.ids.setdefault("accession", {})[place] = f"S26-{place}"
    models.Cohort.objects.get(name="Cohort-shared").shared_with.add(partner)
    _hidden_glass(world, home, embedding_model)
    by_name = {actor.name: actor.user for actor in world.actors}
    for place in PLACES:
        asker = by_name["stranger" if place == "foreign" else "pathologist"]
        world.askers[place] = asker
        _search(world, place, asker, embedding_model)
    return world


def _cast(world: World, home: Any, away: Any, partner: Any) -> None:
    own = frozenset({"private", "shared", "private intake", "shared intake", *BESIDE})
    foreign = frozenset({"foreign"})
    members = {
        letter: make_member(home, role)
        for letter, role in (
            ("P", Role.PATHOLOGIST),
            ("T", Role.TECHNICIAN),
            ("R", Role.RESEARCHER),
            ("D", Role.DEPARTMENT_ADMINISTRATOR),
        )
    }
    both = make_member(home, Role.PATHOLOGIST)
    models.Membership.objects.create(user=both, department=away, role=Role.PATHOLOGIST)
    world.actors = [
        Actor("pathologist", "P", own, members["P"]),
        Actor("technician", "T", own, members["T"]),
        Actor("researcher", "R", own, members["R"]),
        Actor("department_administrator", "D", own, members["D"]),
        Actor(
            "system_administrator",
            "",
            frozenset(),
            make_member(None, Role.SYSTEM_ADMINISTRATOR, is_staff=True),
        ),
        Actor("superuser", "", frozenset(), UserFactory(is_staff=True, is_superuser=True)),
        Actor("anonymous", "", frozenset()),
        Actor("stranger", "P", foreign, make_member(away, Role.PATHOLOGIST)),
        Actor("partner", "P", frozenset({"shared"}), make_member(partner, Role.PATHOLOGIST)),
        Actor("token", "P", own, members["P"], ()),
        Actor("token narrowed", "P", foreign, both, (away,)),
        Actor("token without scope", "P", own, members["P"], (), token_lacks_scope=True),
    ]


def _clinical(world: World, place: str, department: Any) -> models.SlideImage:
    patient = PatientFactory(
        department=department,
        mrn=f"MRN-{place}",
        family_name=f"Family-{place}",
        given_name=f"Given-{place}",
    )
    world.put("patient", place, patient, patient.mrn, patient.family_name, patient.given_name)
    case = CaseFactory(
        department=department,
        patient=patient,
        accession_number=f"S26-{place}",
        clinical_history=f"History-{place}",
    )
    world.put("case", place, case, case.accession_number, case.clinical_history)
    specimen = SpecimenFactory(case=case, organ=f"Organ-{place}")
    block = models.Block.objects.create(specimen=specimen, label=f"Block-{place}")
    slide = SlideFactory(
        case=case, specimen=specimen, block=block, label=f"Glass-{place}", stain=f"Stain-{place}"
    )
    world.put("specimen", place, specimen, specimen.organ)
    world.put("slide", place, slide, slide.label, slide.stain)
    image = give_pixels(SlideImageFactory.build(slide=slide, department=department))
    world.put("slide_image", place, image)
    report = ReportFactory(
        case=case,
        diagnosis_line=f"Diagnosis-{place}",
        diagnosis_code=f"Code-{place}",
        diagnosis_text=f"{WORD} of Text-{place}",
        status="preliminary" if place == "private" else "final",
    )
    world.put("report", place, report, report.diagnosis_line, report.diagnosis_code)
    return image


def _embed(image: models.SlideImage, model: EmbeddingModel, nearness: float) -> None:
    vector = np.array([1, nearness, 0, 0], np.float32)
    vector /= np.linalg.norm(vector)
    tokens = np.stack([vector, vector]).astype("<f2")
    place = {"x_l0": 0, "y_l0": 0, "size_l0": 64, "share": 0.5}
    SlideEmbedding.objects.create(
        slide_image=image,
        department=image.department,
        model=model,
        vector=vector.tolist(),
        mosaic=tokens.tobytes(),
        places=[place, place],
    )


def _index(world: World, place: str, image: models.SlideImage, model: EmbeddingModel) -> None:
    index = SlideIndex.objects.create(
        department=image.department,
        slide_image=image,
        model=model,
        state="failed",
        reason_code="broken",
        reason=f"Reason-{place}",
    )
    world.put("index", place, index, index.reason)
    _embed(image, model, 0.1 * (*PLACES, *BESIDE).index(place))


def _account(world: World, place: str, department: Any) -> None:
    """Put what the administration shows of a department's people."""
    user = make_member(department, Role.TECHNICIAN, username=f"account-{place}")
    world.ids.setdefault("user", {})[place] = user.pk
    world.ids.setdefault("membership", {})[place] = user.memberships.get().pk
    token, _key = token_create(
        user=user, name=f"Token-{place}", scopes=["cases:read"], departments=[department]
    )
    world.ids.setdefault("api_token", {})[place] = token.pk
    event = access_event_record(user=user, action="view", department_id=department.pk)
    world.ids.setdefault("access_event", {})[place] = event.pk


def _cohort(world: World, place: str, department: Any, image: models.SlideImage) -> None:
    cohort = models.Cohort.objects.create(
        department=department, name=f"Cohort-{place}", description=f"Purpose-{place}"
    )
    world.put("cohort", place, cohort, cohort.name, cohort.description)
    entry = models.CohortEntry.objects.create(cohort=cohort, slide_image=image)
    world.put("entry", place, entry)


def _upload(world: World, place: str, department: Any) -> None:
    upload = models.SlideUpload.objects.create(
        department=department, accession_number=f"Announced-{place}", mrn=f"Announced-MRN-{place}"
    )
    failed = models.SlideUpload.objects.create(
        department=department,
        accession_number=f"Broken-{place}",
        state="failed",
        reason_code="broken",
        reason=f"Upload-reason-{place}",
    )
    file = models.UploadFile.objects.create(
        upload=upload, name=f"File-{place}.svs", size_bytes=5, offset_bytes=0
    )
    ready = models.SlideUpload.objects.create(department=department)
    models.UploadFile.objects.create(upload=ready, name="all here", size_bytes=0)
    item = models.UploadItem.objects.create(
        department=department,
        upload=failed,
        name=f"Item-{place}",
        key="1",
        state="unmatched",
        reason_code="mrn_missing",
        reason=f"Item-reason-{place}",
        facts=FoundSlide(
            key="1",
            name=f"Item-{place}",
            files=("slide.tiff",),
            main_file="slide.tiff",
            source_format="vendor",
            vendor="generic-tiff",
            content_sha256="0" * 64,
            size_bytes=1,
            width_l0=512,
            height_l0=512,
            level_count=1,
            family_name=f"Facts-{place}",
        ).to_json(),
    )
    hidden_as = intake_of(place)
    for kind, row, texts in (
        ("upload", upload, [upload.accession_number, upload.mrn]),
        ("upload_failed", failed, [failed.accession_number, failed.reason]),
        ("upload_ready", ready, []),
        ("upload_file", file, [file.name]),
        ("item", item, [item.name, item.reason, f"Facts-{place}"]),
    ):
        world.put(kind, place, row, *texts, hidden_as=hidden_as)


def _hidden_glass(world: World, home: Any, model: EmbeddingModel) -> None:
    """Add to the shared case a slide that is not in the cohort, and one that has left it."""
    case = models.Case.objects.get(pk=world.ids["case"]["shared"])
    cohort = models.Cohort.objects.get(pk=world.ids["cohort"]["shared"])
    for place in BESIDE:
        specimen = SpecimenFactory(case=case, label=f"Z{place}", organ="Organ-shared")
        slide = SlideFactory(
            case=case, specimen=specimen, label=f"Glass-{place}", stain=f"Stain-{place}"
        )
        image = give_pixels(SlideImageFactory.build(slide=slide, department=home))
        _index(world, place, image, model)
        world.put("slide", place, slide, slide.label, slide.stain)
        world.put("slide_image", place, image)
    removed = models.CohortEntry.objects.create(
        cohort=cohort,
        slide_image=image,
        removed_at=image.created_at,
        removed_reason="Why-removed",
    )
    world.put("entry", "removed", removed, "Why-removed")


def _jpeg() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 64), "pink").save(buffer, "JPEG")
    return buffer.getvalue()


def _search(world: World, place: str, user: Any, model: EmbeddingModel) -> None:
    """Keep a question of the owner's whose stored hits are all slides of the world."""
    embedding = SlideEmbedding.objects.get(slide_image=world.ids["slide_image"][place])
    text = "" if place == "shared" else f"Words-{place}"
    query = SearchQuery.objects.create(
        user=user,
        scope_department_ids=[embedding.department_id],
        slide_image_id=world.ids["slide_image"][place],
        image_jpeg=_jpeg(),
        text=text,
        image_model=model,
        vector=embedding.vector,
        mosaic=embedding.mosaic,
        places=embedding.places,
    )
    world.put("search", place, query, *([text] if text else []))
    for rank, image in enumerate(models.SlideImage.objects.order_by("created_at"), start=1):
        hit = SearchHit.objects.create(
            query=query,
            rank=rank,
            slide_image=image,
            department=image.department,
            score=1 / rank,
            image_similarity=0.9,
            image_rank=rank,
        )
        if image.pk == query.slide_image_id:
            world.ids.setdefault("hit", {})[place] = hit.pk
