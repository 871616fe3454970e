"""The routes about the service itself: health, limits, metrics, networks, version, its document and its page."""
