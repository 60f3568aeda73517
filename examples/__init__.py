"""Examples to start from, each one file.

They run on one core. On a CPU jaxlib's batched Cholesky hands its work to a pool of as many threads
as there are cores, and waits on one of them: where that many wait at once, they wait forever.
"""

import os

os.environ["NPROC"] = "1"  # read when JAX starts
