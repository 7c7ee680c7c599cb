"""C++ convolutions for CPUs, compiled for this machine's CPU when a command starts.

XLA's CPU convolutions take two to four times as long. They are used if there is no C++ compiler; results are
equal up to rounding. GPUs do not use this package.
"""
