"""The command line.

Knows what may be typed and what is printed: arguments, options, completion, tables, exit codes. `commands/` holds one
module for each command of `msgrpo --help`; its one import below the signature names the room that does the work. Knows
nothing about how any work is done. May import every other package; nothing imports it.
"""
