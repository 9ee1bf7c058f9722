"""The unified action and state spaces every embodiment is written into (LatBot, supplement 6.1).

Action, 44 dimensions, changes per step: 0-6 left arm (dx dy dz in metres, d-roll d-pitch d-yaw in radians,
gripper 0 closed .. 1 open, absolute), 7-13 right arm, 14-43 changes of ten fingertip positions (m).
State, 46 dimensions: 0-7 left arm (xyz in metres, quaternion xyzw, gripper 0..1), 8-15 right arm,
16-45 ten fingertip positions (m). A mask beside each says which dimensions an embodiment has.
A single-arm robot fills the left side.
"""

ACTION_DIM = 44
STATE_DIM = 46

LEFT_TRANSLATION = slice(0, 3)
LEFT_ROTATION = slice(3, 6)
LEFT_GRIPPER = 6
STATE_LEFT_POSITION = slice(0, 3)
STATE_LEFT_QUATERNION = slice(3, 7)
STATE_LEFT_GRIPPER = 7

# Normalisation leaves these as they are: they are already 0 (closed) to 1 (open).
ACTION_GRIPPER_DIMS = (6, 13)
STATE_GRIPPER_DIMS = (7, 15)
