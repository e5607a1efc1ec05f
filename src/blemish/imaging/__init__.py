"""How files and arrays become images and masks: what counts as one, which depth its values have, how it is read."""
