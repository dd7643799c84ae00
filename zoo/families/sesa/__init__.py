"""SESA: texts compared in a space whose dimensions are the concepts of a knowledge base, with an explanation for every score."""
