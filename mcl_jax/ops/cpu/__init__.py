"""Convolutions for CPUs in C++, compiled for the CPU at hand at the start of a command.

XLA's CPU convolutions take two to four times as long. Where there is no C++ compiler they are used all the
same: results are equal up to rounding. GPUs have nothing to do with this package.
"""
