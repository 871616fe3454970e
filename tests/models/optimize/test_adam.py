"""Adam on the features of a tile."""

import torch

from models import resolve_preset
from models.networks.registry import fast_variant
from models.optimize.adam import FeatureOptimizer
from models.optimize.cuda_graphs import CudaGraphCache
from models.planning.memory import MemoryPlan
from tests.models.optimize.helpers import lama, taken, tile


def test_steps_lower_the_loss_and_a_prediction_is_no_step():
    network = fast_variant(lama())
    memory_plan = MemoryPlan(resolve_preset("default", {"iterations": 6, "learning_rate": 0.01}), False)
    optimizer = CudaGraphCache().optimizer(network, *tile(network, 64, 2), memory_plan)
    assert type(optimizer) is FeatureOptimizer
    losses, prediction = taken(optimizer, 5)
    assert losses[-1] < losses[0]
    same, again = optimizer.predict()
    assert torch.allclose(same, prediction, atol=1e-6)
    assert torch.isclose(again, losses[-1], rtol=1e-5)
