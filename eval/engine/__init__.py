"""The rollout engine: suites played in simulators' own processes, against one driver that answers for all of them.

config.py    how a run is carried out        drivers.py, server_driver.py    what acts; ensembling.py averages chunks
engine.py    the loop, read from its top     rows.py, store.py               what is kept of an episode
workers.py   a thread a process              films.py, progress.py           what people look at
process.py   starting, asking, killing       child.py, channel.py            the simulator's side, and the wire
"""
