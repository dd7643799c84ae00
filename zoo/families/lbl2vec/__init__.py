"""Lbl2Vec: documents by topic from a few keywords a topic, without one labelled document."""
