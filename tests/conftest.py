"""Settings that every test shares."""

import os

from hypothesis import settings

# Tiny tensors: a second thread costs more than it computes. Read by torch when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Triton's kernels run as Python, one program after the other. Read when Triton is imported, which transformers may do.
os.environ.setdefault("TRITON_INTERPRET", "1")

# No test times a threshold; the same examples run everywhere, so a failure is anyone's to repeat.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("project")
