"""The commands of `msgrpo --help`, one module for each: where X starts is said in X.py.

Knows the arguments of commands and how their results are printed. Knows nothing about how the work is done. May import
every package; nothing heavy at the top: the work is imported inside the commands.
"""
