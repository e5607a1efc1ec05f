"""The experiments of the FCDD paper, rerun: recipes, data, runner, tables."""
