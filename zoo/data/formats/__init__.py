"""File formats: each module reads one kind of file as rows. `tabular` chooses the module by the name of the file."""
