"""API v1 of searches: ask, and read answers as this caller may see them."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from cases.api.audited import UUID_PATTERN
from cases.api.fields import DepartmentCodeField
from cases.models import ApiToken, Cohort, SlideImage
from retrieval import selectors
from retrieval.filters import SearchFilters
from retrieval.models import SearchQuery
from retrieval.selectors import ResultHit, Results
from retrieval.services.looks import search_shown_record
from retrieval.services.query_mosaics import Region
from retrieval.services.search import LIMIT_MAX, TEXT_MAX, WEIGHT_MAX, search_refine, search_run
from retrieval.services.search_evidence import STAGES


class RegionSerializer(serializers.Serializer):
    """A box in level-0 pixels of the slide image; what lies beyond its edge is cut off."""

    x = serializers.IntegerField()
    y = serializers.IntegerField()
    width = serializers.IntegerField(min_value=1)
    height = serializers.IntegerField(min_value=1)


class _VisibleKey(serializers.PrimaryKeyRelatedField):
    """A row by its id, among what the caller may see; hidden and missing are told the same."""

    def get_queryset(self) -> QuerySet:
        return super().get_queryset().visible_to(self.context["request"].user)


class AskSerializer(serializers.Serializer):
    """A question: `slide_image` (with `region`), or `image`, or `text`, or tissue and text."""

    slide_image = _VisibleKey(
        queryset=SlideImage.objects.select_related("slide__case__patient"),
        required=False,
        allow_null=True,
    )
    region = RegionSerializer(required=False, allow_null=True)
    image = serializers.FileField(
        required=False, help_text="PNG or JPEG, as multipart/form-data; needs image_mpp"
    )
    image_mpp = serializers.FloatField(
        required=False, allow_null=True, help_text="Micrometres per pixel of the image"
    )
    text = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=TEXT_MAX,
        help_text="Words; with quotes, -word, NOT, OR, without (docs/search.md)",
    )
    is_literal = serializers.BooleanField(
        default=False, help_text="Take the words as typed: no synonyms, no denial"
    )
    department = DepartmentCodeField(required=False)
    organ = serializers.CharField(required=False, allow_blank=True, max_length=80)
    stain = serializers.CharField(required=False, allow_blank=True, max_length=80)
    diagnosis_code = serializers.CharField(required=False, allow_blank=True, max_length=40)
    received_from = serializers.DateField(required=False, allow_null=True)
    received_to = serializers.DateField(required=False, allow_null=True)
    cohort = _VisibleKey(queryset=Cohort.objects.all(), required=False, allow_null=True)
    image_weight = serializers.FloatField(default=1.0, min_value=0, max_value=WEIGHT_MAX)
    text_weight = serializers.FloatField(default=1.0, min_value=0, max_value=WEIGHT_MAX)
    include_same_patient = serializers.BooleanField(default=False)
    limit = serializers.IntegerField(default=50, min_value=1, max_value=LIMIT_MAX)

    def run(self, user: Any) -> SearchQuery:
        """Answer the validated question."""
        asked = self.validated_data
        region, image = asked.get("region"), asked.get("image")
        return search_run(
            user,
            slide_image=asked.get("slide_image"),
            region=Region(region["x"], region["y"], region["width"], region["height"])
            if region
            else None,
            image=image.read() if image else None,
            image_mpp=asked.get("image_mpp"),
            text=asked.get("text", ""),
            is_literal=asked["is_literal"],
            filters=SearchFilters.from_cleaned(asked),
            image_weight=asked["image_weight"],
            text_weight=asked["text_weight"],
            include_same_patient=asked["include_same_patient"],
            limit=asked["limit"],
        )


class UnderstoodSerializer(serializers.Serializer):
    """A piece of what was understood of the words."""

    kind = serializers.CharField(
        help_text="term, grade, stage, side, code, phrase, not, typo, only"
    )
    text = serializers.CharField()


class SearchSerializer(serializers.ModelSerializer):
    """A question as it was asked."""

    understood = serializers.SerializerMethodField()
    stages = serializers.SerializerMethodField()

    class Meta:
        model = SearchQuery
        fields = (
            "id",
            "created_at",
            "slide_image",
            "region",
            "text",
            "is_literal",
            "understood",
            "refined_from",
            "image_weight",
            "text_weight",
            "include_same_patient",
            "notices",
            "seconds",
            "stages",
        )
        read_only_fields = fields

    @extend_schema_field(UnderstoodSerializer(many=True))
    def get_understood(self, query: SearchQuery) -> list[dict[str, str]]:
        """Return what was understood of the words."""
        return query.understood.get("chips", [])

    @extend_schema_field(serializers.DictField(child=serializers.FloatField()))
    def get_stages(self, query: SearchQuery) -> dict[str, float]:
        """Return the seconds of each stage: how it was planned rests on all rows, and is kept."""
        return {name: value for name, value in query.timings.items() if name in STAGES}


class PairSerializer(serializers.Serializer):
    """Two matched patches: x_l0, y_l0, size_l0 and share of the tissue, of each."""

    query = serializers.DictField(child=serializers.FloatField())
    candidate = serializers.DictField(child=serializers.FloatField())
    similarity = serializers.FloatField()


class PlaceSerializer(serializers.Serializer):
    """Where on the slide the best match lies: a box in level-0 pixels, whose size is mpp."""

    x = serializers.IntegerField(source="x_l0")
    y = serializers.IntegerField(source="y_l0")
    width = serializers.IntegerField(source="size_l0")
    height = serializers.IntegerField(source="size_l0")


class HitSerializer(serializers.Serializer):
    """A slide that answers. Ranks count what the caller may see."""

    rank = serializers.IntegerField()
    slide_image = serializers.UUIDField(source="slide_image.pk")
    case = serializers.UUIDField(source="case.pk")
    patient = serializers.UUIDField(source="patient.pk")
    department = serializers.CharField(source="slide_image.department.code")
    accession_number = serializers.CharField(source="case.accession_number")
    slide_label = serializers.CharField(source="slide_image.slide.label")
    organ = serializers.SerializerMethodField()
    stain = serializers.CharField(source="slide_image.slide.stain")
    diagnosis_line = serializers.SerializerMethodField()
    diagnosis_code = serializers.SerializerMethodField()
    image_similarity = serializers.FloatField(source="hit.image_similarity", allow_null=True)
    image_rank = serializers.IntegerField(allow_null=True)
    text_similarity = serializers.FloatField(source="hit.text_similarity", allow_null=True)
    tissue_text_similarity = serializers.FloatField(
        source="hit.tissue_text_similarity",
        allow_null=True,
        help_text="Cosine of the words to the slide, by a model aligned with reports",
    )
    text_rank = serializers.IntegerField(allow_null=True)
    full_text_match = serializers.BooleanField(source="hit.full_text_match")
    same_patient = serializers.BooleanField()
    patient_rank = serializers.IntegerField(
        help_text="Rank of the first hit of the same person: equal ranks are one answer"
    )
    is_synthetic = serializers.BooleanField(source="slide_image.is_synthetic")
    excerpt_html = serializers.CharField(
        source="excerpt", help_text="Escaped; the words asked for are in <mark>"
    )
    pairs = PairSerializer(source="hit.pairs", many=True)
    place = serializers.SerializerMethodField()
    mpp = serializers.FloatField(
        source="slide_image.mpp", allow_null=True, help_text="Micrometres per level-0 pixel"
    )

    @extend_schema_field(PlaceSerializer(allow_null=True))
    def get_place(self, hit: ResultHit) -> dict[str, Any] | None:
        """Return the place of the best pair, or null where no tissue was compared."""
        pairs = hit.hit.pairs
        return PlaceSerializer(pairs[0]["candidate"]).data if pairs else None

    def get_organ(self, hit: ResultHit) -> str:
        """Return the organ of the specimen, or an empty text."""
        specimen = hit.slide_image.slide.specimen
        return specimen.organ if specimen else ""

    def get_diagnosis_line(self, hit: ResultHit) -> str:
        """Return the diagnosis of the signed current report, or an empty text."""
        return hit.diagnosis.diagnosis_line if hit.diagnosis else ""

    def get_diagnosis_code(self, hit: ResultHit) -> str:
        """Return the code of the signed current report, or an empty text."""
        return hit.diagnosis.diagnosis_code if hit.diagnosis else ""


class VoteLineSerializer(serializers.Serializer):
    """A diagnosis, the patients who had it, and the ranks of the hits that say so."""

    label = serializers.CharField()
    patients = serializers.IntegerField()
    share = serializers.FloatField()
    ranks = serializers.ListField(child=serializers.IntegerField())
    base_rate = serializers.FloatField(help_text="Share of all visible patients who have it")


class VoteSerializer(serializers.Serializer):
    """The vote of the nearest patients: an aid and no diagnosis."""

    patients = serializers.IntegerField(source="vote.patients")
    without_diagnosis = serializers.IntegerField(source="vote.without_diagnosis")
    agreement = serializers.FloatField(
        source="vote.weight.agreement", help_text="Share of the voters with the leading diagnosis"
    )
    expected_agreement = serializers.FloatField(
        source="vote.weight.expected",
        allow_null=True,
        help_text="How often neighbours as near as these had the same diagnosis; null: unknown",
    )
    abstains = serializers.BooleanField(source="vote.weight.abstains")
    reason = serializers.CharField(
        source="vote.weight.reason", help_text="thin, far, divided, or empty"
    )
    base_rate_patients = serializers.IntegerField(source="vote.base_rates.patients")
    lines = VoteLineSerializer(many=True, source="vote_evidence")


class ResultsSerializer(serializers.Serializer):
    """The answer: the question, its hits and the vote."""

    search = SearchSerializer(source="query")
    models = serializers.SerializerMethodField()
    disclaimer = serializers.SerializerMethodField()
    hits = HitSerializer(many=True)
    vote = VoteSerializer(source="*")

    def get_models(self, results: Results) -> list[str]:
        """Return the names of the models that the answer rests on."""
        return [model.name for model in selectors.models_shown(results.query)]

    def get_disclaimer(self, results: Results) -> str:
        """Return what every reader of an answer must know."""
        return "An aid and no diagnosis."


class SearchViewSet(ListModelMixin, viewsets.GenericViewSet):
    """Ask by slide, region, image or words, and read answers again."""

    read_scope = write_scope = ApiToken.Scope.SEARCH
    lookup_value_regex = UUID_PATTERN
    parser_classes = (JSONParser, MultiPartParser)
    serializer_class = SearchSerializer
    ordering_fields = ("created_at",)
    ordering = ("-created_at",)

    def get_queryset(self) -> QuerySet[SearchQuery]:
        """Return the caller's own questions."""
        if getattr(self, "swagger_fake_view", False):
            return SearchQuery.objects.none()
        return selectors.searches_of(self.request.user)

    @extend_schema(request=AskSerializer, responses={201: ResultsSerializer})
    def create(self, request: Request) -> Response:
        """Ask, and get the answer with its hits and the vote."""
        serializer = AskSerializer(data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        query = serializer.run(request.user)
        answer = self._answer(request, query.pk)
        where = reverse("searches-detail", kwargs={"pk": query.pk}, request=request)
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": where})

    @extend_schema(responses=ResultsSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Return the answer to a question, one's own or shared, as far as the caller may see."""
        return Response(self._answer(request, pk))

    @extend_schema(request=None, responses={201: ResultsSerializer})
    @action(detail=True, methods=["post"])
    def refine(self, request: Request, pk: str) -> Response:
        """Ask anew, moved by the caller's own relevant / not relevant marks on the answers."""
        query = selectors.search_visible_or_404(request.user, pk)
        refined = search_refine(request.user, query)
        answer = self._answer(request, refined.pk)
        where = reverse("searches-detail", kwargs={"pk": refined.pk}, request=request)
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": where})

    def _answer(self, request: Request, pk: UUID | str) -> dict[str, Any]:
        query = selectors.search_visible_or_404(request.user, pk)
        results = selectors.search_results(query, request.user)
        search_shown_record(
            user=request.user,
            query=query,
            patients=results.shown_patients(),
            hits=len(results.hits),
        )
        return ResultsSerializer(results, context=self.get_serializer_context()).data
