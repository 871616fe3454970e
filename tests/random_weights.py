"""Networks of random weights whose BatchNorms have something to fold. Needs torch alone, as a lent GPU may too."""


def with_statistics(network, spread):
    """`network` with running means and BatchNorm biases within `spread`, and variances within a half of 1."""
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif key.endswith("running_mean") or ("bn" in key and key.endswith("bias")):
            value.uniform_(-spread, spread)
    return network
