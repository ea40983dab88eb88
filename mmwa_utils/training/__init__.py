"""Training: what a run is, how it is trained, measured and stored."""

from mmwa_utils.evaluation.metrics import compute_metrics, trivial_logits
from mmwa_utils.training.config import AlignmentConfig, ConfigError, RunConfig, TrainingError
from mmwa_utils.training.data import RunData, open_data
from mmwa_utils.training.run import load_model, train
from mmwa_utils.training.store import Predictions, Run, RunStore
from mmwa_utils.training.study import PAPER_ALPHAS, PAPER_BETAS, PAPER_LEARNING_RATES
