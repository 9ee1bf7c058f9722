"""Locomotion: gymnasium's Hopper and HalfCheetah, in this project's own Python.

tasks.py      the two robots as data, and reference returns     suite.py, simulator.py    what the engine plays
episode.py    seeding, steps, reward                            recording.py              demonstrations as data sets
ars.py        linear policies trained in a minute
"""
