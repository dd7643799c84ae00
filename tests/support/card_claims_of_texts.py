"""The conditional statements of further cards, in the form of `card_claims`."""
# ruff: noqa: E501

from __future__ import annotations

from card_claims import NO_BASELINE, OPAQUE, Claim, with_facts, with_picture

TOPIC = {"label": "sport", "keywords": ["ball", "gaol"], "documents": 7, "missing": {"gaol": ["goal", "coal"]}}
SCRATCH = {"spec": {"backbone": None}}
TWO_D_MSE = {"facts": {"objective": "2dmse"}, "spec": {"objective": "2dmse"}}
CUT = with_facts(layers=6, dims=[4, 8])

LBL2VEC = [
    Claim("lbl2vec", ("| Dimensions | 5 |",), with_facts(dim=5), {}),
    Claim(
        "lbl2vec",
        ("and was not trained further: its topics were placed with 15,000 rows of rows.",),
        {},
        SCRATCH | {"lock": {"backbone": None}},
    ),
    Claim("lbl2vec", ("It was trained on 15,000 rows of rows.",), SCRATCH | {"lock": {"backbone": None}}, {}),
    Claim(
        "lbl2vec",
        ("the folder is also a plain sentence-transformers model; the topics' vectors stand in `topics.safetensors`:",),
        {},
        {"standalone": False},
    ),
    Claim(
        "lbl2vec",
        ('"Before training" is the sentence encoder alone, for which a topic is no more than its name.',),
        {},
        NO_BASELINE,
    ),
    Claim("lbl2vec", (", without the outliers among them,",), {}, {"spec": {"clean_outliers": False}}),
    Claim("lbl2vec", ("and the keywords themselves point together, after",), {}, {"spec": {"keyword_weight": 0}}),
    Claim("lbl2vec", (", without the outliers among them, point, after",), {"spec": {"keyword_weight": 0}}, {}),
    Claim(
        "lbl2vec",
        ("; 7 documents; 1 of 2 keywords known, without gaol (did you mean goal or coal?)",),
        with_facts(topics=[TOPIC], words=100),
        with_facts(topics=[TOPIC]),
    ),
    Claim(
        "lbl2vec",
        ("![Documents near one another, and where the topics are among them](",),
        with_picture("topics"),
        {},
    ),
    Claim("lbl2vec", ("A document of no topic still gets one.",), {}, {"spec": {"reject_below": 0.5}}),
    Claim("lbl2vec", ("| Topics | 1 |",), with_facts(topics=[TOPIC]), {}),
]

MATRYOSHKA_2D = [
    Claim("matryoshka-2d", ("| Layers | any number from 1 to 6 |",), CUT, {}),
    Claim("matryoshka-2d", ("| Dimensions trained for | 4, 8 |",), CUT, {}),
    Claim("matryoshka-2d", ("| Dimensions | 8 |",), with_facts(dim=8), CUT),
    Claim(
        "matryoshka-2d",
        ("| Parameters | 30 (6 layers) to 10 (1 layer) |",),
        with_facts(parameters={"1": 10, "6": 30}),
        {},
    ),
    Claim(
        "matryoshka-2d",
        (
            "| Before a query | `query:` |",
            "Its backbone has a prompt before query, which training on scored pairs did not use. "
            "Say which of them a text is, and it is put there.",
            "With sentence-transformers these are `model.encode_query` and `model.encode_document`.",
        ),
        {},
        with_facts(prompts={}),
    ),
    Claim(
        "matryoshka-2d",
        ("It was trained with a prompt before query and document: say which of them a text is, and it is put there.",),
        {"spec": {"loss": "contrastive"}} | with_facts(prompts={"query": "q", "document": "d"}),
        {},
    ),
    Claim("matryoshka-2d", ("which training on scored pairs did not use",), {}, {"spec": {"loss": "contrastive"}}),
    Claim(
        "matryoshka-2d",
        (
            "A cut shares its tensors with the whole model and gives vectors of unit length:",
            "To ship one cut alone, as a folder that plain sentence-transformers opens, with the layers and dimensions beyond it gone:",
        ),
        CUT,
        {},
    ),
    Claim(
        "matryoshka-2d",
        (
            '"Before training" is the backbone cut in the same way, so the difference is what training added to that cut.',
            "In a grid the score before training stands in brackets.",
        ),
        {},
        NO_BASELINE,
    ),
    Claim(
        "matryoshka-2d",
        (
            "Every layer has a linear head. Before training, the heads are fitted in closed form (ridge regression) to the "
            "embedding of the untrained full depth, turned so that its first components carry the most.",
            "Each step then trains the whole model and its cuts with the same sentence loss and draws the shallow vectors towards "
            "those of the full depth, after Li et al. (see Citation).",
        ),
        {},
        TWO_D_MSE,
    ),
    Claim(
        "matryoshka-2d",
        ("Each step trains the whole model and its cuts with the same sentence loss, and",),
        TWO_D_MSE,
        {},
    ),
    Claim(
        "matryoshka-2d",
        (", and draws the shallow vectors towards those of the full depth, after Li et al. (see Citation).",),
        TWO_D_MSE,
        {"facts": {"objective": "2dmse"}, "spec": {"objective": "2dmse", "align": 0}},
    ),
]

EXAMPLE = {"a": "x", "b": "y", "score": 0.5, "parts": [{"name": "c", "share": 0.25}]}
RANKED = [{"name": "c", "precision": 0.5, "texts": 4}]

SESA = [
    Claim(
        "sesa", ("in a space whose dimensions have no meaning, as a baseline of one with named concepts.",), OPAQUE, {}
    ),
    Claim(
        "sesa",
        (
            "This model compares texts in a space whose dimensions are named concepts. Every score comes with its explanation.",
            "| Concepts | 9 |",
            "| Largest number of active concepts in a text | 3 |",
            "Show why two texts score as they do, list the concepts of a text, and remove a concept from every score:",
            "A component is the evidence for a concept in the text, beyond that in an average text.",
            "A parent concept is never less active than its children.",
            "Check which concepts are unreliable before you use an explanation for a decision.",
        ),
        {},
        OPAQUE,
    ),
    Claim(
        "sesa",
        (
            "| Dimensions | 9 |",
            "| Largest number of active dimensions in a text | 3 |",
            "Two towers and a linear map were trained by the ranking of pairs alone. The components have no meaning.",
        ),
        OPAQUE,
        {},
    ),
    Claim("sesa", ("The trained backbone is also a plain",), {}, {"spec": {"backbone_lr_scale": 0}}),
    Claim("sesa", ("The backbone, which was not trained, is also a plain",), {"spec": {"backbone_lr_scale": 0}}, {}),
    Claim("sesa", ("is also a plain sentence-transformers model, without the concepts.",), {}, {"standalone": False}),
    Claim("sesa", ('"Before training" is the sentence encoder alone.',), {}, NO_BASELINE),
    Claim(
        "sesa",
        ("The ranking of pairs alone trained towers and concepts (see Citation).",),
        {"spec": {"supervision": 0}},
        {},
    ),
    Claim(
        "sesa",
        (
            "Two objectives trained towers and concepts together: the ranking of pairs, and the concepts that texts are tagged with",
            "A text without tags counts for the ranking alone.",
        ),
        {},
        {"spec": {"supervision": 0}},
    ),
    Claim(
        "sesa",
        ("of pairs, and the names of the concepts (see Citation).",),
        with_facts(bare_count=9),
        with_facts(bare_count=8),
    ),
    Claim(
        "sesa",
        (
            "These are held-out pairs, from the best score to a median one.",
            "Each lists the concepts with the largest contributions and their share of the score.",
        ),
        with_facts(examples=[EXAMPLE]),
        {},
    ),
    Claim(
        "sesa",
        (
            "Precision is the share of texts that are tagged with a concept, among the held-out texts in which it is the likeliest "
            "of its level.",
            "| Most reliable | Precision | Texts |",
            "- Precision is measured against tags, and tags rarely cover everything that a text is about.",
        ),
        with_facts(reliable=RANKED),
        {},
    ),
    Claim(
        "sesa",
        ("| Least reliable | Precision | Texts |",),
        with_facts(reliable=RANKED, unreliable=RANKED),
        with_facts(reliable=RANKED),
    ),
    Claim("sesa", ("![Mean score by the number of deleted concepts](",), with_picture("deletion"), {}),
    Claim(
        "sesa",
        (
            "Deleting the leading concepts lowers the score more than deleting as many random active ones in 25.0 % of 8 "
            "held-out pairs.",
        ),
        with_facts(deleted_more=0.25, pairs=8) | with_picture("deletion"),
        with_picture("deletion"),
    ),
    Claim(
        "sesa",
        (
            "The opaque baseline has the same towers and as many components, and was trained on the same pairs for as long, "
            "without concepts.",
            "These scores measure how well held-out texts retrieve their pairs among all held-out texts:",
            "| Space | nDCG at ten | MAP | AUC |",
        ),
        with_facts(ranking={"concepts": [0.5, 0.5, 0.5], "opaque": [0.5, 0.5, 0.5]}),
        with_facts(ranking={"concepts": [0.5, 0.5, 0.5]}),
    ),
    Claim(
        "sesa",
        ("- No training text was tagged with 2 of the concepts. The model knows only their names: c and others.",),
        with_facts(bare=["c"], bare_count=2),
        {},
    ),
]

STATIC = [
    Claim("static", ("| Dimensions trained for | 4, 8 |",), with_facts(dims=[4, 8]), {}),
    Claim("static", ("| Dimensions | 8 |", "| Tokens | 99 |"), with_facts(dim=8, tokens=99), with_facts(dims=[4, 8])),
    Claim(
        "static",
        (
            "A view keeps the first components, and gives vectors of unit length:",
            "To ship one view alone, as a folder that plain sentence-transformers opens, with the components beyond it gone:",
        ),
        {"results": [{"task": "t", "view": {}}, {"task": "t", "view": {"dim": 2}}]},
        {},
    ),
    Claim(
        "static",
        ('"Before training" is the distilled model as it was before it saw the training data.',),
        {},
        NO_BASELINE,
    ),
    Claim(
        "static",
        ("and multiplied by a weight that falls with the token's frequency (SIF), as in the software under Citation.",),
        {},
        {"spec": {"sif_coefficient": None}},
    ),
    Claim(
        "static",
        ("with equal weights for all tokens, after the software under Citation.",),
        {"spec": {"sif_coefficient": None}},
        {},
    ),
    Claim(
        "static",
        (
            "They are then fitted, by ridge regression, to the backbone's own vectors of 9 training texts at most.",
            "At last an in-batch contrastive loss trains them.",
        ),
        with_facts(regression_texts=9),
        with_facts(regression_texts=0),
    ),
    Claim("static", ("Then an in-batch contrastive loss trains them.",), {}, with_facts(regression_texts=9)),
]

VLM2VEC = [
    Claim(
        "vlm2vec",
        ("| Backbone | a small idefics3, trained from scratch |",),
        with_facts(architecture="idefics3"),
        {"spec": {"backbone": {"model": "me/vlm"}}, "facts": {"architecture": "idefics3"}},
    ),
    Claim("vlm2vec", ("| Dimensions | 8 |", "| Parameters | 99 |"), with_facts(dim=8, parameters_total=99), {}),
    Claim("vlm2vec", ("| Instruction of a query | `Find:` |",), with_facts(instructions={"query": "Find:"}), {}),
    Claim(
        "vlm2vec",
        ("The folder is also a plain sentence-transformers model, without zoo and without custom code:",),
        {},
        {"standalone": False},
    ),
    Claim("vlm2vec", ("; its processor needs torchvision",), with_facts(stock_needs="torchvision"), {}),
    Claim(
        "vlm2vec",
        (
            "It needs peft, and downloads its backbone. To open a copy on your disk, give the path of its folder `adapter`",
            "Training changed a LoRA adapter and no other weights; this folder holds the adapter without its backbone.",
        ),
        with_facts(adapter="adapter"),
        with_facts(adapter="merged"),
    ),
    Claim("vlm2vec", ("Training changed a LoRA adapter and no other weights.",), with_facts(adapter="merged"), {}),
    Claim(
        "vlm2vec",
        (
            "![Queries and what was retrieved for them](",
            "A few queries, evenly spread over the test set and not selected by hand, each with its best candidates.",
            "A frame marks the right ones.",
        ),
        with_picture("retrieved"),
        {},
    ),
    Claim(
        "vlm2vec",
        (
            "The share of queries whose right candidate scores above all other candidates of the query; a tie is a miss.",
            "Mean over data sets.",
        ),
        {"report": {"averages": {"all": 0.5}}},
        {},
    ),
]
