"""Compiles the programs of a run for a GPU that is not present, and counts their work.

cards      the GPUs, and their data sheets
programs   training step and embedding of a config
compiling  XLA's GPU compiler on a machine without a GPU
counting   kernels, bytes and collectives of a compiled program
estimate   whether a program fits a card, and its minimum time
child      a process for each program, as the compiler may abort
"""
