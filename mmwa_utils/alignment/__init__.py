"""Losses that align the tokens of different modalities: the Wasserstein alignment and its rivals, one call for all.

result = build_alignment("wasserstein", epsilon=0.1)(output.tokens)
(task_loss + weight * result.loss).backward()
"""

from mmwa_utils.alignment.base import Alignment, AlignmentResult, PairResult
from mmwa_utils.alignment.dropout import ModalityDropout
from mmwa_utils.alignment.gromov import GromovWasserstein
from mmwa_utils.alignment.qformer import QFormerAlignment
from mmwa_utils.alignment.registry import AlignmentName, PaperSetting, alignment_parameters, build_alignment, from_paper
from mmwa_utils.alignment.rivals import CORAL, MMD, Contrastive, MeanDistance, NoAlignment
from mmwa_utils.alignment.wasserstein import WassersteinAlignment, token_cost
