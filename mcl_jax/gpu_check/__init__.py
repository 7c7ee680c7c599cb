"""Compiles the programs of a run for a GPU that is not there, and counts their work.

cards      the GPUs, and their data sheets
programs   training step and embedding of a config, as they run
compiling  XLA's GPU compiler on a machine without a GPU
counting   kernels, bytes and collectives of a compiled program
report     whether it fits, and the least time
child      a process for each program, as the compiler may abort
"""
