"""Binary paragraph vectors: short codes of documents, learned from raw text alone and compared by Hamming distance."""
