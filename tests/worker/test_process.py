"""What a worker decides by its settings."""

import pytest

from worker.process import NoNetwork, served


def test_a_worker_takes_the_networks_that_it_may_and_has():
    assert served({"auto", "builtin"}, ()) == ["auto", "builtin"]
    assert served({"auto", "builtin"}, ("builtin", "big-lama")) == ["builtin"]
    with pytest.raises(NoNetwork, match="add one of auto, builtin, or fetch Big-LaMa's weights with"):
        served({"auto", "builtin"}, ("big-lama",))
