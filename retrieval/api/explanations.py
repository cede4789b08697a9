"""API v1 of explanations: why a slide was found, and what its tokens are made of."""

from typing import Any

from django.http import Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.models import ApiToken, SlideImage
from retrieval import selectors
from retrieval.services.explaining import (
    HitExplanation,
    SlideAttention,
    hit_explain,
    slide_attention,
)


class AttentionPlaceSerializer(serializers.Serializer):
    """The patch nearest to a token, level-0 pixels, and the part of the tissue it stands for."""

    x_l0 = serializers.IntegerField()
    y_l0 = serializers.IntegerField()
    size_l0 = serializers.IntegerField()
    share = serializers.FloatField()


class MatchSerializer(serializers.Serializer):
    """Two tokens that matched, and what the match adds to the similarity."""

    query_token = serializers.IntegerField()
    candidate_token = serializers.IntegerField()
    query = AttentionPlaceSerializer()
    candidate = AttentionPlaceSerializer()
    cosine = serializers.FloatField()
    contribution = serializers.FloatField()
    as_best_of_query = serializers.FloatField(source="forward")
    as_best_of_candidate = serializers.FloatField(source="backward")


class ExplanationSerializer(serializers.Serializer):
    """The image similarity taken apart: vector_part and all contributions add up to it."""

    search = serializers.UUIDField(source="query.pk")
    rank = serializers.IntegerField()
    slide_image = serializers.UUIDField(source="hit.slide_image_id")
    model = serializers.CharField(source="query.image_model.name")
    image_similarity = serializers.FloatField(source="hit.image_similarity")
    is_outdated = serializers.BooleanField(
        help_text="The slide was indexed again since: the parts are of the new index"
    )
    mosaic_share = serializers.FloatField()
    vector_part = serializers.FloatField(source="explanation.vector_part")
    token_part = serializers.FloatField(source="explanation.token_part")
    matches = serializers.SerializerMethodField()

    @extend_schema(responses=MatchSerializer(many=True))
    def get_matches(self, found: HitExplanation) -> list[dict[str, Any]]:
        """Return the matches, most first, each with the two places."""
        return [
            {
                "query_token": match.query_token,
                "candidate_token": match.candidate_token,
                "query": found.query_places[match.query_token],
                "candidate": found.candidate_places[match.candidate_token],
                "cosine": match.cosine,
                "contribution": match.contribution,
                "as_best_of_query": match.forward,
                "as_best_of_candidate": match.backward,
            }
            for match in found.explanation.matches
        ]


class AttentionSerializer(serializers.Serializer):
    """The patches of a slide, column by column: the n-th value of each list is of one patch."""

    slide_image = serializers.UUIDField(source="slide_image.pk")
    model = serializers.CharField(source="model.name")
    tokens = AttentionPlaceSerializer(source="places", many=True)
    size_l0 = serializers.IntegerField(help_text="Side of every patch, level-0 pixels")
    x_l0 = serializers.ListField(child=serializers.IntegerField())
    y_l0 = serializers.ListField(child=serializers.IntegerField())
    token = serializers.ListField(
        child=serializers.IntegerField(), help_text="The token that the patch belongs to most"
    )
    likeness = serializers.ListField(
        child=serializers.FloatField(), help_text="Cosine of the patch to that token"
    )
    weight = serializers.ListField(
        child=serializers.FloatField(),
        required=False,
        help_text="With ?token=: the share of the patch in that token; the shares add up to 1",
    )


class HitExplanationView(APIView):
    """Why a hit is like the question."""

    read_scope = ApiToken.Scope.SEARCH

    @extend_schema(responses=ExplanationSerializer)
    def get(self, request: Request, pk: str, rank: int) -> Response:
        """Return the parts of a hit's image similarity; `rank` as the caller sees it."""
        query = selectors.search_visible_or_404(request.user, pk)
        found = hit_explain(user=request.user, query=query, rank=rank)
        return Response(ExplanationSerializer(found).data)


class SlideAttentionView(APIView):
    """Which patches the tokens of a slide are made of."""

    read_scope = ApiToken.Scope.SEARCH

    @extend_schema(
        parameters=[OpenApiParameter("token", OpenApiTypes.INT, description="One token's shares")],
        responses=AttentionSerializer,
    )
    def get(self, request: Request, pk: str) -> Response:
        """Return each patch with its token, from the features kept by the active model."""
        slide_image = SlideImage.objects.select_related("slide__case").get_visible_or_404(
            request.user, pk=pk
        )
        token = _token(request.query_params.get("token"))
        found = slide_attention(user=request.user, slide_image=slide_image)
        if token is not None and token >= len(found.attention.weights):
            raise Http404("no such token")
        return Response(AttentionSerializer(_columns(found, token)).data)


def _token(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise serializers.ValidationError({"token": ["A number from 0."]})
    return int(text)


def _columns(found: SlideAttention, token: int | None) -> dict[str, Any]:
    weight = {} if token is None else {"weight": [float(w) for w in found.attention.weights[token]]}
    return {
        "slide_image": found.slide_image,
        "model": found.model,
        "places": found.places,
        "size_l0": found.size_l0,
        "x_l0": found.coords_l0[:, 0].tolist(),
        "y_l0": found.coords_l0[:, 1].tolist(),
        "token": found.attention.nearest.tolist(),
        "likeness": [round(float(value), 4) for value in found.attention.likeness],
        **weight,
    }
