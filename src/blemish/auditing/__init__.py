"""What a detector looks at: cues in its data and in its decisions that stand for a label."""
