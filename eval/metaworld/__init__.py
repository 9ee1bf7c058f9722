"""Meta-World: fifty tasks of one arm over a table, in this project's own Python.

tasks.py      the tasks in words, and their subsets      suite.py, simulator.py    what the engine plays
episode.py    seeding, steps, snapshots                  behaviours.py             ways of acting
renderer.py   fast pictures                              recording.py              demonstrations as a data set
"""
