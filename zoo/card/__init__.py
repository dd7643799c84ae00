"""The model card: the record of a run, its tables, pictures and front matter."""
