"""Floor 4: the student's objectives of stage 2."""
