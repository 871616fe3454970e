"""The loss of refinement by its definition."""

import torch

from models.optimize.loss import RefinementLoss
from tests.models.optimize.helpers import lama, tile


def test_a_picture_that_agrees_with_nothing_has_a_loss_and_without_weights_there_is_none():
    _, loss = tile(lama(), 64, 2)
    assert loss(loss.picture) > 0
    nowhere = torch.zeros(1, 1, 32, 32)
    blind = RefinementLoss.from_masks(
        loss.picture, torch.ones(1, 1, 64, 64), loss.guide, nowhere, (64, 64), known_loss=True
    )
    assert blind(torch.rand(1, 3, 64, 64)) == 0


def test_an_owned_loss_shares_no_window_and_is_the_same():
    _, loss = tile(lama(), 64, 2)
    owned, prediction = loss.owned(), torch.rand(1, 3, 64, 64)
    assert owned(prediction) == loss(prediction)
    before = loss.picture.clone(), loss.guide.clone()
    for tensor in owned.tensors():
        tensor.zero_()
    assert torch.equal(loss.picture, before[0])
    assert torch.equal(loss.guide, before[1])
