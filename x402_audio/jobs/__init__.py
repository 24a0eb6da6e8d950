"""A job's life: gate, buy, poll, download, complete; every step can be taken again after a crash. Knows no seller by name."""
