"""Static embeddings: token vectors distilled from a sentence encoder; a text is the mean of its tokens, without a network."""
