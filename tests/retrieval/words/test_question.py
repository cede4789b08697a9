"""What a pathologist's words ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.engine.words.question import Question, parse
from retrieval.engine.words.terms import Dictionary, DictionaryError, Entry, built_in, read_entries


def ask(text: str, **more) -> Question:
    return parse(text, built_in(), **more)


def labels(question: Question) -> list[list[str]]:
    return [[concept.label for concept in group] for group in question.asked]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("IDC", "invasive ductal carcinoma"),
        ("DCIS", "ductal carcinoma in situ"),
        ("LCIS", "lobular carcinoma in situ"),
        ("NSCLC", "non-small cell lung carcinoma"),
        ("adenoCA", "adenocarcinoma"),
        ("RCC", "renal cell carcinoma"),
        ("HCC", "hepatocellular carcinoma"),
        ("GBM", "glioblastoma"),
        ("DLBCL", "diffuse large B-cell lymphoma"),
        ("CRC", "colorectal carcinoma"),
        ("GIST", "gastrointestinal stromal tumor"),
        ("MDS", "myelodysplastic syndrome"),
        ("H&E", "hematoxylin and eosin"),
        ("TTF1", "TTF-1"),
        ("infiltrating ductal carcinomas", "invasive ductal carcinoma"),
        ("phaeochromocytoma", None),
        ("tumour", None),
        ("Nierenzellkarzinom", "renal cell carcinoma"),
    ],
)
def test_abbreviations_and_synonyms(typed, meant):
    question = ask(typed)
    (group,) = question.asked
    if meant:
        assert group[0].label == meant
        assert any(chip.text == f"{typed} = {meant}" for chip in question.chips)
    for concept in group:
        assert concept.exact, typed


def test_british_and_american_spelling_meet():
    assert ask("leukaemia").asked[0][0].exact == ask("leukemia").asked[0][0].exact
    assert "tumor" in ask("tumour").asked[0][0].exact
    assert ask("oesophageal").asked[0][0].label == "esophagus"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("SCC skin", {"squamous cell carcinoma"}),
        ("PIN prostate", {"prostatic intraepithelial neoplasia"}),
        ("PIN penis", {"penile intraepithelial neoplasia"}),
        ("PIN", {"prostatic intraepithelial neoplasia", "penile intraepithelial neoplasia"}),
        ("SCC", {"squamous cell carcinoma", "small cell carcinoma"}),
        ("ACC adrenal", {"adrenocortical carcinoma"}),
        ("AML kidney", {"angiomyolipoma"}),
        ("GCT ovarian", {"germ cell tumor", "granulosa cell tumor"}),
    ],
)
def test_ambiguous_abbreviations_go_by_the_organ_or_offer_both(typed, meant):
    assert set(ask(typed).asked[0][0].label.split(" or ")) == meant


def test_the_filter_on_an_organ_tells_too():
    assert (
        ask("PIN", organs=["Prostate"]).asked[0][0].label == "prostatic intraepithelial neoplasia"
    )


def test_abbreviations_that_mean_something_else_are_not_searched_for():
    """Who asks for small cell carcinoma is not given every SCC."""
    (small,) = ask("small cell carcinoma").asked[0]
    assert "scc" not in small.exact
    assert "scc" in ask("SCC").asked[0][0].exact
    assert ask("net").asked[0][0].kind == "word"
    assert ask("NET").asked[0][0].label == "neuroendocrine tumor"


def test_a_wide_term_means_the_narrow_ones_and_not_the_other_way():
    assert "clear cell renal cell carcinoma" in ask("RCC").asked[0][0].exact
    assert "renal cell carcinoma" not in ask("ccRCC").asked[0][0].exact
    assert "melanoma" not in ask("Merkel cell carcinoma").asked[0][0].exact


@pytest.mark.parametrize(
    ("typed", "asked", "denied", "left_out"),
    [
        ("IDC without necrosis or DCIS", 1, ["necrosis", "ductal carcinoma in situ"], []),
        ("HER2 negative breast cancer", 1, ["HER2"], []),
        ("no evidence of malignancy", 0, ["malignant neoplasm"], []),
        ("absence of necrosis", 0, ["necrosis"], []),
        ("carcinoma -squamous", 1, [], ["squamous"]),
        ("carcinoma NOT signet ring", 1, [], ["signet ring cells"]),
        ("carcinoma but not signet ring or necrosis", 1, [], ["signet ring cells", "necrosis"]),
        ('carcinoma -"small cell"', 1, [], ["“small cell”"]),
        ("-signet-ring carcinoma", 1, [], ["signet ring cells"]),
        ("non-small cell carcinoma", 1, [], []),
        ("rule out carcinoma", 1, [], []),
        ("triple negative breast cancer", 1, [], []),
        ("carcinoma -G3", 1, [], ["G3"]),
    ],
)
def test_what_is_denied_and_left_out(typed, asked, denied, left_out):
    question = ask(typed)
    assert len(question.asked) == asked
    assert [concept.label for concept in question.denied] == denied
    assert [concept.label for concept in question.left_out] == left_out
    assert question.is_strict is bool(denied or left_out)


def test_or_joins_and_quotes_are_kept_as_they_are():
    assert labels(ask("squamous OR small or big")) == [["squamous", "small", "big"]]
    question = ask('"signet ring" gastric')
    assert labels(question) == [["“signet ring”"], ["stomach"]]
    assert question.asked[0][0].quoted
    assert ask('"').asked == ask("").asked == ()


def test_like_this_but_makes_the_words_a_condition():
    for typed in (
        "like this slide, but signet ring",
        "but signet ring",
        "Similar to this case but with signet ring",
    ):
        question = ask(typed)
        assert question.is_condition, typed
        assert labels(question) == [["signet ring cells"]], typed
    assert not ask("signet ring").is_condition
    assert not ask("like this").is_condition


def test_grades_stages_and_sides():
    question = ask("right G3 pT2 N1 stage IIIA 8140/3")
    tags = [group[0].tags[0] for group in question.asked]
    assert tags == ["x0right", "x0grade3", "x0t2", "x0n1", "x0stage3a", "x0code8140s3"]
    assert [chip.kind for chip in question.chips] == ["side", "grade", "stage", "stage", "code"]


def test_what_is_said_to_the_encoder_of_meaning():
    assert ask("IDC G3").spoken == "invasive ductal carcinoma G3"
    assert ask("keratin pearls").spoken == "keratin pearls"
    assert ask("show me cases with carcinoma -squamous").spoken == "carcinoma"


def test_words_around_a_question_ask_for_nothing():
    assert labels(ask("please show me all cases with granuloma of the lung")) == [
        ["granulomatous inflammation"],
        ["lung"],
    ]


def test_a_departments_own_terms_come_first_and_keep_what_the_meaning_meant():
    own = Dictionary.of([])
    own = built_in().extended(
        [
            Entry(
                "dx",
                "invasive ductal carcinoma",
                ("XQ",),
                narrower=("invasive ductal carcinoma",),
                is_own=True,
            )
        ]
    )
    concept = parse("XQ", own).asked[0][0]
    assert concept.label == "invasive ductal carcinoma"
    assert {"xq", "infiltrating ductal carcinoma", "idc"} <= set(concept.exact)
    assert "xq" in parse("invasive ductal carcinoma", own).asked[0][0].exact
    assert parse("XQ", built_in()).unknown == {"xq"}


def test_corrections_are_shown():
    question = ask("carcnoma", corrections={"carcnoma": "carcinoma"})
    assert labels(question) == [["carcinoma"]]
    assert question.chips[0].text == "carcnoma read as carcinoma"
    assert ask("carcnoma").unknown == {"carcnoma"}


def test_the_dictionary_is_large_and_whole():
    dictionary = built_in()
    assert len(dictionary.entries) > 500
    assert len({(entry.kind, entry.preferred) for entry in dictionary.entries}) == len(
        dictionary.entries
    )
    for entry in dictionary.entries:
        for name in entry.narrower:
            assert dictionary.searched_names(entry), entry
            assert name != entry.preferred


@pytest.mark.parametrize(
    "line", ["dx | x", "dy | a | | | b", "dx | a | nowhere | | b", "dx | | | | b"]
)
def test_a_line_that_cannot_be_read_is_named(line):
    with pytest.raises(DictionaryError, match="Line 2"):
        read_entries(f"# head\n{line}")


@given(st.text(max_size=120))
def test_any_question_can_be_read(text):
    question = ask(text)
    assert all(group for group in question.asked)
    for group in question.asked:
        for concept in group:
            assert concept.quoted or concept.exact or concept.tags
