"""Services that cl-ml-serve is compared with, each a program: ``python -m benchmarks.peers.NAME``.

They are written as their own documentation has it, and know nothing of this project: what they are
told is a port and the files of two models.
"""
