"""What pathologists write about each diagnosis: the sentences that the report grammar picks from.

Each section is a list of sentences in order, each a tuple of wordings; {slots} are filled in.
"""

from dataclasses import dataclass

Sentences = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Diagnosis:
    """One diagnosis of the demo archive. ICD-O-3 codes neoplasms; normal tissue has no code."""

    key: str
    organ: str
    line: str
    code: str
    procedures: tuple[str, ...]
    sites: tuple[str, ...]
    histories: tuple[str, ...]
    gross: Sentences
    microscopy: Sentences
    conclusion: Sentences
    ages: tuple[int, int]
    sex: str = ""


_LUNG = ("right upper lobe", "right lower lobe", "left upper lobe", "left lower lobe")
_COLON = ("cecum", "ascending colon", "transverse colon", "descending colon", "sigmoid colon")

DIAGNOSES = (
    Diagnosis(
        key="lung_adenocarcinoma",
        organ="Lung",
        line="Adenocarcinoma of the lung, acinar pattern predominant",
        code="8551/3",
        procedures=("Wedge resection", "Lobectomy"),
        sites=_LUNG,
        histories=(
            "Peripheral nodule of {size} cm on CT, PET positive.",
            "Never smoker, growing part-solid nodule in the {site}.",
            "Incidental mass in the {site}.",
        ),
        gross=(
            ("Received fresh, {procedure} of the {site}.", "Labelled {site}: a {procedure}."),
            (
                "A gray-white, firm nodule of {size} cm lies under the puckered pleura.",
                "On section an ill-defined tan mass, {size} cm across, with anthracotic centre.",
            ),
        ),
        microscopy=(
            (
                "Infiltrating glands of varied size with open lumina lie in a desmoplastic stroma.",
                "The tumor forms irregular acini lined by cuboidal to columnar cells.",
            ),
            (
                "Nuclei are round, vesicular, with prominent nucleoli.",
                "There is moderate nuclear pleomorphism with conspicuous nucleoli.",
            ),
            (
                "Lymphoid aggregates and carbon pigment are seen in the stroma.",
                "Adjacent lung shows patent alveoli with mildly thickened septa.",
            ),
            ("No keratinization is seen.", "Intracellular mucin is focally present."),
        ),
        conclusion=(
            ("Lung, {site}, {procedure}: adenocarcinoma, acinar predominant ({percent}%).",),
            ("Grade {grade}. Bronchial margin free.", "Pleura not involved (PL0)."),
        ),
        ages=(52, 78),
    ),
    Diagnosis(
        key="lung_squamous",
        organ="Lung",
        line="Squamous cell carcinoma of the lung, keratinizing",
        code="8071/3",
        procedures=("Bronchial biopsy", "Lobectomy"),
        sites=_LUNG,
        histories=(
            "Smoker, {pack} pack years, hemoptysis.",
            "Central mass with atelectasis of the {site}.",
        ),
        gross=(
            ("Received in formalin, {procedure} of the {site}.",),
            (
                "A gray, friable, centrally cavitated mass of {size} cm.",
                "Firm white tissue, {size} cm in greatest dimension, with dry flaky areas.",
            ),
        ),
        microscopy=(
            (
                "Solid nests and islands of polygonal cells with glassy eosinophilic cytoplasm.",
                "Sheets and nests of atypical squamous cells invade a fibrous stroma.",
            ),
            (
                "Keratin pearls and single-cell keratinization are easily found.",
                "Concentric keratin pearls lie in the centres of many nests.",
            ),
            (
                "Nuclei are hyperchromatic and vary in size; mitoses {mitoses} per 2 mm2.",
                "Marked nuclear pleomorphism, intercellular bridges focally.",
            ),
            ("The stroma carries a dense lymphoplasmacytic infiltrate.", "Necrosis is focal."),
        ),
        conclusion=(
            ("Lung, {site}, {procedure}: keratinizing squamous cell carcinoma.",),
            ("Moderately differentiated (G2).", "Poorly differentiated areas are included (G3)."),
        ),
        ages=(55, 82),
    ),
    Diagnosis(
        key="lung_normal",
        organ="Lung",
        line="Lung tissue without tumor",
        code="",
        procedures=("Wedge resection", "Transbronchial biopsy"),
        sites=_LUNG,
        histories=("Tissue away from a resected nodule.", "Exclusion of interstitial disease."),
        gross=(
            ("Received in formalin, {procedure} of the {site}.",),
            ("Spongy, crepitant, pink-gray tissue of {size} cm without a focal lesion.",),
        ),
        microscopy=(
            (
                "Open alveoli with thin, delicate septa.",
                "Preserved alveolar architecture; the septa are thin and carry capillaries.",
            ),
            (
                "Few alveolar macrophages, slight anthracotic pigment.",
                "Small vessels are unremarkable.",
            ),
            ("No granulomas, no atypia, no malignancy.", "No tumor in the planes examined."),
        ),
        conclusion=(("Lung, {site}, {procedure}: lung parenchyma without tumor.",),),
        ages=(40, 75),
    ),
    Diagnosis(
        key="colon_adenocarcinoma",
        organ="Colon",
        line="Adenocarcinoma of the colon, moderately differentiated",
        code="8140/3",
        procedures=("Colonoscopic biopsy", "Segmental resection"),
        sites=_COLON,
        histories=(
            "Stenosing tumor of the {site} at colonoscopy.",
            "Iron deficiency anemia, positive stool test.",
        ),
        gross=(
            ("Received in formalin, {procedure} of the {site}.",),
            (
                "An ulcerated tumor of {size} cm with raised edges that infiltrates the wall.",
                "A polypoid, partly ulcerated mass, {size} cm, firm and white on section.",
            ),
        ),
        microscopy=(
            (
                "Large irregular and cribriform glands infiltrate through the muscle.",
                "Back-to-back glands, in part cribriform, in a desmoplastic stroma.",
            ),
            (
                "The epithelium is tall, with stratified, elongated, hyperchromatic nuclei.",
                "Pencil-shaped nuclei are stratified over the whole height of the epithelium.",
            ),
            (
                "Many lumina are filled with dirty necrosis.",
                "Necrotic debris with nuclear dust lies in the lumina.",
            ),
            ("No vascular invasion is seen.", "Tumor budding {budding} (low)."),
        ),
        conclusion=(
            ("Colon, {site}, {procedure}: adenocarcinoma, G2.",),
            ("Mismatch repair proteins retained.", "Margins free, closest {size} cm."),
        ),
        ages=(48, 85),
    ),
    Diagnosis(
        key="colon_mucinous",
        organ="Colon",
        line="Mucinous adenocarcinoma of the colon",
        code="8480/3",
        procedures=("Right hemicolectomy", "Segmental resection"),
        sites=_COLON,
        histories=("Large mass of the {site} on CT.", "Known mismatch repair deficiency."),
        gross=(
            ("Received fresh, {procedure} with a tumor of the {site}.",),
            (
                "A bulky tumor of {size} cm with a glistening, gelatinous cut surface.",
                "Slimy, translucent tumor, {size} cm, reaching the subserosal fat.",
            ),
        ),
        microscopy=(
            (
                "Lakes of extracellular mucin make up {percent}% of the tumor.",
                "Pools of pale basophilic mucin dissect the muscle.",
            ),
            (
                "Strips and clusters of atypical columnar cells float in the mucin.",
                "Tumor cells line the septa in part and lie free in small groups.",
            ),
            ("Signet ring cells are rare.", "Thin fibrous septa separate the pools."),
        ),
        conclusion=(
            ("Colon, {site}, {procedure}: mucinous adenocarcinoma.",),
            ("Loss of MLH1 and PMS2.", "Mismatch repair proteins retained."),
        ),
        ages=(42, 80),
    ),
    Diagnosis(
        key="colon_normal",
        organ="Colon",
        line="Colonic mucosa without tumor",
        code="",
        procedures=("Colonoscopic biopsy", "Resection margin"),
        sites=_COLON,
        histories=("Surveillance colonoscopy.", "Chronic diarrhea, normal endoscopy."),
        gross=(
            ("Received in formalin, {procedure} of the {site}.",),
            ("Tan mucosal fragments, together {size} cm.", "Smooth mucosa without polyp."),
        ),
        microscopy=(
            (
                "Straight, even crypts with many goblet cells reach the muscularis mucosae.",
                "Regular test-tube crypts rich in goblet cells.",
            ),
            (
                "Nuclei are small, basal and uniform.",
                "No crypt distortion, no cryptitis.",
            ),
            (
                "The lamina propria holds the usual plasma cells and lymphocytes.",
                "No dysplasia and no malignancy.",
            ),
        ),
        conclusion=(("Colon, {site}, {procedure}: mucosa without significant change.",),),
        ages=(35, 76),
    ),
    Diagnosis(
        key="lymphoma",
        organ="Lymph node",
        line="Follicular lymphoma, grade 1-2",
        code="9690/3",
        procedures=("Excisional biopsy",),
        sites=("left axilla", "right groin", "neck, level II", "right axilla"),
        histories=("Painless swelling for {weeks} weeks.", "Generalized lymphadenopathy."),
        gross=(
            ("Received fresh, a lymph node of the {site}.",),
            ("{size} cm, homogeneous, fish-flesh like on section, with some fat.",),
        ),
        microscopy=(
            (
                "The architecture is effaced by crowded follicles without mantle zones.",
                "Closely packed, back-to-back follicles of similar size replace the node.",
            ),
            (
                "Follicles hold small cleaved centrocytes with few centroblasts.",
                "Monotonous centrocytes predominate; no tingible body macrophages.",
            ),
            (
                "Sheets of small round lymphocytes lie between the follicles.",
                "Small lymphocytes extend into the perinodal fat.",
            ),
            ("CD20, CD10, BCL6 and BCL2 positive.", "Ki-67 about {low}% in the follicles."),
        ),
        conclusion=(
            ("Lymph node, {site}, excision: follicular lymphoma, grade 1-2.",),
            ("Staging recommended.", "Correlation with flow cytometry advised."),
        ),
        ages=(50, 80),
    ),
    Diagnosis(
        key="breast_ductal",
        organ="Breast",
        line="Invasive ductal carcinoma of the breast",
        code="8500/3",
        procedures=("Lumpectomy", "Mastectomy"),
        sites=("left breast, upper outer quadrant", "right breast, 2 o'clock", "left breast"),
        histories=("BI-RADS 5 mass, {size} cm.", "Palpable lump in the {site}."),
        gross=(
            ("Received oriented, {procedure}, {site}.",),
            (
                "A stellate, gritty, gray-white mass of {size} cm in yellow fat.",
                "Firm, ill-defined mass, {size} cm, retracting the surrounding fat.",
            ),
        ),
        microscopy=(
            (
                "Cords and small nests of carcinoma cells in dense collagen.",
                "Trabeculae and solid groups of tumor cells infiltrate a desmoplastic stroma.",
            ),
            (
                "Nuclei are enlarged and pleomorphic; tubule formation is scant.",
                "Nuclear grade {grade}, mitoses {mitoses} per 10 HPF.",
            ),
            ("The tumor reaches into adipose tissue.", "Fat at the edge is infiltrated."),
        ),
        conclusion=(
            ("Breast, {site}, {procedure}: invasive carcinoma of no special type, grade {grade}.",),
            ("ER and PR positive, HER2 negative.", "ER positive, PR weak, HER2 0."),
        ),
        ages=(38, 79),
        sex="F",
    ),
)
BY_KEY = {diagnosis.key: diagnosis for diagnosis in DIAGNOSES}
