"""JPEG: what a file declares, its metadata and segments, and the transplant of blocks of coefficients."""
