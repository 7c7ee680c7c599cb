"""Convolutions of our own for CPUs, in C++, compiled for the CPU at hand the first time that they are needed.

XLA's CPU convolutions take two to four times as long. Where there is no C++ compiler they are used all the
same: results are equal up to rounding. GPUs have nothing to do with this package.
"""
