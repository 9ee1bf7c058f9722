"""Scripted experts for LIBERO: they read the simulator's own state, and plan grasps, moves and fixtures for a task."""
