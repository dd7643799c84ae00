"""`zoo verify`: say whether a server or a conversion of a model gives the same space, and what is wrong if it does not."""
