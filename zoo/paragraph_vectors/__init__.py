"""Paragraph vectors (PV-DBOW, PV-DM) and joint word vectors: one trainer that several families share."""
