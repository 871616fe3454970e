"""Mutation testing: does the suite notice small bugs? `make mutants` runs it, see `tests.mutants.__main__`."""
