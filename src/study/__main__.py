"""`python -m study VERB ...`; the verbs stand in `study.verbs`."""

import sys

from study import warm

if __name__ == "__main__":
    sys.exit(warm.run("study.verbs", sys.argv[1:]))
