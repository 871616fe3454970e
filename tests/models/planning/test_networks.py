"""What planning knows of the networks is what they say themselves."""

import pytest
import torch

from models.networks.lama.bf16 import TritonLama
from models.networks.lama.folded import FoldedLama
from models.networks.lama.model import Lama, LamaConfig
from models.networks.migan import Migan
from models.planning.networks import BIG_LAMA_FACTS, FACTS, MIGAN_FACTS, NETWORKS
from models.weights.places import BUILTIN


def test_every_choice_but_auto_has_its_facts():
    assert set(NETWORKS) == {"auto", *FACTS}
    assert BUILTIN.exists()


@pytest.mark.parametrize(
    ("facts", "network"), [(BIG_LAMA_FACTS, lambda: Lama(LamaConfig(64, 3, 18, 384))), (MIGAN_FACTS, Migan)]
)
def test_they_are_the_networks_own(facts, network):
    with torch.device("meta"):
        made = network()
    assert (made.name, made.stride, made.native_size) == (facts.name, facts.stride, facts.native_size)
    assert made.bytes_per_pixel == facts.plain


def test_they_know_the_variants():
    assert (FoldedLama.bytes_per_pixel, TritonLama.bytes_per_pixel) == (BIG_LAMA_FACTS.fast, BIG_LAMA_FACTS.bf16)
    assert MIGAN_FACTS.plain == MIGAN_FACTS.fast == MIGAN_FACTS.bf16, "it has no other"
