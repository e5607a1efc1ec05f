"""Files, storage, text and arguments: what all other packages need of the world outside."""
