"""Every test process: one thread, Ctrl-C as in a terminal, no display, no hub, and Hypothesis without deadlines."""

import os
import signal

# A shell that starts a command in the background has it ignore Ctrl-C, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports torch or numpy. Two workers with one thread each keep two cores busy and sums reproducible.
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    WANDB_MODE="disabled",
)

from hypothesis import HealthCheck, settings

QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("dev", deadline=None, max_examples=30, suppress_health_check=QUIET, print_blob=True)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=1000)
settings.load_profile(os.environ.get("EAVIT_HYPOTHESIS", "ci" if os.environ.get("CI") else "dev"))
