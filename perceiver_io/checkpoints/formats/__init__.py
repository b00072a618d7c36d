"""Files of weights, to and from arrays. No file is trusted, and nothing in one is ever run."""
