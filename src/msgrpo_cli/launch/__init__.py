"""From overrides to work: one run, many, one again, a search, the doctor.

Knows overrides, directories and processes. Knows no tensors: what is launched lives in `training` and `evaluation`. May
import `training` and what lies below it; imports torch only inside functions.
"""
