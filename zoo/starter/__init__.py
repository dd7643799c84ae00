"""`zoo init`: look at data, and write a commented recipe that trains on it."""
