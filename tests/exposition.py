"""Reading what /metrics says."""

from prometheus_client.parser import text_string_to_metric_families


def families(text):
    """name → family, of all metrics; a counter's name is without `_total`."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(text, name, **labels):
    """The value of one sample, None when it is not there."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def names(text):
    """The names of all samples there can be; histograms' and counters' before anything was counted too."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}
    return {
        family.name + suffix
        for family in text_string_to_metric_families(text)
        for suffix in suffixes.get(family.type, ("",))
    }
