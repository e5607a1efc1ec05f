"""The paper's data sets, from the files that their publishers give out."""
