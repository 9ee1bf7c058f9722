"""LeRobot's format v3.0: writing it, labelling it, converting to it."""
