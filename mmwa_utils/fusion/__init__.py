"""Early and late fusion transformers with one call signature: `build_model(...)(batch.modalities) -> FusionOutput`."""

from mmwa_utils.fusion.base import FusionModel, n_outputs
from mmwa_utils.fusion.config import EncoderName, FusionName, ModelConfig
from mmwa_utils.fusion.early import EarlyFusion
from mmwa_utils.fusion.factory import build_model
from mmwa_utils.fusion.late import LateFusion
from mmwa_utils.fusion.output import FusionOutput
