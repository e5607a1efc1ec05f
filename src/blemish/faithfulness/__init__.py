"""Does the heatmap show what the score depends on? Measured beside attribution methods for the same score.

`measures` and `inpainting` say what is measured, `study` measures it on images. `attribution` and `differentiable` make
the other heatmaps; they need torch and Captum, and nothing else here does.
"""
