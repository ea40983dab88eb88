"""Entropic optimal transport for thousands of small problems at once: batched, masked, with exact gradients.

    cost = cosine_cost(text, image, mask_x=text_mask, mask_y=image_mask)
    result = sinkhorn(cost, epsilon=0.1, mask_x=text_mask, mask_y=image_mask)
    result.value.mean().backward()

The convention is `min <P, C> + epsilon KL(P | a b^T)`; see `sinkhorn`.
"""

from . import reference
from ._autograd import ConvergenceWarning
from ._solver import DivergenceResult, SinkhornResult, sinkhorn, sinkhorn_divergence
from ._unbalanced import UnbalancedResult, sinkhorn_unbalanced
from .costs import cosine_cost, sqeuclidean_cost
