"""What people look at: a data set, an episode, a mixture."""
