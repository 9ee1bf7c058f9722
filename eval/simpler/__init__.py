"""SIMPLER (arXiv:2405.05941): two robots, eight tasks, visual matching and variant aggregation, as suites.

settings.py   what a cell of a grid is        google.py, widowx.py   the grids, as data
suite.py      protocols and cases             simulator.py           the simulator's side: ManiSkill2_real2sim
actions.py    a policy's action -> controller's   poses.py           quaternions wxyz, poses in the base frame
renderer.py   drawing on a CPU                assets.py, install.py  meshes and pictures; the environment
"""
