"""Scores become probabilities: one cut-off for relevant or not, and for queries that nothing answers.

Source: Rossi et al., "Relevance Filtering for Embedding-based Retrieval", arXiv 2408.04887, whose map reads the query alone. Here
it reads the list of scores as well, and how much the query resembles those of the fit.
"""
