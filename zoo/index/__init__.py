"""Search the rows of a user: an index on disk, built with any encoder, with filters, additions and removals.

`zoo.Index` is the whole of it for users; `zoo.index.index` defines it. A folder of an index is described in `folder`.
"""
