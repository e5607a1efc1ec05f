"""Does the heatmap show what the score hangs on? Measured, beside heatmaps of the same score made in other ways.

`measures` and `inpainting` say what is measured, `study` measures it on images, `references` makes the other heatmaps
(it needs torch and Captum; nothing else here does).
"""
