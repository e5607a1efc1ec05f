"""For tests of what a training does, not of what its detector finds: few draws of labelled and other anomalies."""

from blemish.training.config import DefectBranchConfig

FEW_DRAWS = DefectBranchConfig(nominal_copies=8, labelled_images=8, outlier_images=8, synthetic_images=8)
