"""Forms of the search pages. Choices come from rows that the user may see."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from cases.models import Cohort, Department
from retrieval.filters import SearchFilters
from retrieval.models import Feedback, SearchQuery
from retrieval.selectors_facets import Facets
from retrieval.services.query_images import MPP_MAX, MPP_MIN
from retrieval.services.query_mosaics import Region
from retrieval.services.search import TEXT_MAX, WEIGHT_MAX

CROP_MAX_PX = 768


class _Date(forms.DateField):
    widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})


def _weight() -> forms.FloatField:
    return forms.FloatField(
        label="",
        required=False,
        min_value=0,
        max_value=WEIGHT_MAX,
        widget=forms.NumberInput(attrs={"step": "0.1"}),
    )


class SearchForm(forms.Form):
    """A question: words, an image with its µm per pixel, a slide or region; filters, weights."""

    text = forms.CharField(
        label=_("Words"),
        required=False,
        max_length=TEXT_MAX,
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    is_literal = forms.BooleanField(
        label=_("Take the words as typed, without synonyms"), required=False
    )
    image = forms.FileField(
        label=_("Image"),
        required=False,
        widget=forms.FileInput(attrs={"accept": "image/png,image/jpeg"}),
    )
    image_mpp = forms.FloatField(
        label=_("µm per pixel of the image"),
        required=False,
        min_value=MPP_MIN,
        max_value=MPP_MAX,
        widget=forms.NumberInput(attrs={"step": "any", "placeholder": "0.5"}),
    )
    slide_image = forms.UUIDField(required=False, widget=forms.HiddenInput)
    repeat = forms.UUIDField(required=False, widget=forms.HiddenInput)
    x = forms.IntegerField(required=False, widget=forms.HiddenInput)
    y = forms.IntegerField(required=False, widget=forms.HiddenInput)
    width = forms.IntegerField(required=False, widget=forms.HiddenInput)
    height = forms.IntegerField(required=False, widget=forms.HiddenInput)

    department = forms.ModelChoiceField(
        Department.objects.none(), label=_("Department"), required=False, empty_label=_("All")
    )
    organ = forms.ChoiceField(label=_("Organ"), required=False)
    stain = forms.ChoiceField(label=_("Stain"), required=False)
    diagnosis_code = forms.ChoiceField(label=_("Diagnosis"), required=False)
    received_from = _Date(label=_("Received from"), required=False)
    received_to = _Date(label=_("Received to"), required=False)
    cohort = forms.ModelChoiceField(
        Cohort.objects.none(), label=_("Cohort"), required=False, empty_label=_("All")
    )
    image_weight = _weight()
    text_weight = _weight()
    include_same_patient = forms.BooleanField(
        label=_("Include other slides of the same patient"), required=False
    )

    def __init__(self, *args: Any, facets: Facets, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        every = [("", _("All"))]
        self.fields["department"].queryset = facets.departments
        self.fields["cohort"].queryset = facets.cohorts
        self.fields["organ"].choices = every + [(value, value) for value in facets.organs]
        self.fields["stain"].choices = every + [(value, value) for value in facets.stains]
        self.fields["diagnosis_code"].choices = every + [
            (code, f"{code} {line}".strip()) for code, line in facets.diagnosis_codes
        ]
        for name in ("image_weight", "text_weight"):
            self.fields[name].label = (
                _("Weight of the tissue") if name == "image_weight" else _("Weight of the words")
            )
            self.initial.setdefault(name, 1.0)

    @staticmethod
    def initial_of(query: SearchQuery) -> dict[str, Any]:
        """Return what the form says when it is opened to ask an earlier question anew."""
        return {
            "text": query.text,
            "is_literal": query.is_literal,
            "repeat": query.pk if query.asks_by_image else None,
            **SearchFilters.from_json(query.filters).to_json(),
            "image_weight": query.image_weight,
            "text_weight": query.text_weight,
            "include_same_patient": query.include_same_patient,
        }

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        for name in ("image_weight", "text_weight"):
            if data.get(name) is None and name not in self.errors:
                data[name] = 1.0
        box = [data.get(name) for name in ("x", "y", "width", "height")]
        if any(value is not None for value in box) and None in box:
            self.add_error(None, _("A region needs x, y, width and height."))
        begin, end = data.get("received_from"), data.get("received_to")
        if begin and end and begin > end:
            self.add_error("received_to", _("This is before the first date."))
        return data

    def region(self) -> Region | None:
        """Return the region of a valid form, or None."""
        if self.cleaned_data["width"] is None:
            return None
        return Region(*(self.cleaned_data[name] for name in ("x", "y", "width", "height")))

    def box_as_sent(self) -> tuple[int, int, int, int] | None:
        """Return the box that the form was opened with, also where the form is not valid."""
        try:
            x, y, width, height = (
                int(self[name].value()) for name in ("x", "y", "width", "height")
            )
        except (TypeError, ValueError):
            return None
        return (x, y, width, height) if width > 0 and height > 0 else None

    @property
    def filter_fields(self) -> list[forms.BoundField]:
        """Return the fields that narrow the search, in the order of the page."""
        names = (
            "department",
            "organ",
            "stain",
            "diagnosis_code",
            "received_from",
            "received_to",
            "cohort",
        )
        return [self[name] for name in names]

    @property
    def weight_fields(self) -> list[forms.BoundField]:
        """Return the two weights."""
        return [self["image_weight"], self["text_weight"]]

    @property
    def filters_in_use(self) -> bool:
        """Return whether a filter is set, so that the page shows them opened."""
        return any(field.value() for field in self.filter_fields)


class FeedbackForm(forms.Form):
    """A verdict on one hit."""

    hit = forms.IntegerField()
    verdict = forms.ChoiceField(choices=Feedback.Verdict.choices)


class ImageCropForm(forms.Form):
    """A box of the stored picture and the longest side of what is sent."""

    x = forms.IntegerField(required=False, min_value=-100_000, max_value=100_000)
    y = forms.IntegerField(required=False, min_value=-100_000, max_value=100_000)
    width = forms.IntegerField(required=False, min_value=1, max_value=100_000)
    height = forms.IntegerField(required=False, min_value=1, max_value=100_000)
    size = forms.IntegerField(required=False, min_value=16, max_value=CROP_MAX_PX)

    def clean_size(self) -> int:
        return self.cleaned_data["size"] or CROP_MAX_PX

    def box(self) -> tuple[int, int, int, int] | None:
        """Return the box of a valid form, or None for the whole picture."""
        values = [self.cleaned_data[name] for name in ("x", "y", "width", "height")]
        return None if None in values else tuple(values)
