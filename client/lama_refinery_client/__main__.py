"""`python -m lama_refinery_client`: the same as `lama-refinery`."""

import sys

from lama_refinery_client.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
