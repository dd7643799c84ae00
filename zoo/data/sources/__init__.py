"""Where rows come from: a file, the Hub, or a builtin data set."""
