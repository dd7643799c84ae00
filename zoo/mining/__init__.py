"""Hard-negative mining: the texts of a corpus that an encoder takes for answers, but that are none as far as is known.

Nothing here knows recipes or encoders: texts, vectors and functions come in, and texts and counts go out.
"""
