"""Reading what belongs to an image: its mask, in a file of its own or in an annotation file."""
