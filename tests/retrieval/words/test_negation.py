"""What reports deny and leave open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.engine.words.negation import Polarity
from retrieval.engine.words.reading import GAP, read_report, read_text
from retrieval.engine.words.tokens import clean

# Sentence -> (denied words, words left open); what is in neither is affirmed.
SENTENCES = {
    "No evidence of carcinoma.": ("carcinoma", ""),
    "no evidence of\ncarcinoma in the right breast": ("carcinoma", ""),
    "Negative for dysplasia, malignancy, or H. pylori.": ("dysplasia malignancy h pylori", ""),
    "Lymphovascular invasion: not identified": ("lymphovascular invasion", ""),
    "Necrosis: absent": ("necrosis", ""),
    "Necrosis - none": ("necrosis", ""),
    "Lymphatic invasion: Absent\nVenous invasion: Present": ("lymphatic invasion", ""),
    "Perineural invasion absent, lymphovascular invasion present.": ("perineural invasion", ""),
    "ER, PR and HER2 negative. Ki-67 is 80%.": ("er pr her2", ""),
    "Invasive ductal carcinoma, estrogen receptor negative, HER2 positive": (
        "estrogen receptor",
        "",
    ),
    "Invasive ductal carcinoma HER2 negative": ("her2", ""),
    "No necrosis, mitoses or vascular invasion is seen.": (
        "necrosis mitoses vascular invasion",
        "",
    ),
    "No necrosis, and the tumor invades the muscularis.": ("necrosis", ""),
    "The margins are negative for tumor.": ("tumor", ""),
    "All margins are free of tumor.": ("tumor", ""),
    "The lymph nodes are tumor-free.": ("tumor", ""),
    "All lymph nodes negative (0/12).": ("", ""),
    "Vascular invasion and perineural invasion are not identified.": (
        "vascular invasion perineural invasion",
        "",
    ),
    "No evidence of carcinoma in situ.": ("carcinoma in situ", ""),
    "No carcinoma in the left breast; carcinoma in the right breast.": ("carcinoma", ""),
    "Carcinoma is present but no necrosis.": ("necrosis", ""),
    "Negative for carcinoma with chronic inflammation.": ("carcinoma", ""),
    "The tumor is positive for CK7 and negative for CK20, TTF-1, and p40.": (
        "ck20 ttf 1 p40",
        "",
    ),
    "without evidence of metastasis": ("metastasis", ""),
    "Absence of necrosis.": ("necrosis", ""),
    "Carcinoma was ruled out.": ("carcinoma", ""),
    "Rule out carcinoma.": ("", "carcinoma"),
    "r/o lymphoma": ("", "lymphoma"),
    "Carcinoma cannot be excluded.": ("", "carcinoma"),
    "Kein Anhalt für Malignität. Ohne Nekrosen.": ("malignitaet nekrosen", ""),
    "Bile duct invasion: no": ("invasion", ""),
    "No evidence for a metastasis (clinically suspected carcinoma).": ("metastasis", ""),
    # These only look like denial.
    "Apical urethral margin negative": ("", ""),
    "Clinical history: none provided": ("", ""),
    "There is no increase in mitoses.": ("", ""),
    "Triple negative breast carcinoma.": ("", ""),
    "Invasive carcinoma of no special type.": ("", ""),
    "Negative margins.": ("", ""),
    "Block No. 3: carcinoma": ("", ""),
    "Non-small cell carcinoma": ("", ""),
    "Carcinoma, not otherwise specified": ("", ""),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_a_sentence_denies(sentence):
    read = read_text(clean(sentence))
    said = zip(read.tokens, read.polarity, strict=True)
    words = {polarity: [] for polarity in Polarity}
    for token, polarity in said:
        words[polarity].append(token.word)
    denied, left_open = SENTENCES[sentence]
    found = [w for w in words[Polarity.DENIED] if w not in {"and", "or", "in"}]
    assert found == [w for w in denied.split() if w != "in"]
    assert words[Polarity.OPEN] == left_open.split()


def test_grades_sides_and_organs_are_never_denied():
    read = read_report([("A", "No residual carcinoma of the left breast, grade 3.")])
    assert "x0left breast x0grade3" in read.affirmed["A"].replace(f" {GAP}", "")
    assert "carcinoma" not in read.affirmed["A"].split()
    assert "carcinoma" in read.denied["A"].split()


@given(
    st.text(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                "no",
                "not",
                "without",
                "negative",
                "for",
                "absent",
                "carcinoma",
                ",",
                ".",
                "\n",
                ":",
                "and",
                "or",
                "but",
                "is",
                "free",
                "G3",
                "pT2",
                "left",
                "-",
            ]
        )
    ).map(" ".join)
)
def test_any_text_can_be_read_and_no_word_is_both(text):
    read = read_report([("A", text), ("D", text)])
    for weight, affirmed in read.affirmed.items():
        assert affirmed == affirmed.strip()
        denied = read.denied.get(weight, "")
        kept = [w for w in affirmed.split() if not w.startswith("x0")]
        said = [w for w in denied.split() if w != GAP]
        assert len(said) <= len(kept)
