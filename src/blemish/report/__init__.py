"""Pages to look at: an evaluation, an audit, a model card."""
