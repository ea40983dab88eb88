"""Noise and missing modalities, on a sample's raw data, seeded by sample."""

from mmwa_utils.corruption.missing import LossySplit, Representation, choose_missing, lose
from mmwa_utils.corruption.noise import NoiseMode, add_noise
