"""The report of an evaluation: a folder with `index.html` that needs no network."""
